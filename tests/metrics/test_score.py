"""Every (photo, domain) pair is scored once, against the fake of the photo itself."""

import pytest
import torch

from common.cli import RunError
from common.distributed import Context
from metrics.score import SIDES, Score, score_all
from models.conditions import create_labels

ATTRIBUTES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]
NAMES = ["a", "b", "c", "d"]


def scored(generator, x, c, versions, batches=1, **more):
    score = Score(generator, ATTRIBUTES, None, 0, **more)
    for part in torch.arange(len(x)).chunk(batches):
        score.add(
            [NAMES[i] for i in part],
            x[part],
            score.references(x[part], c[part]),
            {k: [v[part] for v in vs] for k, vs in versions.items()},
        )
    return score.result(Context(0, 1, torch.device("cpu")))


def test_l2_is_the_mean_over_pairs_and_batches_do_not_matter(tiny_generator, faces):
    x, c = faces(4)
    y = (x + 0.1).clamp(-1, 1)
    versions = {"disrupted": [y], "purified": [x], "clean_purified": [x]}
    metrics, groups, num_images, num_pairs = scored(tiny_generator, x, c, versions)
    by_hand = torch.stack(
        [
            (tiny_generator(y, t) - tiny_generator(x, t)).square().mean(dim=(1, 2, 3))
            for t in create_labels(c, ATTRIBUTES)
        ]
    )
    assert (num_images, num_pairs) == (4, 20)
    assert metrics["disrupted"]["l2"] == pytest.approx(float(by_hand.mean()), rel=1e-5)
    assert groups["domain"]["Male"]["disrupted"]["l2"] == pytest.approx(float(by_hand[3].mean()), rel=1e-5)
    assert metrics["purified"]["l2"] == 0 and metrics["input"]["disrupted"]["linf"] == pytest.approx(
        0.1, abs=1e-5
    )
    again = scored(tiny_generator, x, c, versions, batches=4)[0]
    assert again["disrupted"]["l2"] == pytest.approx(metrics["disrupted"]["l2"], rel=1e-4)


def test_one_image_per_domain_is_scored_in_its_own_domain_only(tiny_generator, faces):
    x, c = faces(4)
    moved = [x] * 4 + [(x + 0.2).clamp(-1, 1)]
    metrics, groups, _, _ = scored(
        tiny_generator, x, c, {"disrupted": moved, "purified": [x], "clean_purified": [x]}
    )
    l2 = {k: v["disrupted"]["l2"] for k, v in groups["domain"].items()}
    assert l2["Young"] > 0 and all(l2[k] == 0 for k in ATTRIBUTES[:4])


def test_one_side_may_be_scored_alone_and_its_rows_are_kept(tiny_generator, faces):
    x, c = faces(4)
    y = (x + 0.1).clamp(-1, 1)
    all_sides = scored(tiny_generator, x, c, {"disrupted": [y], "purified": [x], "clean_purified": [x]})
    metrics, groups, num_images, num_pairs = scored(
        tiny_generator, x, c, {"disrupted": [y]}, sides=("disrupted",)
    )
    assert (
        set(metrics) == {"input", "disrupted"}
        and metrics["disrupted"] == all_sides[0]["disrupted"]
        and (num_images, num_pairs) == (4, 20)
    )
    assert metrics["input"] == {"disrupted": all_sides[0]["input"]["disrupted"]} and set(
        groups["domain"]["Male"]
    ) == {"disrupted"}
    score, ctx = (
        Score(tiny_generator, ATTRIBUTES, None, 0, sides=("disrupted",)),
        Context(0, 1, torch.device("cpu")),
    )
    score.add(NAMES, x, score.references(x, c), {"disrupted": [y]})
    rows, names = score.rows(ctx, "disrupted")
    assert names == sorted(NAMES * 5) and rows["l2"].mean() == pytest.approx(metrics["disrupted"]["l2"])
    assert score.rows(ctx, "disrupted", of="photos")[1] == NAMES


def test_the_distance_to_the_standard_translator_is_noted(tiny_generator, faces):
    x, c = faces(4)
    versions = {"disrupted": [x], "purified": [x], "clean_purified": [x]}

    def other(x, c):
        return tiny_generator(x, c) * 0.5

    metrics = scored(tiny_generator, x, c, versions, standard=other)[0]
    expected = torch.stack(
        [tiny_generator(x, t).mul(0.5).square().mean() for t in create_labels(c, ATTRIBUTES)]
    ).mean()
    assert metrics["clean_fake_to_standard"]["l2"] == pytest.approx(float(expected), rel=1e-5)
    assert "clean_fake_to_standard" not in scored(tiny_generator, x, c, versions)[0]


class Photos:
    """Four photos as score_all wants them."""

    def __init__(self, x, c):
        self.names, self.x, self.labels = NAMES, x, c

    def floats(self, rows):
        return self.x[rows]

    def named(self, names):
        return self.x[[NAMES.index(n) for n in names]]


def test_defences_share_the_disrupted_side_and_have_the_numbers_that_each_has_alone(tiny_generator, faces):
    x, c = faces(4)
    y = (x + 0.1).clamp(-1, 1)
    calls = []

    def counted(x, c):
        calls.append(len(x))
        return tiny_generator(x, c)

    def source(photos):
        return lambda names: photos[[NAMES.index(n) for n in names]]

    def other(x, c):
        return tiny_generator(x, c) * 0.5

    alone = [
        scored(tiny_generator, x, c, {"disrupted": [y], **own}, 2, standard=other)
        for own in (
            {"purified": [x], "clean_purified": [x]},
            {"purified": [y * 0.9], "clean_purified": [x * 0.9]},
        )
    ]
    shared = Score(counted, ATTRIBUTES, None, 0, standard=other, sides=SIDES[:1])
    scores = [Score(counted, ATTRIBUTES, None, 0, sides=SIDES[1:], shared=shared) for _ in range(2)]
    sources = [([source(x)], source(x)), ([source(y * 0.9)], source(x * 0.9))]
    ctx = Context(0, 1, torch.device("cpu"))
    score_all(scores, Photos(x, c), [source(y)], sources, ctx, 2)
    found = [score.result(ctx) for score in scores]
    assert found == alone
    assert [list(metrics) for metrics, *_ in found] == [list(metrics) for metrics, *_ in alone]
    assert len(calls) == 2 * 5 * (
        2 + 2 * 2
    )  # batches, domains, photo and disrupted once, two sides a defence


def test_a_source_that_several_name_is_read_and_its_fakes_made_once(tiny_generator, faces):
    x, c = faces(4)
    photos, reads, calls = Photos(x, c), [], []

    def counted(x, c):
        calls.append(len(x))
        return tiny_generator(x, c)

    def disrupted(names):
        reads.append(names)
        return photos.named(names) * 0.9

    shared = Score(counted, ATTRIBUTES, None, 0, sides=SIDES[:1])
    score = Score(counted, ATTRIBUTES, None, 0, sides=SIDES[1:], shared=shared)
    ctx = Context(0, 1, torch.device("cpu"))
    score_all([score], photos, [disrupted], [([disrupted], photos.named)], ctx, 2)
    assert len(reads) == 2 and len(calls) == 2 * 5 * 2  # batches; domains of the photo and of the disrupted
    metrics = score.result(ctx)[0]
    assert metrics["purified"] == metrics["disrupted"] and metrics["clean_purified"]["l2"] == 0


def test_a_fake_that_is_not_finite_is_named(tiny_generator, faces):
    x, c = faces(4)
    y = x.clone()
    y[2, 0, 0, 0] = float("nan")
    with pytest.raises(RunError, match="c: its disrupted fake is not finite"):
        scored(tiny_generator, x, c, {"disrupted": [y]}, sides=("disrupted",))
