"""The Frechet distance against its closed form, what may be called FID, and hostile or wrong weight files."""

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from common.cli import UserError
from metrics import fid
from metrics.fid import Distance, Extractor, load_extractor

pytestmark = pytest.mark.filterwarnings("ignore:.*images a side.*")
NAMED = {"name": "test", "sha256": None, "resize": "none", "backend": "test"}


class MeanColour(nn.Module):
    """Features = the mean of each channel, in grey levels."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3))

    def forward(self, x):
        return x.float().mean(dim=(2, 3)) @ self.weight


def distance(standard=False):
    return Distance(Extractor(MeanColour(), 3, standard, NAMED))


def pictures(n, seed=0, size=8):
    return torch.randint(
        0, 256, (n, 3, size, size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def measured(a, b, standard=False):
    d = distance(standard)
    d.update(a, real=True)
    d.update(b, real=False)
    return d.compute()


def test_equal_covariances_give_the_squared_mean_gap():
    a = pictures(40) // 2
    b = a + torch.tensor([3, 4, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    assert measured(a, b)["frechet"] == pytest.approx(25, abs=1e-4)


def test_diagonal_gaussians_have_their_closed_form():
    d = distance()
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4000, 3)), rng.normal(size=(4000, 3)) * [1, 2, 3] + [1, 0, 0]
    d.update_features(torch.tensor(a), real=True)
    d.update_features(torch.tensor(b), real=False)
    # 1^2 + sum (s - 1)^2 for standard deviations 1 2 3
    assert d.compute()["frechet"] == pytest.approx(1 + 1 + 4, rel=0.05)


def test_identical_sets_are_at_zero_and_the_distance_is_symmetric():
    a, b = pictures(30), pictures(30, seed=1)
    assert measured(a, a)["frechet"] == pytest.approx(0, abs=1e-5)
    assert measured(a, b)["frechet"] == pytest.approx(measured(b, a)["frechet"], rel=1e-6)
    assert measured(a, b)["frechet"] > 0.01


def test_batch_size_and_order_of_the_sides_do_not_matter():
    a, b = pictures(23), pictures(23, seed=1)
    d = distance(standard=True)
    for start in range(0, 23, 5):
        d.update(b[start : start + 5], real=False)
        d.update(a[start : start + 5], real=True)
    whole = measured(a, b, standard=True)
    assert d.compute() == {
        "fid": pytest.approx(whole["fid"], rel=1e-6),
        "kid": pytest.approx(whole["kid"], rel=1e-5),
        "frechet": None,
    }


def test_float_images_are_rounded_to_8_bits_and_checked():
    a = pictures(10)
    d = distance()
    as_float = a.float().div(127.5).sub(1)
    expected = d.extractor(a)
    assert torch.equal(d.extractor(as_float + 0.3 / 127.5 * (as_float < 0)), expected)
    assert torch.equal(d.extractor(a.movedim(1, -1).contiguous().numpy()), expected)
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        d.update(a.float(), real=True)


def test_only_the_standard_weights_may_be_called_fid():
    a, b = pictures(12), pictures(12, seed=1)
    other, standard = measured(a, b), measured(a, b, standard=True)
    assert other["fid"] is None and other["kid"] is None and other["frechet"] > 0
    assert (
        standard["frechet"] is None
        and standard["fid"] == pytest.approx(other["frechet"])
        and standard["kid"] is not None
    )


def test_kid_of_equal_features_is_the_unbiased_estimate():
    features = torch.tensor([[0.0, 0, 0], [3.0, 0, 0], [0, 3.0, 0]])
    d = distance(standard=True)
    d.update_features(features, real=True)
    d.update_features(features, real=False)
    kernel = (features @ features.T / 3 + 1) ** 3
    expected = 2 * (kernel.sum() - kernel.trace()) / 6 - 2 * kernel.sum() / 9
    assert d.compute()["kid"] == pytest.approx(float(expected), rel=1e-5)


def test_kid_subsets_come_from_the_seed_alone(monkeypatch):
    monkeypatch.setattr(fid, "KID_SUBSET", 10)
    a, b = pictures(30), pictures(30, seed=1)
    first = measured(a, b, standard=True)["kid"]
    state = torch.random.get_rng_state()
    torch.rand(7)
    moved = torch.random.get_rng_state()
    assert measured(a, b, standard=True)["kid"] == first
    assert torch.equal(torch.random.get_rng_state(), moved)
    torch.random.set_rng_state(state)


@pytest.mark.filterwarnings("default:.*images a side.*")
def test_few_images_warn_and_one_image_measures_nothing():
    with pytest.warns(UserWarning, match="2,048"):
        assert measured(pictures(3), pictures(3, seed=1))["frechet"] is not None
    with pytest.warns(UserWarning):
        assert measured(pictures(1), pictures(1)) == {"fid": None, "kid": None, "frechet": None}


def test_damaged_and_wrong_inception_files_are_one_line(tmp_path):
    whole = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, whole)
    with pytest.raises(UserError, match="expected 6726825d") as e:
        load_extractor(whole)
    assert hashlib.sha256(whole.read_bytes()).hexdigest()[:8] in str(e.value) and "\n" not in str(e.value)
    cut = tmp_path / "cut.pth"
    torch.save({"weight": torch.zeros(10000)}, cut)
    cut.write_bytes(cut.read_bytes()[:5000])
    with pytest.raises(UserError, match="truncated"):
        load_extractor(cut)
    with pytest.raises(UserError, match="no such"):
        load_extractor(tmp_path / "none.pth")


def test_tensors_of_another_network_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    monkeypatch.setattr(fid, "INCEPTION_SHA", "")
    with pytest.raises(UserError, match="do not fit"):
        load_extractor(path)


def test_inception_file_loads_through_a_private_copy(tmp_path, monkeypatch):
    """Random weights in the real layout: the path that the real file takes, its fingerprint aside."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    monkeypatch.setattr(
        "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *a, **k: None
    )
    with monkeypatch.context() as m, torch.random.fork_rng():
        m.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        state = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).state_dict()
    path = tmp_path / "inception.pth"
    torch.save(state, path)
    monkeypatch.setattr(fid, "INCEPTION_SHA", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    opened, load = [], torch.load
    monkeypatch.setattr(
        torch, "load", lambda f, *a, **k: opened.append((str(f), k.get("weights_only"))) or load(f, *a, **k)
    )
    extractor = load_extractor(path)
    assert extractor.standard and extractor.num_features == 2048
    assert all(safe for name, safe in opened if name == str(path))  # ours is never unpickled
    assert not extractor.network.network.use_antialias
    features = extractor(pictures(2, size=16))
    assert features.shape == (2, 2048) and torch.isfinite(features).all()
    assert extractor.description["sha256"].startswith(fid.INCEPTION_SHA)


def test_classifier_features_are_named(tmp_path):
    from common import checkpoint
    from models.classifier.network import AttributeClassifier

    network = AttributeClassifier(c_dim=2, width=8, image_size=16)
    path = tmp_path / "classifier.safetensors"
    checkpoint.save_weights(
        path,
        network.state_dict(),
        {"kind": "classifier", "options": network.options, "attributes": ["a", "b"]},
    )
    extractor = load_extractor(classifier=path)
    assert not extractor.standard and extractor.description["name"] == "attribute-classifier"
    x = pictures(4, size=24)
    assert torch.allclose(extractor(x), network.eval().features(x.float() / 127.5 - 1), atol=1e-5)
    assert extractor.description["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    d = Distance(extractor)
    d.update(x, real=True), d.update(pictures(4, seed=1, size=24), real=False)
    assert d.compute()["frechet"] >= 0


def test_kid_keeps_a_bounded_sample_that_no_order_changes(monkeypatch):
    monkeypatch.setattr(fid, "KID_KEPT", 12)
    monkeypatch.setattr(fid, "KID_SUBSET", 5)
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(60, 3, generator=rng), torch.randn(60, 3, generator=rng) + 1
    names = [f"{n}.png" for n in range(60)]

    def kid(order, size):
        d = distance(standard=True)
        for part in order.split(size):
            keys = [names[i] for i in part]
            d.update_features(a[part], True, keys)
            d.update_features(b[part], False, keys)
            assert len(d.samples[0].features) <= 12
        return d.compute()["kid"]

    once = kid(torch.arange(60), 60)
    assert kid(torch.arange(60).flip(0), 7) == pytest.approx(once, rel=1e-6) and once > 0
