"""Photos as scraped: which of them are disrupted, and that a purifier gets all of them, from the caches that
test_defense.py uses."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import attacks
from common import images
from common.distributed import Context
from faces.celeba import FaceFolder
from pipeline.attacked import AttackedPhotos
from pipeline.purified import PurifiedPhotos
from pipeline.scraped import Scraped, disrupted_names
from purify import build

CPU = Context(0, 1, torch.device("cpu"))
NAMES = [f"{i + 1:06d}.jpg" for i in range(50)]
ATTRIBUTES = ["Male", "Young"]


@pytest.mark.parametrize(
    "rate, count", [(0, 0), (0.01, 0), (0.02, 1), (0.3, 15), (0.5, 25), (0.99, 50), (1, 50)]
)
def test_the_share_is_exact(rate, count):
    found = disrupted_names(NAMES, rate, 0)
    assert len(found) == count == round(rate * 50) and found <= set(NAMES)


def test_a_higher_rate_adds_to_a_lower_one_whatever_the_order():
    found = [disrupted_names(NAMES, rate / 10, 0) for rate in range(11)]
    assert all(a < b for a, b in pairwise(found))
    assert disrupted_names(NAMES[::-1], 0.4, 0) == found[4]
    assert disrupted_names(NAMES, 0.4, 1) != found[4]


@pytest.fixture
def stage(tmp_path, face_folder):
    """make(rate, purifier) -> Scraped over eight photos, its disrupted photos made; noise stands for a
    disruption."""
    faces = FaceFolder(face_folder(8), ATTRIBUTES, crop=40, size=32)
    attack = attacks.build("gaussian", None, 0.2)

    def make(rate, purifier=None):
        hit, attacked = disrupted_names(faces.names, rate, 0), None
        if hit:
            attacked = AttackedPhotos(
                attack,
                "original",
                faces.subset([n for n in faces.names if n in hit]),
                ATTRIBUTES,
                tmp_path / "attacked",
                faces.preparation,
                0,
            )
            attacked.fill(CPU, 4)
        made = Scraped(faces, attacked, hit, purifier, tmp_path / "purified", 0)
        made.fill(CPU, 3)
        return made, hit, attacked

    make.faces, make.root = faces, tmp_path
    return make


def plain(stage, names):
    return stage.faces.floats([stage.faces.names.index(n) for n in names])


def test_parts_at_every_rate(stage):
    (part,) = stage(0)[0].parts
    assert part.names == stage.faces.names and part.key == {"photos": stage.faces.preparation}
    assert torch.equal(part.floats(part.names[::-1]), plain(stage, part.names[::-1]))
    scraped, hit, attacked = stage(0.5)
    spared, struck = scraped.parts
    assert set(struck.names) == hit and len(hit) == 4 and set(spared.names) == set(stage.faces.names) - hit
    assert spared.names == sorted(spared.names) and struck.names == sorted(struck.names)
    assert struck.key == attacked.caches[0].key != spared.key
    assert torch.equal(spared.floats(spared.names), plain(stage, spared.names))
    assert torch.equal(struck.floats(struck.names), attacked.floats(struck.names))
    assert ((struck.floats(struck.names) - plain(stage, struck.names)).abs().amax((1, 2, 3)) > 0.1).all()
    scraped, _, attacked = stage(1)
    (part,) = scraped.parts
    assert (
        part.names == stage.faces.names
        and part.key == attacked.caches[0].key
        and torch.equal(part.floats(part.names), attacked.floats(part.names))
    )


@pytest.mark.parametrize("purifier", [None, "none"])
def test_without_a_purifier_photos_stay_as_scraped(stage, purifier):
    scraped, _, attacked = stage(0.5, purifier and build(purifier))
    spared, struck = scraped.parts
    assert (
        spared.key == {"photos": stage.faces.preparation}
        and struck.key == attacked.caches[0].key
        and not scraped.purified
    )
    assert (
        torch.equal(spared.floats(spared.names), plain(stage, spared.names))
        and not (stage.root / "purified").exists()
    )


@pytest.mark.parametrize("rate", [0, 0.5, 1])
def test_a_purifier_gets_all_photos_disrupted_or_not(stage, rate):
    jpeg = build("jpeg", quality=30)
    scraped, hit, attacked = stage(rate, jpeg)
    assert sorted(n for part in scraped.parts for n in part.names) == stage.faces.names
    assert len(list((stage.root / "purified").rglob("*.png"))) == 8
    for part in scraped.parts:
        inputs = attacked.floats(part.names) if set(part.names) <= hit else plain(stage, part.names)
        assert np.array_equal(images.to_uint8(part.floats(part.names)), images.to_uint8(jpeg(inputs)))
        assert all(not torch.equal(a, b) for a, b in zip(part.floats(part.names), inputs, strict=True))


def test_caches_are_those_of_test_defense(stage):
    """Undisturbed photos under {"photos": preparation}, disrupted ones under the key of their cache; nothing
    is purified again."""
    jpeg = build("jpeg", quality=30)
    scraped, hit, attacked = stage(0.5, jpeg)
    spared, struck = scraped.parts
    theirs = [
        PurifiedPhotos(jpeg, key, None, stage.root / "purified", 0, "fp32", stage.faces.fingerprints())
        for key in ({"photos": stage.faces.preparation}, attacked.caches[0].key)
    ]
    assert [p.key for p in scraped.parts] == [t.cache.key for t in theirs]
    assert (
        theirs[0].cache.missing(stage.faces.names) == struck.names
        and theirs[1].cache.missing(stage.faces.names) == spared.names
    )


def test_rates_share_what_was_purified(stage):
    def times():
        return {p: p.stat().st_mtime_ns for p in (stage.root / "purified").rglob("*.png")}

    stage(0.5, build("jpeg"))
    half = times()
    for rate in (0, 1):
        stage(rate, build("jpeg"))
    whole = times()
    assert len(half) == 8 and len(whole) == 16 and all(whole[p] == t for p, t in half.items())
