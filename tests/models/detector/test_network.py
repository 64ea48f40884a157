"""The detectors' networks, counted by hand: what they see, what stays frozen, what they say."""

import pytest
import torch
import torchvision
from torch import nn

from common.cli import RunError, UserError
from models.detector.network import DETECTORS, TORCHVISION, Detector, Trunk, probabilities

CONVOLUTIONAL = ("mobilenet_v2", "resnet18", "efficientnet_b0")


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
def mobilenet():
    """A frozen mobilenet_v2 for 64-pixel photos that sees something; tests leave it as it is."""
    net = build("mobilenet_v2", 64, "frozen")
    calibrated(net.trunk, torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    return net.eval()


def test_the_tutorials_numbers():
    """MobileNetV2's base has 2,223,872 numbers to train; its head 723,842, of which 1,024 are running
    statistics."""
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
    with torch.device("meta"):
        trunk = Trunk(name)
    assert numbers(trunk) == published - 1000 * (features + 1)


def test_meso4_counted_by_hand():
    convolutions = (3 * 8 * 9 + 8) + (8 * 8 * 25 + 8) + (8 * 16 * 25 + 16) + (16 * 16 * 25 + 16)
    # 256 / 32 = 8 pixels a side are left
    norms, hidden = 2 * (8 + 8 + 16 + 16), 16 * 8 * 8 * 16 + 16
    assert numbers(build("meso4", 256)) == convolutions + norms + hidden + (16 * 2 + 2) == 27_994
    # Afchar et al. 2018 count 27,977 with their one sigmoid: ours has a second logit of 16 weights and a bias


@pytest.mark.parametrize(
    "name, sizes",
    [
        ("meso4", (64, 96, 128)),
        ("mobilenet_v2", (64, 96, 128)),
        ("resnet18", (64,)),
        ("efficientnet_b0", (64,)),
    ],
)
def test_shapes(name, sizes, faces):
    for size in sizes:
        net, (x, _) = build(name, size).eval(), faces(2, size)
        with torch.no_grad():
            features = net.features(x)
            assert features.shape == (2, TORCHVISION[name][0] if name != "meso4" else 16 * (size // 32) ** 2)
            assert torch.equal(net(x), net.head(features)) and net(x).shape == (2, 2)
        assert net.side == (size if name == "meso4" else max(size, 96))


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_the_features_are_torchvisions_own(name, faces):
    x, _ = faces(2, 64)
    trunk = calibrated(build(name, 64).trunk, x)
    whole = getattr(torchvision.models, name)(weights=None).eval()
    whole.load_state_dict(trunk.network.state_dict(), strict=False)
    setattr(whole, TORCHVISION[name][1][:-1], nn.Identity())
    normalised = torchvision.transforms.functional.normalize(
        (x + 1) / 2, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
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
        return torch.nn.functional.interpolate(
            x, size=(side, side), mode="bilinear", align_corners=False, antialias=True
        )

    with torch.no_grad():
        x, _ = faces(2, 64)
        assert torch.equal(mobilenet.features(x), mobilenet.trunk(resized(x, 96)))
        # 128 x 100: first to the size of the training, then to what the network sees
        wide = resized(faces(2, 128)[0], 128)[..., :100]
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
        trunk, head, features = (
            copies(net.trunk.state_dict()),
            copies(net.head.state_dict()),
            net.eval().features(x),
        )
        step(net, x, labels)
        moved = {k for k, v in net.trunk.state_dict().items() if not torch.equal(v, trunk[k])}
        if base == "frozen":
            assert not moved and not any(m.training for m in net.trunk.modules()) and net.head.training
            assert torch.equal(net.features(x), features) and torch.equal(net.features(x), features)
        else:
            assert {"network.conv1.weight", "network.bn1.running_mean"} <= moved and net.trunk.training
            assert not torch.equal(net.eval().features(x), features)
        assert all(not torch.equal(net.head.state_dict()[k], head[k]) for k in ("0.weight", "2.running_mean"))


def test_a_new_detector_is_in_the_mode_of_its_base():
    assert build("meso4").trunk.training and not build("meso4", 32, "frozen").trunk.training


@pytest.mark.parametrize(
    "name, base, words",
    [
        ("xception", "scratch", "xception: not a detector; one of meso4, mobilenet_v2"),
        (
            "meso4",
            "thawed",
            "thawed: not a way to train a base; one of frozen, finetuned, scratch, layernorm",
        ),
        ("resnet18", "layernorm", "--base layernorm: resnet18 has no LayerNorms; vit_b_16, vit_b_32 do"),
    ],
)
def test_unknown_names(name, base, words):
    with pytest.raises(UserError, match=words):
        Detector(name, 32, base)


@pytest.mark.parametrize("training", [True, False])
def test_probabilities_are_of_fake_and_leave_the_mode(faces, training):
    net, (x, _) = build("meso4", 32).train(training), faces(6, 32)
    with torch.no_grad():
        net.head[-1].weight.mul_(50)
    state = copies(net.state_dict())
    p = probabilities(net, [x[:4], x[4:]])
    assert p.shape == (6,) and p.dtype == torch.float64 and bool(((p >= 0) & (p <= 1)).all()) and p.std() > 0
    assert net.training is training and net.trunk.training is training and equal(net.state_dict(), state)
    # no dropout, no batch statistics
    assert torch.equal(p, probabilities(net, [x[:4], x[4:]])) and torch.allclose(
        p, probabilities(net, [x]), atol=1e-5
    )
    with torch.no_grad():
        net.head[-1].bias.copy_(torch.tensor([0.0, 1000.0]))  # the second logit is fake's
    assert probabilities(net, [x]).tolist() == [1] * 6 and probabilities(net, []).shape == (0,)


def test_names_are_all_there():
    assert tuple(DETECTORS) == ("meso4", *CONVOLUTIONAL, "residual", "vit_b_16", "vit_b_32")


def test_probabilities_that_are_not_finite_are_an_error(faces):
    net, (x, _) = build(), faces(3)
    with torch.no_grad():
        net.head[-1].bias.fill_(float("nan"))
    with pytest.raises(RunError, match="answers 3 of 3 images with no finite number"):
        probabilities(net, [x])
