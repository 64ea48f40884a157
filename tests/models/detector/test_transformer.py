"""The vision transformers: what is trained of them, what they see, which weights they take."""

import pytest
import torch
import torchvision
from torch import nn

from common import checkpoint
from common.cli import UserError
from models.detector.imagenet import load_imagenet
from models.detector.network import Detector
from models.detector.transformer import ViTB16, ViTB32


def on_meta(name, size, base="layernorm"):
    """A detector of shapes alone: the networks are large."""
    with torch.device("meta"):
        return Detector(name, size, base)


def numbers(parameters):
    return sum(p.numel() for p in parameters)


@pytest.fixture(scope="module")
def published():
    """vit_b_32's state_dict as torchvision hands it out, with random numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return torchvision.models.vit_b_32(weights=None).state_dict()


@pytest.fixture(scope="module")
def file(published, tmp_path_factory):
    path = tmp_path_factory.mktemp("vit") / "v.pth"
    torch.save(published, path)
    return path


@pytest.fixture(scope="module")
def loaded(file):
    """A detector of 64-pixel photos with the published weights, its LayerNorms open."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return load_imagenet(Detector("vit_b_32", 64, "layernorm"), file)


@pytest.mark.parametrize("name, whole", [("vit_b_16", 85_675_776), ("vit_b_32", 87_424_512)])
def test_numbers_that_are_trained(name, whole):
    """A norm before attention and one before the MLP in each of 12 blocks, and a last one: a weight and a
    bias for each of 768 features."""
    net = on_meta(name, 64)
    assert numbers(net.trunk.parameters()) == whole
    trained = [p for p in net.trunk.parameters() if p.requires_grad]
    assert len(trained) == 2 * (2 * 12 + 1) and numbers(trained) == 25 * 2 * 768 == 38_400
    assert numbers(net.head.parameters()) == 768 * 2 + 2 == 1_538
    assert {id(p) for m in net.trunk.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()} == {
        id(p) for p in trained
    }


def test_the_side_is_a_multiple_of_the_patch():
    sides = {size: (ViTB16.side_of(size), ViTB32.side_of(size)) for size in (32, 64, 96, 100, 128, 224)}
    assert sides == {
        32: (96, 96),
        64: (96, 96),
        96: (96, 96),
        100: (112, 128),
        128: (128, 128),
        224: (224, 224),
    }
    assert on_meta("vit_b_16", 100).trunk.network.encoder.pos_embedding.shape == (1, 7 * 7 + 1, 768)


def test_the_features_are_torchvisions_own_class_token(published, file, faces):
    net, (x, _) = load_imagenet(Detector("vit_b_32", 224), file).eval(), faces(2, 224)
    whole = torchvision.models.vit_b_32(weights=None).eval()
    whole.load_state_dict(published)
    whole.heads = nn.Identity()
    normalised = torchvision.transforms.functional.normalize(
        (x + 1) / 2, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    with torch.no_grad():
        assert torch.allclose(net.features(x), whole(normalised), atol=1e-4)
        assert torch.equal(net(x), net.head(net.features(x))) and net(x).shape == (2, 2)


def test_position_embeddings_are_interpolated_and_the_rest_is_as_published(loaded, published):
    there = loaded.trunk.network.state_dict()
    key = "encoder.pos_embedding"
    assert all(torch.equal(there[k], v) for k, v in published.items() if k != key and "heads" not in k)
    assert there[key].shape == (1, 1 + 3 * 3, 768) and published[key].shape == (1, 1 + 7 * 7, 768)
    # the class token's, and the grid's corners and centre, stay where they were
    old, new = published[key][0, 1:].reshape(7, 7, 768), there[key][0, 1:].reshape(3, 3, 768)
    assert torch.equal(there[key][:, 0], published[key][:, 0])
    for k, place in ((0, 0), (1, 3), (2, 6)):
        assert torch.allclose(new[k, k], old[place, place], atol=1e-5)


def test_other_weights_are_refused(published, monkeypatch):
    for state in (
        {**published, "encoder.pos_embedding": torch.zeros(1, 6, 768)},
        {k: v for k, v in published.items() if "pos_emb" not in k},
    ):
        monkeypatch.setattr(checkpoint, "read_weights", lambda path, state=state: (state, {}))
        with pytest.raises(UserError, match="of vit_b_32: 1 tensors differ, first encoder.pos_embedding"):
            load_imagenet(on_meta("vit_b_32", 64), "vit.pth")


def test_a_step_moves_the_layernorms_and_the_head_and_nothing_else(loaded, faces):
    (x, _), labels = faces(2, 64), torch.tensor([0, 1])
    before = {k: v.clone() for k, v in loaded.state_dict().items()}
    loaded.train()
    adam = torch.optim.Adam([p for p in loaded.parameters() if p.requires_grad], 0.01)
    torch.nn.functional.cross_entropy(loaded(x), labels).backward()
    adam.step()
    moved = {k for k, v in loaded.state_dict().items() if not torch.equal(v, before[k])}
    norms = {
        f"trunk.{k}.{part}"
        for k, m in loaded.trunk.named_modules()
        if isinstance(m, nn.LayerNorm)
        for part in ("weight", "bias")
    }
    assert moved <= norms | {"head.weight", "head.bias"} and {"head.weight", "head.bias"} <= moved
    assert "trunk.network.encoder.ln.weight" in moved and len(moved & norms) == 50
