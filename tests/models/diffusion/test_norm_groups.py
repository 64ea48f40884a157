"""Groups of the normalisation: part of the function, and of what weight files of every family say."""

import runpy
from pathlib import Path

import pytest
import torch

from common import checkpoint
from common.cli import UserError
from models.diffusion import build

networks = runpy.run_path(str(Path(__file__).with_name("test_build.py")))  # its tiny networks and noise
tiny, meta_of, noise = networks["tiny"], networks["meta_of"], networks["noise"]
official_network = networks["official_network"]


def groups(network):
    return {m.num_groups for m in network.modules() if isinstance(m, torch.nn.GroupNorm)}


def test_norm_groups_change_the_function_and_not_the_tensors():
    usual, eight = tiny(), tiny(norm_groups=8)
    assert groups(usual) == {32} and groups(eight) == {8}
    assert {k: v.shape for k, v in usual.state_dict().items()} == {
        k: v.shape for k, v in eight.state_dict().items()
    }
    x, t = noise((1, 3, 8, 8)), torch.tensor([9.0])
    with torch.no_grad():
        assert float((usual(x, t) - eight(x, t)).abs().max()) > 0.01


def test_norm_groups_are_in_the_weights(tmp_path):
    network = tiny(norm_groups=8)
    checkpoint.save_weights(tmp_path / "w.safetensors", network.state_dict(), meta_of(network))
    loaded, x = build.load(tmp_path / "w.safetensors"), noise((1, 3, 8, 8))
    assert groups(loaded.network) == {8}
    with torch.no_grad():
        torch.testing.assert_close(loaded.eps(x, 9), network(x, torch.tensor([9])))


@pytest.mark.parametrize("flags, found", [({}, 32), ({"norm_groups": None}, 32), ({"norm_groups": 8}, 8)])
def test_norm_groups_are_in_the_training_state(tmp_path, flags, found):
    checkpoint.save_state(tmp_path / "last.pt", 7, {"image_size": 8, **flags}, network=tiny())
    assert groups(build.load(tmp_path / "last.pt").network) == {found}


def test_weights_of_before_have_32_groups(tmp_path):
    network = tiny()
    meta = meta_of(network)
    meta["options"] = {k: v for k, v in meta["options"].items() if k != "norm_groups"}
    checkpoint.save_weights(tmp_path / "w.safetensors", network.state_dict(), meta)
    loaded, x = build.load(tmp_path / "w.safetensors"), noise((1, 3, 8, 8))
    assert groups(loaded.network) == {32}
    with torch.no_grad():
        torch.testing.assert_close(loaded.eps(x, 9), network(x, torch.tensor([9])))


def test_norm_groups_of_the_official_format_are_32_or_the_side_files(tmp_path):
    network = tiny(norm_groups=4, channel_mult="1,2,3,4")
    torch.save(network.state_dict(), tmp_path / "w.pt")
    assert groups(build.load(tmp_path / "w.pt").network) == {32}
    (tmp_path / "w.pt.yaml").write_text("norm_groups: 4\nimage_size: 8\n")
    loaded, x = build.load(tmp_path / "w.pt"), noise((1, 3, 8, 8))
    with torch.no_grad():
        torch.testing.assert_close(loaded.eps(x, 9), network(x, torch.tensor([9])))


@pytest.mark.parametrize("bad", ["0", "-8", "5", "64", "eight"])
def test_norm_groups_that_cannot_be(tmp_path, bad):
    torch.save(tiny(channel_mult="1,2,3,4").state_dict(), tmp_path / "w.pt")
    (tmp_path / "w.pt.yaml").write_text(f"norm_groups: {bad}\nimage_size: 8\n")
    with pytest.raises(UserError, match="norm_groups"):
        build.load(tmp_path / "w.pt")
