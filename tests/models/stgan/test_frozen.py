import hashlib

import pytest
import torch

from common import checkpoint
from common.cli import UserError
from models.conditions import own, targets
from models.stgan.network import Generator
from models.translators import load_translator

NAMES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]


def network(c_dim=5):
    torch.manual_seed(1)
    return Generator(8, c_dim, 3)


def saved(path, net, meta=None):
    checkpoint.save_weights(
        path, net.state_dict(), meta or {"kind": "stgan-generator", "attributes": NAMES, "image_size": 32}
    )
    return path


def test_ours_is_the_same_function_and_is_asked_with_differences(tmp_path, faces):
    net, (x, c) = network(), faces(3)
    path = saved(tmp_path / "weights.safetensors", net)
    translator = load_translator(path, c_dim=5, gan_type="stgan")
    assert (
        translator.options == {"conv_dim": 8, "c_dim": 5, "num_layers": 3} and translator.size_multiple == 8
    )
    assert (translator.attributes, translator.image_size) == (NAMES, 32)
    assert translator.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.equal(own(translator, c), torch.zeros_like(c))
    asked = targets(translator, c, NAMES)
    assert asked.shape == (5, 3, 5) and set(asked.unique().tolist()) == {-1, 0, 1}
    # sex alone is flipped
    assert torch.equal(asked[3], torch.stack([torch.zeros(3)] * 3 + [1 - 2 * c[:, 3], torch.zeros(3)], 1))
    assert torch.equal(translator(x, asked[3]), net(x, asked[3]))
    assert not any(p.requires_grad for p in translator.parameters())


def test_the_last_state_of_a_training(tmp_path, faces):
    net, (x, c) = network(), faces(2)
    checkpoint.save_state(tmp_path / "last.pt", 3, {}, generator=net)
    assert torch.equal(load_translator(tmp_path / "last.pt", gan_type="stgan")(x, c), net(x, c))


def test_wrong_files_are_one_line(tmp_path):
    state = network().state_dict()
    del state["decoder.1.0.weight"]
    torch.save(state, tmp_path / "short.pt")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    for path, words in (
        (tmp_path / "short.pt", "1 tensors differ, first decoder.1.0.weight"),
        (tmp_path / "other.pt", "keys like weight, bias"),
        (tmp_path / "none.pt", "no such weight file"),
    ):
        with pytest.raises(UserError, match=words) as e:
            load_translator(path, gan_type="stgan")
        assert str(path) in str(e.value) and "\n" not in str(e.value)
    with pytest.raises(UserError, match="knows 5 attributes, --selected_attrs names 4"):
        load_translator(saved(tmp_path / "w.safetensors", network()), c_dim=4, gan_type="stgan")
