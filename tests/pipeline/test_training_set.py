"""The samples that a detector learns from, for whoever asks: the same photos, fakes and caches as
train_detector.py has."""

import numpy as np
import pytest
import torch

import detectors
from common import images
from common.cli import UserError
from models.detector.samples import FAKE, REAL, join
from pipeline.fakes import random_domains
from pipeline.training_set import TrainingSet

stage, opened = detectors.stage, detectors.opened


def training_set(opened_stage, **others):
    """A TrainingSet of B made of its parts alone, as a filter makes it."""
    options, ctx, faces, attack = opened_stage.options, opened_stage.ctx, opened_stage.b, opened_stage.attack
    return TrainingSet(options, ctx, faces, opened_stage.standard, **{"attack": attack, **others})


def same(a, b):
    return a.ids == b.ids and a.domains == b.domains and np.array_equal(a.pixels, b.pixels)


def caches(results):
    return {p.relative_to(results): p.stat().st_mtime_ns for p in results.rglob("*.png")}


@pytest.mark.parametrize(
    "more, rate, purified",
    [
        ("--condition clean", 0, False),
        ("--condition disrupted --poison_rate 0.25", 0.25, False),
        ("--condition purified --defense_model_type jpeg --poison_rate 0.5", 0.5, True),
    ],
)
def test_they_are_what_the_detector_is_trained_on_and_nothing_is_made_twice(stage, more, rate, purified):
    opened_stage = opened(stage[0], more)
    trained_on, made = join(opened_stage.training()), caches(stage[1])
    assert same(
        training_set(opened_stage, purifier=opened_stage.purifier).samples(rate, purified), trained_on
    )
    assert caches(stage[1]) == made


def test_photos_and_fakes_by_hand(stage):
    opened_stage = opened(stage[0], "--condition disrupted")
    faces, mine = opened_stage.b, training_set(opened_stage)
    samples = mine.samples()
    assert samples.ids == [f"{kind}/{name}" for name in faces.names for kind in ("real", "fake")]
    assert samples.labels.tolist() == [REAL, FAKE] * 20 and np.array_equal(
        samples.pixels[::2], faces.load(range(20))
    )
    domains = random_domains(
        faces.names, faces.labels, opened_stage.options.selected_attrs, opened_stage.options.seed
    )
    assert mine.domains == dict(zip(faces.names, domains, strict=True))
    assert samples.domains == [d for k in domains for d in (None, opened_stage.options.selected_attrs[k])]
    assert mine.attacked_key is None


def test_the_poisoned_ones_are_those_that_differ_from_the_clean_ones(stage):
    mine = training_set(opened(stage[0], "--condition disrupted"))
    clean, poisoned = mine.samples(), mine.samples(0.25)
    changed = [
        one
        for one, a, b in zip(clean.ids, clean.pixels, poisoned.pixels, strict=True)
        if not np.array_equal(a, b)
    ]
    assert (
        set(changed) == {f"{kind}/{name}" for name in mine.disrupted(0.25) for kind in ("real", "fake")}
        and len(changed) == 10
    )
    assert (
        mine.attacked_key
        and mine.disrupted(0) == set()
        and mine.disrupted(0.25) < mine.disrupted(1) == set(mine.faces.names)
    )


def test_only_some_photos_are_those_of_the_whole_set(stage):
    opened_stage = opened(stage[0], "--condition purified --defense_model_type jpeg")
    mine = training_set(opened_stage, purifier=opened_stage.purifier)
    chosen = mine.faces.names[3:9]
    some = mine.samples(0.5, True, only=set(chosen))

    def count(kind):
        return len(list((stage[1] / kind).rglob("*.png")))

    assert count("purified") == 6 and count("attacked") == len(mine.disrupted(0.5) & set(chosen))
    whole = mine.samples(0.5, True)
    assert same(some, whole.subset([i for i, name in enumerate(whole.names) if name in chosen]))


def test_photos_alone_are_those_of_the_whole_set_and_no_fake_is_made(stage):
    opened_stage = opened(stage[0], "--condition purified --defense_model_type jpeg")
    mine = training_set(opened_stage, purifier=opened_stage.purifier)
    photos = mine.samples(0.5, True, fakes=False)
    assert photos.labels.tolist() == [REAL] * 20 and not (stage[1] / "fakes").exists()
    whole = mine.samples(0.5, True)
    assert same(photos, whole.subset([i for i, label in enumerate(whole.labels) if label == REAL]))


def test_without_an_attack_or_a_purifier_there_are_clean_photos(stage):
    opened_stage = opened(stage[0], "--condition clean")
    mine = training_set(opened_stage, attack=None)
    assert (
        same(mine.samples(), join(opened_stage.training()))
        and not (stage[1] / "attacked").exists()
        and not (stage[1] / "purified").exists()
    )


def test_a_photo_that_no_domain_changes_is_told_before_any_work(stage, tmp_path):
    single = detectors.translator(tmp_path / "one.safetensors", c_dim=1)
    with pytest.raises(UserError, match="none of the target domains Black_Hair changes its labels"):
        opened(stage[0], f"--condition clean --gan_weights {single} --selected_attrs Black_Hair")
    assert not stage[1].exists()


def test_fakes_are_the_translators(stage):
    opened_stage = opened(stage[0], "--condition clean")
    samples = training_set(opened_stage).samples()
    real, fake = samples.pixels[0], samples.pixels[1]
    own = opened_stage.b.labels[0]
    target = own.clone()
    k = opened_stage.options.selected_attrs.index(samples.domains[1])
    target[:3] = 0 if k < 3 else target[:3]
    target[k] = 1 if k < 3 else 1 - own[k]
    made = opened_stage.standard(images.to_float(real)[None], target[None]).clamp(-1, 1)
    assert np.abs(images.to_uint8(made)[0].astype(int) - fake).max() <= 1 and not torch.equal(own, target)
