"""Self-blended fakes: what they change of a photo and where, and what they depend on."""

import numpy as np
import pytest
import torch

from common import images, seeds
from models.detector import self_blended as module
from models.detector.samples import FAKE, Samples
from models.detector.self_blended import RATIOS, blend, self_blended


@pytest.fixture
def photos(faces):
    """Twelve, of 48 pixels."""
    x, _ = faces(12, 48)
    names = [f"{i:06d}.jpg" for i in range(12)]
    return Samples(names, [None] * 12, torch.zeros(12, dtype=torch.int64), images.to_uint8(x))


def test_a_fake_of_each_photo(photos):
    before = photos.pixels.copy()
    fakes = self_blended(photos, 0)
    assert fakes.names == photos.names and fakes.labels.tolist() == [FAKE] * 12
    assert fakes.domains == [None] * 12 and fakes.labels.dtype == torch.int64
    assert fakes.pixels.shape == before.shape and fakes.pixels.dtype == np.uint8
    assert np.array_equal(photos.pixels, before)
    assert all((a != b).any() for a, b in zip(fakes.pixels, before, strict=True))


def test_they_depend_on_seed_name_and_photo_alone(photos, monkeypatch):
    fakes = self_blended(photos, 0)
    assert np.array_equal(self_blended(photos, 0).pixels, fakes.pixels)
    some = [7, 2, 5]
    assert np.array_equal(self_blended(photos.subset(some), 0).pixels, fakes.pixels[some])
    monkeypatch.setattr(module, "AT_A_TIME", 5)
    assert np.array_equal(self_blended(photos, 0).pixels, fakes.pixels)
    others = Samples(photos.names[::-1], photos.domains, photos.labels, photos.pixels)
    for other in (self_blended(photos, 1), self_blended(others, 0)):
        assert all((a != b).any() for a, b in zip(other.pixels, fakes.pixels, strict=True))


def test_the_border_of_a_photo_stays_and_its_face_changes(photos):
    change = np.abs(self_blended(photos, 0).pixels.astype(int) - photos.pixels).max(-1)  # (N, H, W)
    inside = np.zeros((48, 48), bool)
    inside[6:46, 3:45] = True
    assert not change[:, ~inside].any() and (change[:, 20:36, 18:30].reshape(12, -1).max(1) > 0).all()


def test_masks_are_soft_lie_on_the_face_and_differ(faces):
    x, _ = faces(40, 48)
    masks = module._masks(x, seeds.named(0, map(str, range(40))))
    assert masks.shape == (40, 1, 48, 48) and masks.min() == 0 and masks.max() == 1
    assert (masks.amax((1, 2, 3)) > 0.9).all() and ((masks > 0) & (masks < 1)).any((1, 2, 3)).all()
    share = masks.mean((1, 2, 3))
    assert share.min() > 0.02 and share.max() < 0.5 and share.std() > 0.02
    rows = torch.arange(48.0)[:, None] + 0.5
    centre = (masks * rows).sum((1, 2, 3)) / masks.sum((1, 2, 3)) / 48
    assert ((centre - 0.6).abs() < 0.1).all() and centre.mean().item() == pytest.approx(0.6, abs=0.03)


def test_the_share_of_the_copy_is_one_of_the_papers(faces, monkeypatch):
    """Of a black photo with a white copy and a mask of ones, what is left is the ratio."""
    monkeypatch.setattr(module, "_masks", lambda x, rng: torch.ones_like(x[:, :1]))
    monkeypatch.setattr(module, "_moved", lambda x, rng: torch.ones_like(x))
    x = torch.full((200, 3, 8, 8), -1.0)
    found = (blend(x, seeds.named(0, map(str, range(200)))) + 1)[:, 0, 0, 0] / 2
    counts = {r: (found == r).sum().item() for r in sorted(set(RATIOS))}
    assert sum(counts.values()) == 200 and all(15 < counts[r] < 55 for r in (0.25, 0.5, 0.75))
    assert 75 < counts[1.0] < 125
