"""Which weight files a detector takes: torchvision's of ImageNet, and detectors that were trained here."""

import hashlib
from pathlib import Path

import pytest
import torch
import torchvision

from common import checkpoint
from common.cli import UserError
from models.detector.imagenet import find_imagenet_weights, hub_file, load_imagenet, recognise
from models.detector.network import Detector, load_detector

META = {"kind": "detector"}


def build(name="meso4", size=32, base="scratch", seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Detector(name, size, base)


def copies(state):
    return {k: v.clone() for k, v in state.items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def imagenet():
    """mobilenet_v2's state_dict as torchvision would hand it out, with random numbers, running statistics
    too."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        state = torchvision.models.mobilenet_v2(weights=None).state_dict()
        return {
            k: torch.rand_like(v) + 0.5 if "running" in k else v + 7 if "num_batches" in k else v
            for k, v in state.items()
        }


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("part", ["whole", "without its classes", "without counters"])
def test_imagenet_weights_reach_the_base(tmp_path, imagenet, suffix, part):
    left_out = {
        "whole": "nothing",
        "without its classes": "classifier.",
        "without counters": "num_batches_tracked",
    }[part]
    path, given = tmp_path / f"weights{suffix}", {k: v for k, v in imagenet.items() if left_out not in k}
    assert (len(given) < len(imagenet)) == (part != "whole")
    torch.save(given, path) if suffix == ".pth" else checkpoint.save_weights(path, given, {})
    net = build("mobilenet_v2", 64, "finetuned")
    head = copies(net.head.state_dict())
    assert load_imagenet(net, path) is net and equal(net.head.state_dict(), head)
    there = net.trunk.network.state_dict()
    assert all(torch.equal(there[k], v) for k, v in given.items() if not k.startswith("classifier."))


def test_older_files_of_resnet_have_no_counters(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state = {
            k: v
            for k, v in torchvision.models.resnet18(weights=None).state_dict().items()
            if "num_batches" not in k
        }
    torch.save(state, tmp_path / "r.pth")
    # 62 weights, 20 running means and variances
    assert len(state) == 102
    net = load_imagenet(build("resnet18", 64, "frozen"), tmp_path / "r.pth")
    assert (
        torch.equal(net.trunk.network.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
        and not net.trunk.training
    )


def test_weights_of_another_network_are_named(tmp_path, imagenet):
    torch.save(imagenet, tmp_path / "m.pth")
    with pytest.raises(
        UserError, match=r"m\.pth: not torchvision's weights of resnet18: \d+ tensors differ, first bn1.bias"
    ):
        load_imagenet(build("resnet18"), tmp_path / "m.pth")
    torch.save({**imagenet, "features.0.0.weight": torch.zeros(32, 1, 3, 3)}, tmp_path / "grey.pth")
    torch.save({k: v for k, v in imagenet.items() if k != "features.0.0.weight"}, tmp_path / "less.pth")
    torch.save({**imagenet, "features.19.weight": torch.zeros(1)}, tmp_path / "more.pth")
    net = build("mobilenet_v2")
    before = copies(net.state_dict())
    for name, first in (
        ("grey", "features.0.0.weight"),
        ("less", "features.0.0.weight"),
        ("more", "features.19.weight"),
    ):
        with pytest.raises(
            UserError,
            match=f"{name}.pth: not torchvision's weights of mobilenet_v2: 1 tensors differ, first {first}",
        ):
            load_imagenet(net, tmp_path / f"{name}.pth")
    with pytest.raises(UserError, match="gone.pth: no such weight file"):
        load_imagenet(net, tmp_path / "gone.pth")
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(UserError, match="HTML page"):
        load_imagenet(net, tmp_path / "page.pth")
    assert equal(net.state_dict(), before)


@pytest.mark.parametrize(
    "name, left_out",
    [
        ("mobilenet_v2", "nothing"),
        ("mobilenet_v2", "classifier."),
        ("resnet18", "num_batches_tracked"),
        ("resnet18", "fc."),
        ("efficientnet_b0", "nothing"),
        ("vit_b_16", "heads."),
        ("vit_b_32", "nothing"),
    ],
)
def test_files_are_recognised(name, left_out):
    with torch.device("meta"):
        state = getattr(torchvision.models, name)(weights=None).state_dict()
    assert recognise({k: v for k, v in state.items() if left_out not in k}, "f.pth") == name


def test_older_files_of_transformers_call_two_layers_otherwise():
    with torch.device("meta"):
        state = torchvision.models.vit_b_32(weights=None).state_dict()
    older = {k.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): v for k, v in state.items()}
    assert older.keys() != state.keys() and recognise(older, "f.pth") == "vit_b_32"


def test_a_file_of_no_base_is_refused(imagenet):
    with pytest.raises(
        UserError, match="f.pth: not torchvision's weights of mobilenet_v2, resnet18, efficientnet_b0"
    ):
        recognise({**imagenet, "features.0.0.weight": torch.zeros(32, 1, 3, 3)}, "f.pth")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torchvision's own folder, empty; nothing is loaded from anywhere."""

    def refused(url, path, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
    return tmp_path / "home" / "hub" / "checkpoints"


def test_meso4_has_no_imagenet_weights(hub):
    assert find_imagenet_weights("meso4") is None and find_imagenet_weights("meso4", "none") is None
    for asked in ("imagenet", "m.pth"):
        with pytest.raises(
            UserError,
            match=f"--weights {asked}: there are no ImageNet weights of meso4; .* mobilenet_v2, resnet18",
        ):
            find_imagenet_weights("meso4", asked)


def test_imagenet_weights_are_what_was_named_or_what_is_here(hub):
    name = "mobilenet_v2-7ebf99e0.pth"
    assert hub_file("mobilenet_v2") == (hub / name, f"https://download.pytorch.org/models/{name}")
    assert (
        find_imagenet_weights("mobilenet_v2") is None
        and find_imagenet_weights("mobilenet_v2", "none") is None
    )
    assert find_imagenet_weights("mobilenet_v2", "mine/m.pth") == Path("mine/m.pth")
    assert not hub.exists()
    hub.mkdir(parents=True)
    (hub / name).write_bytes(b"x")
    assert (
        find_imagenet_weights("mobilenet_v2")
        == find_imagenet_weights("mobilenet_v2", "imagenet")
        == hub / name
    )
    assert find_imagenet_weights("mobilenet_v2", "none") is None and find_imagenet_weights("resnet18") is None


def test_imagenet_weights_are_loaded_and_checked_or_one_line_says_why_not(hub, monkeypatch):
    with pytest.raises(
        UserError,
        match=(
            r"--weights imagenet: https://.*mobilenet_v2-7ebf99e0.pth cannot be loaded \(no route to host\);"
            r" .*--weights FILE"
        ),
    ):
        find_imagenet_weights("mobilenet_v2", "imagenet")
    seen = {}

    def answered(url, path, hash_prefix, progress):
        seen.update(url=url, hash_prefix=hash_prefix)
        Path(path).write_bytes(b"x")

    monkeypatch.setattr(torch.hub, "download_url_to_file", answered)
    assert find_imagenet_weights("efficientnet_b0", "imagenet").read_bytes() == b"x"
    assert seen == {
        "url": "https://download.pytorch.org/models/efficientnet_b0_rwightman-7f5810bc.pth",
        "hash_prefix": "7f5810bc",
    }


def save(path, net, **meta):
    checkpoint.save_weights(path, net.state_dict(), {**META, "options": net.options, **meta})
    return path


@pytest.mark.parametrize("name, base", [("meso4", "scratch"), ("mobilenet_v2", "frozen")])
def test_load_round_trip(tmp_path, faces, name, base):
    net, (x, _) = build(name, 32, base), faces(2, 32)
    path = save(tmp_path / "d.safetensors", net, condition="clean")
    loaded = load_detector(path)
    with torch.no_grad():
        assert torch.equal(loaded(x), net.eval()(x))
    assert (
        loaded.options == net.options == {"name": name, "image_size": 32, "base": base}
        and loaded.meta["condition"] == "clean"
    )
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize(
    "meta, words",
    [
        (
            {"kind": "stargan-generator"},
            "expected a detector trained by train_detector.py, found stargan-generator",
        ),
        ({"kind": None}, "found other weights"),
        ({"options": {"name": "meso4", "image_size": 96}}, "do not fit"),
        ({"options": {"name": "resnet18", "image_size": 32}}, "do not fit"),
        (
            {"options": {"name": "xception", "image_size": 32}},
            "d.safetensors: .* do not fit .*xception: not a detector",
        ),
        ({"options": {"name": "meso4", "image_size": 32, "depth": 3}}, "do not fit"),
        ({"options": {"name": "meso4"}}, "do not fit"),
        ({"options": None}, "do not fit"),
    ],
)
def test_other_weights_are_refused(tmp_path, meta, words):
    with pytest.raises(UserError, match=words):
        load_detector(save(tmp_path / "d.safetensors", build(), **meta))


def test_files_that_are_no_detector(tmp_path):
    checkpoint.save_weights(tmp_path / "bare.safetensors", build().state_dict(), META)
    with pytest.raises(UserError, match="do not fit"):
        load_detector(tmp_path / "bare.safetensors")
    torch.save(build().state_dict(), tmp_path / "d.pt")
    with pytest.raises(UserError, match="found other weights"):
        load_detector(tmp_path / "d.pt")
    whole = save(tmp_path / "d.safetensors", build()).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "header.safetensors").write_bytes(whole[:9] + b"?" + whole[10:])
    for name in ("cut", "header"):
        with pytest.raises(UserError, match=f"{name}.safetensors: truncated or damaged"):
            load_detector(tmp_path / f"{name}.safetensors")
    with pytest.raises(UserError, match="no such weight file"):
        load_detector(tmp_path / "none.safetensors")
