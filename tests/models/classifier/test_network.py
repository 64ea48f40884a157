import hashlib

import pytest
import torch

from common import checkpoint
from common.cli import UserError
from models.classifier.network import AttributeClassifier, load_classifier

NAMES = ["Black_Hair", "Male"]


def network():
    torch.manual_seed(0)
    return AttributeClassifier(c_dim=2, width=8, image_size=32)


def save(path, net, **meta):
    checkpoint.save_weights(
        path, net.state_dict(), {"kind": "classifier", "options": net.options, "attributes": NAMES, **meta}
    )
    return path


def test_shapes_and_that_the_logits_come_from_the_features(faces):
    net, (x, _) = network(), faces(3, 32)
    features = net.features(x)
    assert features.shape == (3, 64) and bool((features >= 0).all())
    assert torch.equal(net(x), net.head(features)) and net(x).shape == (3, 2)


def test_other_sizes_are_resized_as_a_whole(faces):
    net, (x, _) = network(), faces(2, 64)
    small = torch.nn.functional.interpolate(
        x, size=(32, 32), mode="bilinear", antialias=True, align_corners=False
    )
    assert torch.equal(net(x), net(small)) and not torch.allclose(net(x), net(x[..., ::2, ::2]))


def test_an_image_does_not_see_its_neighbours_and_modes_are_equal(faces):
    net, (x, _) = network(), faces(4, 32)
    assert torch.allclose(net(x)[1:2], net(x[1:2]), atol=1e-5) and torch.equal(net.train()(x), net.eval()(x))


def test_load_round_trip(tmp_path, faces):
    net, (x, _) = network(), faces(2, 32)
    path = save(tmp_path / "c.safetensors", net)
    loaded = load_classifier(path)
    assert (
        torch.equal(loaded(x), net(x))
        and loaded.attributes == NAMES
        and not any(p.requires_grad for p in loaded.parameters())
    )
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() and not loaded.training


@pytest.mark.parametrize(
    "meta, words",
    [
        (
            {"kind": "stargan-generator"},
            "expected an attribute classifier of this project, found stargan-generator",
        ),
        ({"kind": None}, "found other weights"),
        ({"options": {"c_dim": 5, "width": 8, "image_size": 32}}, "do not fit"),
        ({"options": {"depth": 3}}, "do not fit"),
        ({"attributes": ["Male"]}, "do not fit"),
    ],
)
def test_other_weights_are_refused(tmp_path, meta, words):
    with pytest.raises(UserError, match=words):
        load_classifier(save(tmp_path / "c.safetensors", network(), **meta))


def test_files_that_are_no_weights(tmp_path):
    torch.save(network().state_dict(), tmp_path / "c.pt")
    with pytest.raises(UserError, match="found other weights"):
        load_classifier(tmp_path / "c.pt")
    with pytest.raises(UserError, match="no such weight file"):
        load_classifier(tmp_path / "none.safetensors")
