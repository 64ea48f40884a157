import hashlib

import pytest
import torch

from common import checkpoint
from common.cli import UserError
from models.stargan.network import Discriminator, Generator
from models.translators import load_translator


def network(c_dim=5):
    torch.manual_seed(1)
    return Generator(conv_dim=8, c_dim=c_dim, repeat_num=2)


def official(net, batches_tracked):
    """The layout of the official files: running statistics that the published code never uses, and counters
    in newer ones."""
    state = {}
    for key, value in net.state_dict().items():
        state[key] = value
        if key.endswith(".bias"):
            base = key.removesuffix("bias")
            state[base + "running_mean"], state[base + "running_var"] = (
                torch.full_like(value, 3.0),
                torch.full_like(value, 0.2),
            )
            if batches_tracked:
                state[base + "num_batches_tracked"] = torch.tensor(200000)
    return state


@pytest.mark.parametrize("batches_tracked", [True, False])
def test_an_official_checkpoint_is_the_same_function(tmp_path, faces, batches_tracked):
    net, (x, c) = network(), faces(3)
    torch.save(official(net, batches_tracked), tmp_path / "200000-G.ckpt")
    translator = load_translator(tmp_path / "200000-G.ckpt", c_dim=5)
    for mode in (translator, translator.train()):
        torch.testing.assert_close(mode(x, c), net(x, c), rtol=0, atol=1e-5)
    assert (translator.c_dim, translator.network.conv_dim, translator.network.repeat_num) == (5, 8, 2)
    assert translator.attributes is None and translator.image_size is None
    assert translator.sha256 == hashlib.sha256((tmp_path / "200000-G.ckpt").read_bytes()).hexdigest()


def test_ours_with_its_metadata(tmp_path, faces):
    net, (x, c) = network(), faces(3)
    meta = {"kind": "stargan-generator", "attributes": ["A", "B", "C", "D", "E"], "image_size": 32}
    checkpoint.save_weights(tmp_path / "weights.safetensors", net.state_dict(), meta)
    translator = load_translator(tmp_path / "weights.safetensors")
    torch.testing.assert_close(translator(x, c), net(x, c), rtol=0, atol=1e-5)
    assert translator.attributes == ["A", "B", "C", "D", "E"] and translator.image_size == 32
    checkpoint.save_weights(tmp_path / "half.safetensors", net.state_dict(), meta, half=True)
    assert float((load_translator(tmp_path / "half.safetensors")(x, c) - net(x, c)).abs().max()) < 0.02


def test_a_file_tells_how_the_generator_enlarges(tmp_path, faces):
    x, c = faces(2)
    for repeat_num in (0, 2):
        net = Generator(8, 5, repeat_num, "resize")
        checkpoint.save_weights(tmp_path / "w.safetensors", net.state_dict(), {"kind": "stargan-generator"})
        translator = load_translator(tmp_path / "w.safetensors")
        assert translator.options == {
            "conv_dim": 8,
            "c_dim": 5,
            "repeat_num": repeat_num,
            "upsampling": "resize",
        }
        torch.testing.assert_close(translator(x, c), net(x, c), rtol=0, atol=1e-5)


def test_the_last_state_of_a_training(tmp_path, faces):
    net, (x, c) = network(), faces(2)
    checkpoint.save_state(
        tmp_path / "last.pt", 3, {}, generator=net, discriminator=Discriminator(32, 4, 5, 3)
    )
    torch.testing.assert_close(load_translator(tmp_path / "last.pt")(x, c), net(x, c), rtol=0, atol=1e-5)


def test_it_is_frozen(tmp_path):
    torch.save(network().state_dict(), tmp_path / "g.ckpt")
    translator = load_translator(tmp_path / "g.ckpt")
    assert not any(p.requires_grad for p in translator.parameters()) and not translator.network.training


def write(tmp_path, value, name="g.ckpt"):
    torch.save(value, tmp_path / name)
    return tmp_path / name


def refused(path, **kwargs):
    with pytest.raises(UserError) as e:
        load_translator(path, **kwargs)
    assert str(path) in str(e.value) and "\n" not in str(e.value)
    return str(e.value)


def test_another_number_of_attributes_names_the_flag(tmp_path):
    message = refused(write(tmp_path, network(3).state_dict()), c_dim=5)
    assert "knows 3 attributes, --selected_attrs names 5" in message


def test_a_discriminator_is_named(tmp_path):
    assert "a StarGAN discriminator" in refused(write(tmp_path, Discriminator(32, 4, 5, 3).state_dict()))


def test_other_networks(tmp_path):
    assert "keys like weight, bias" in refused(write(tmp_path, torch.nn.Linear(2, 2).state_dict()))
    state = network().state_dict()
    del state["main.9.main.3.weight"]
    assert "1 tensors differ, first main.9.main.3.weight" in refused(write(tmp_path, state))
    state = network().state_dict()
    state["main.9.main.1.bias"] = torch.zeros(3)
    assert "first main.9.main.1.bias" in refused(write(tmp_path, state))
    assert "residual blocks" in refused(
        write(tmp_path, {"main.0.weight": torch.zeros(4, 3, 3, 3), "main.2.weight": torch.zeros(4)})
    )
    checkpoint.save_state(tmp_path / "last.pt", 3, {}, network=torch.nn.Linear(1, 1))
    assert "no generator in it" in refused(tmp_path / "last.pt")


def test_damaged_and_missing(tmp_path):
    path = write(tmp_path, network().state_dict())
    path.write_bytes(path.read_bytes()[:-500])
    assert "truncated" in refused(path)
    assert "no such weight file" in refused(tmp_path / "none.ckpt")
