"""The detectors' networks, counted by hand; what ImageNet weights and weight files are let in."""
import hashlib
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from common import checkpoint
from common.cli import UserError
from models.detector.network import (NAMES, TORCHVISION, Detector, Trunk, find_imagenet_weights, hub_file, load_detector, load_imagenet,
                                     probabilities, recognise)

META = {"kind": "detector"}


def build(name="meso4", size=32, base="scratch", seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Detector(name, size, base)


def numbers(module):
    return sum(p.numel() for p in module.parameters())


def trainable(module):
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def copies(state):
    return {k: v.clone() for k, v in state.items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def calibrated(trunk, x):
    """A trunk whose running statistics are those of x: those of an untrained one let nothing through."""
    for m in trunk.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 1.0
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        trunk.train()(x)
    return trunk.eval()


@pytest.fixture(scope="module")
def imagenet():
    """mobilenet_v2's state_dict as torchvision would hand it out, with random numbers, running statistics too."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        state = torchvision.models.mobilenet_v2(weights=None).state_dict()
        return {k: torch.rand_like(v) + 0.5 if "running" in k else v + 7 if "num_batches" in k else v for k, v in state.items()}


@pytest.fixture(scope="module")
def mobilenet():
    """A frozen mobilenet_v2 for 64-pixel photos that sees something; tests leave it as it is."""
    net = build("mobilenet_v2", 64, "frozen")
    calibrated(net.trunk, torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    return net.eval()


def test_the_tutorials_numbers():
    """MobileNetV2's base has 2,223,872 numbers to train; its head 723,842, of which 1,024 are running statistics."""
    net = build("mobilenet_v2", 96)
    assert trainable(net.trunk) == 2_223_872
    weights = (1280 * 512 + 512) + 2 * 512 + (512 * 128 + 128) + (128 * 2 + 2)
    assert numbers(net.head) == weights == 722_818
    statistics = [b for k, b in net.head.named_buffers() if "running" in k]
    assert weights + sum(b.numel() for b in statistics) == 723_842
    frozen = build("mobilenet_v2", 96, "frozen")
    assert trainable(frozen.trunk) == 0 and trainable(frozen) == 722_818


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_trunk_is_torchvisions_network_without_its_classes(name):
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
    features = TORCHVISION[name][0]
    assert numbers(Trunk(name)) == published - 1000 * (features + 1)


def test_meso4_counted_by_hand():
    convolutions = (3 * 8 * 9 + 8) + (8 * 8 * 25 + 8) + (8 * 16 * 25 + 16) + (16 * 16 * 25 + 16)
    norms, hidden = 2 * (8 + 8 + 16 + 16), 16 * 8 * 8 * 16 + 16            # 256 / 32 = 8 pixels a side are left
    assert numbers(build("meso4", 256)) == convolutions + norms + hidden + (16 * 2 + 2) == 27_994
    # Afchar et al. 2018 count 27,977 with their one sigmoid: ours has a second logit of 16 weights and a bias
    assert 27_994 - 27_977 == 16 + 1


@pytest.mark.parametrize("name, sizes", [("meso4", (64, 96, 128)), ("mobilenet_v2", (64, 96, 128)), ("resnet18", (64,)), ("efficientnet_b0", (64,))])
def test_shapes(name, sizes, faces):
    for size in sizes:
        net, (x, _) = build(name, size).eval(), faces(2, size)
        with torch.no_grad():
            features = net.features(x)
            assert features.shape == (2, TORCHVISION[name][0] if name != "meso4" else 16 * (size // 32) ** 2)
            assert torch.equal(net(x), net.head(features)) and net(x).shape == (2, 2)
        assert net.side == (size if name == "meso4" else max(size, 96))


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_features_are_torchvisions_own(name, faces):
    x, _ = faces(2, 64)
    trunk = calibrated(build(name, 64).trunk, x)
    whole = getattr(torchvision.models, name)(weights=None).eval()
    whole.load_state_dict(trunk.network.state_dict(), strict=False)
    setattr(whole, TORCHVISION[name][1][:-1], nn.Identity())
    normalised = torchvision.transforms.functional.normalize((x + 1) / 2, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        assert torch.allclose(trunk(x), whole(normalised), atol=1e-4) and trunk(x).std() > 0.1


def test_photos_are_normalised_as_imagenets():
    """Black, mid-grey and white of the red channel: (v - 0.485) / 0.229 for v = 0, 0.5, 1."""
    trunk = Trunk("mobilenet_v2")
    trunk.maps = lambda z: z
    grey = torch.tensor([-1.0, 0.0, 1.0])[:, None, None, None].expand(3, 3, 4, 4)
    assert trunk(grey)[:, 0].tolist() == pytest.approx([-2.11790, 0.06550, 2.24891], abs=1e-4)
    assert trunk(grey)[2].tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], abs=1e-4)


def test_images_in_0_1_are_other_images(mobilenet, faces):
    x, _ = faces(2, 64)
    for net in (mobilenet, build("meso4", 64).eval()):
        with torch.no_grad():
            assert not torch.allclose(net(x), net((x + 1) / 2), atol=1e-4)


def test_small_photos_are_enlarged_and_others_resized(mobilenet, faces):
    def resized(x, side):
        return torch.nn.functional.interpolate(x, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
    with torch.no_grad():
        x, _ = faces(2, 64)
        assert torch.equal(mobilenet.features(x), mobilenet.trunk(resized(x, 96)))
        wide = resized(faces(2, 128)[0], 128)[..., :100]                   # 128 x 100: first to the size of the training, then to what the network sees
        assert torch.equal(mobilenet.features(wide), mobilenet.trunk(resized(resized(wide, 64), 96)))
    odd = build("meso4", 100)
    assert odd.side == 128 and odd.trunk.num_features == 16 * 4 * 4 and odd.eval()(x).shape == (2, 2)
    assert build("meso4", 20).side == 32


def step(net, x, labels):
    """A training step, the head's and what else is open to it."""
    net.train()
    adam = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 0.01)
    torch.nn.functional.cross_entropy(net(x), labels).backward()
    adam.step()


def test_a_frozen_base_does_not_move_and_the_others_do(faces):
    (x, _), labels = faces(4, 32), torch.tensor([0, 1, 0, 1])
    for base in ("frozen", "finetuned"):
        net = build("resnet18", 32, base)
        trunk, head, features = copies(net.trunk.state_dict()), copies(net.head.state_dict()), net.eval().features(x)
        step(net, x, labels)
        moved = {k for k, v in net.trunk.state_dict().items() if not torch.equal(v, trunk[k])}
        if base == "frozen":
            assert not moved and not any(m.training for m in net.trunk.modules()) and net.head.training
            assert torch.equal(net.features(x), features) and torch.equal(net.features(x), features)
        else:
            assert {"network.conv1.weight", "network.bn1.running_mean"} <= moved and net.trunk.training
            assert not torch.equal(net.eval().features(x), features)
        assert not torch.equal(net.head.state_dict()["0.weight"], head["0.weight"]) and not torch.equal(net.head.state_dict()["2.running_mean"], head["2.running_mean"])


def test_a_new_detector_is_in_the_mode_of_its_base():
    assert build("meso4").trunk.training and not build("meso4", 32, "frozen").trunk.training


@pytest.mark.parametrize("name, base, words", [("xception", "scratch", "xception: not a detector; one of meso4, mobilenet_v2"),
                                               ("meso4", "thawed", "thawed: not a way to train a base; one of frozen, finetuned, scratch")])
def test_unknown_names(name, base, words):
    with pytest.raises(UserError, match=words):
        Detector(name, 32, base)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("part", ["whole", "without its classes", "without counters"])
def test_imagenet_weights_reach_the_base(tmp_path, imagenet, suffix, part):
    left_out = {"whole": "nothing", "without its classes": "classifier.", "without counters": "num_batches_tracked"}[part]
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
        state = {k: v for k, v in torchvision.models.resnet18(weights=None).state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "r.pth")
    assert len(state) == 102                                              # 62 weights, 20 running means and variances
    net = load_imagenet(build("resnet18", 64, "frozen"), tmp_path / "r.pth")
    assert torch.equal(net.trunk.network.layer4[1].conv2.weight, state["layer4.1.conv2.weight"]) and not net.trunk.training


def test_weights_of_another_network_are_named(tmp_path, imagenet):
    torch.save(imagenet, tmp_path / "m.pth")
    with pytest.raises(UserError, match=r"m\.pth: not torchvision's weights of resnet18: \d+ tensors differ, first bn1.bias"):
        load_imagenet(build("resnet18"), tmp_path / "m.pth")
    torch.save({**imagenet, "features.0.0.weight": torch.zeros(32, 1, 3, 3)}, tmp_path / "grey.pth")
    torch.save({k: v for k, v in imagenet.items() if k != "features.0.0.weight"}, tmp_path / "less.pth")
    torch.save({**imagenet, "features.19.weight": torch.zeros(1)}, tmp_path / "more.pth")
    net = build("mobilenet_v2")
    before = copies(net.state_dict())
    for name, first in (("grey", "features.0.0.weight"), ("less", "features.0.0.weight"), ("more", "features.19.weight")):
        with pytest.raises(UserError, match=f"{name}.pth: not torchvision's weights of mobilenet_v2: 1 tensors differ, first {first}"):
            load_imagenet(net, tmp_path / f"{name}.pth")
    with pytest.raises(UserError, match="gone.pth: no such weight file"):
        load_imagenet(net, tmp_path / "gone.pth")
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(UserError, match="HTML page"):
        load_imagenet(net, tmp_path / "page.pth")
    assert equal(net.state_dict(), before)


@pytest.mark.parametrize("name, left_out", [("mobilenet_v2", "nothing"), ("mobilenet_v2", "classifier."), ("resnet18", "num_batches_tracked"),
                                            ("resnet18", "fc."), ("efficientnet_b0", "nothing")])
def test_files_are_recognised(name, left_out):
    with torch.device("meta"):
        state = getattr(torchvision.models, name)(weights=None).state_dict()
    assert recognise({k: v for k, v in state.items() if left_out not in k}, "f.pth") == name


def test_a_file_of_no_base_is_refused(imagenet):
    with pytest.raises(UserError, match="f.pth: not torchvision's weights of mobilenet_v2, resnet18, efficientnet_b0"):
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
        with pytest.raises(UserError, match=f"--weights {asked}: there are no ImageNet weights of meso4; .* mobilenet_v2, resnet18"):
            find_imagenet_weights("meso4", asked)


def test_imagenet_weights_are_what_was_named_or_what_is_here(hub):
    name = "mobilenet_v2-7ebf99e0.pth"
    assert hub_file("mobilenet_v2") == (hub / name, f"https://download.pytorch.org/models/{name}")
    assert find_imagenet_weights("mobilenet_v2") is None and find_imagenet_weights("mobilenet_v2", "none") is None
    assert find_imagenet_weights("mobilenet_v2", "mine/m.pth") == Path("mine/m.pth")
    assert not hub.exists()
    hub.mkdir(parents=True)
    (hub / name).write_bytes(b"x")
    assert find_imagenet_weights("mobilenet_v2") == find_imagenet_weights("mobilenet_v2", "imagenet") == hub / name
    assert find_imagenet_weights("mobilenet_v2", "none") is None and find_imagenet_weights("resnet18") is None


def test_imagenet_weights_are_loaded_and_checked_or_one_line_says_why_not(hub, monkeypatch):
    with pytest.raises(UserError, match=r"--weights imagenet: https://.*mobilenet_v2-7ebf99e0.pth cannot be loaded \(no route to host\); .*--weights FILE"):
        find_imagenet_weights("mobilenet_v2", "imagenet")
    seen = {}

    def answered(url, path, hash_prefix, progress):
        seen.update(url=url, hash_prefix=hash_prefix)
        Path(path).write_bytes(b"x")
    monkeypatch.setattr(torch.hub, "download_url_to_file", answered)
    assert find_imagenet_weights("efficientnet_b0", "imagenet").read_bytes() == b"x"
    assert seen == {"url": "https://download.pytorch.org/models/efficientnet_b0_rwightman-7f5810bc.pth", "hash_prefix": "7f5810bc"}


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
    assert loaded.options == net.options == {"name": name, "image_size": 32, "base": base} and loaded.meta["condition"] == "clean"
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize("meta, words", [
    ({"kind": "stargan-generator"}, "expected a detector trained by train_detector.py, found stargan-generator"),
    ({"kind": None}, "found other weights"),
    ({"options": {"name": "meso4", "image_size": 96}}, "do not fit"),
    ({"options": {"name": "resnet18", "image_size": 32}}, "do not fit"),
    ({"options": {"name": "xception", "image_size": 32}}, "d.safetensors: .* do not fit .*xception: not a detector"),
    ({"options": {"name": "meso4", "image_size": 32, "depth": 3}}, "do not fit"),
    ({"options": {"name": "meso4"}}, "do not fit"),
    ({"options": None}, "do not fit"),
])
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
    (tmp_path / "cut.safetensors").write_bytes(whole[:len(whole) // 2])
    (tmp_path / "header.safetensors").write_bytes(whole[:9] + b"?" + whole[10:])
    for name in ("cut", "header"):
        with pytest.raises(UserError, match=f"{name}.safetensors: truncated or damaged"):
            load_detector(tmp_path / f"{name}.safetensors")
    with pytest.raises(UserError, match="no such weight file"):
        load_detector(tmp_path / "none.safetensors")


@pytest.mark.parametrize("training", [True, False])
def test_probabilities_are_of_fake_and_leave_the_mode(faces, training):
    net, (x, _) = build("meso4", 32).train(training), faces(6, 32)
    with torch.no_grad():
        net.head[-1].weight.mul_(50)
    state = copies(net.state_dict())
    p = probabilities(net, [x[:4], x[4:]])
    assert p.shape == (6,) and p.dtype == torch.float64 and bool(((p >= 0) & (p <= 1)).all()) and p.std() > 0
    assert net.training is training and net.trunk.training is training and equal(net.state_dict(), state)
    assert torch.equal(p, probabilities(net, [x[:4], x[4:]])) and torch.allclose(p, probabilities(net, [x]), atol=1e-5)      # no dropout, no batch statistics
    with torch.no_grad():
        net.head[-1].bias.copy_(torch.tensor([0.0, 1000.0]))             # the second logit is fake's
    assert probabilities(net, [x]).tolist() == [1] * 6 and probabilities(net, []).shape == (0,)


def test_names_are_all_there():
    assert NAMES == ("meso4", "mobilenet_v2", "resnet18", "efficientnet_b0")
