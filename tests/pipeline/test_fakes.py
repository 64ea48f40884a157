"""One fake of each photo, in a domain that changes its label; what is there is never made again."""

import numpy as np
import pytest
import torch

from common import images
from common.cli import RunError, UserError
from common.distributed import Context
from models.conditions import create_labels
from models.translators import Translator
from pipeline.fakes import FakePhotos, random_domains

CPU = Context(0, 1, torch.device("cpu"))
ATTRIBUTES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]


@pytest.fixture
def stage(tmp_path, faces, tiny_generator):
    """make(...) -> FakePhotos of eight photos; what they are made from, and the names that were translated,
    beside it."""
    x, c = faces(8)
    names = [f"{i + 1:06d}.jpg" for i in range(8)]
    photos, seen = dict(zip(names, x, strict=True)), []

    def inputs(some):
        seen.extend(some)
        return torch.stack([photos[n] for n in some])

    def make(labels=c, sha="a" * 64, key="plain", sources=None, precision="fp32", domains=None):
        domains = domains or dict(zip(names, random_domains(names, c, ATTRIBUTES, 0), strict=True))
        return FakePhotos(
            Translator(tiny_generator, sha),
            "stargan",
            ATTRIBUTES,
            key,
            inputs,
            dict(zip(names, labels, strict=True)),
            domains,
            tmp_path / "fakes",
            sources or dict.fromkeys(names, "0" * 16),
            precision,
        )

    make.names, make.x, make.labels, make.root, make.photos, make.seen = (
        names,
        x,
        c,
        tmp_path / "fakes",
        photos,
        seen,
    )
    return make


def fakes_of(stage, generator, domains):
    """uint8 (8, H, W, 3): each photo translated alone."""
    with torch.no_grad():
        made = [
            generator(x[None], create_labels(c[None], ATTRIBUTES)[k])
            for x, c, k in zip(stage.x, stage.labels, domains, strict=True)
        ]
    return images.to_uint8(torch.cat(made).clamp(-1, 1))


def times(root):
    return {p: p.stat().st_mtime_ns for p in root.rglob("*.png")}


def test_a_fake_is_what_the_translator_makes_of_the_photo_and_its_domain(stage, tiny_generator):
    made = stage()
    wanted = fakes_of(stage, tiny_generator, made.domains.values())
    made.fill(stage.names, CPU, 1)
    found = made.load(stage.names)
    assert found.dtype == np.uint8 and found.shape == (8, 32, 32, 3) and np.array_equal(found, wanted)
    assert np.array_equal(made.load(stage.names[::-1]), found[::-1])
    assert (np.abs(found.astype(int) - images.to_uint8(stage.x)).max(axis=(1, 2, 3)) > 10).all()
    for path in times(stage.root):
        path.unlink()
    made.fill(stage.names, CPU, 8)
    # float rounding in a batch of another size
    assert np.abs(made.load(stage.names).astype(int) - wanted).max() <= 1


def test_each_name_lies_in_the_folder_of_its_domain(stage):
    made = stage()
    made.fill(stage.names, CPU, 4)
    found = {p.stem: p.parent.name.rpartition("-")[0] for p in times(stage.root)}
    assert (
        found == {n.split(".")[0]: f"stargan-{ATTRIBUTES[k]}" for n, k in made.domains.items()}
        and len(set(found.values())) > 1
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_domain_always_changes_the_labels(faces, seed):
    _, c = faces(60)
    names = [f"{i}.jpg" for i in range(60)]
    domains, targets = random_domains(names, c, ATTRIBUTES, seed), create_labels(c, ATTRIBUTES)
    assert len(domains) == 60 and all(not torch.equal(targets[k, i], c[i]) for i, k in enumerate(domains))
    # nobody is given the hair that they have
    assert all(not (k < 3 and c[i, k] == 1) for i, k in enumerate(domains)) and set(domains) == set(range(5))


def test_a_domain_depends_on_seed_and_name_alone(faces):
    _, c = faces(40)
    names = [f"{i}.jpg" for i in range(40)]

    def of(rows, seed=0):
        return dict(
            zip(
                [names[i] for i in rows],
                random_domains([names[i] for i in rows], c[list(rows)], ATTRIBUTES, seed),
                strict=True,
            )
        )

    whole = of(range(40))
    assert of(range(39, -1, -1)) == whole and of(range(40)) == whole
    assert of([7, 3, 21]) == {names[i]: whole[names[i]] for i in (7, 3, 21)}
    assert of(range(40), seed=1) != whole


def test_a_photo_that_no_domain_changes_is_named():
    """Black hair, and nothing but hair colours to choose from where there is only that one."""
    c = torch.tensor([[0.0], [1.0]])
    assert random_domains(["a.jpg"], c[:1], ["Black_Hair"], 0) == [0]
    with pytest.raises(UserError, match="b.jpg: none of the target domains .* changes its labels"):
        random_domains(["a.jpg", "b.jpg"], c, ["Black_Hair"], 0)


def test_nothing_is_made_twice_and_more_photos_extend_it(stage):
    stage().fill(stage.names[:5], CPU, 2)
    before = times(stage.root)
    assert sorted(stage.seen) == stage.names[:5] and len(before) == 5
    stage().fill(stage.names, CPU, 3)
    stage().fill(stage.names, CPU, 8)
    after = times(stage.root)
    assert sorted(stage.seen) == stage.names and len(after) == 8 and {p: after[p] for p in before} == before


def test_other_labels_make_another_fake(stage):
    """In one domain, Male, a photo whose own label Young was corrected is translated again, the others are
    not."""
    men = dict.fromkeys(stage.names, ATTRIBUTES.index("Male"))
    made = stage(domains=men)
    made.fill(stage.names, CPU, 1)
    was, before = made.load(stage.names), times(stage.root)
    labels = stage.labels.clone()
    labels[2, 4] = 1 - labels[2, 4]
    stage(domains=men, labels=labels).fill(stage.names, CPU, 1)
    found, after = made.load(stage.names), times(stage.root)
    assert [np.array_equal(a, b) for a, b in zip(was, found, strict=True)] == [i != 2 for i in range(8)]
    assert {p.stem for p in before if after[p] != before[p]} == {"000003"}


def test_another_translator_input_or_precision_has_caches_of_its_own(stage):
    keys = [
        {c.key for c in stage(**change).caches}
        for change in ({}, {"sha": "b" * 64}, {"key": "disrupted"}, {"precision": "bf16"})
    ]
    assert all(len(k) == 5 for k in keys) and len(set.union(*keys)) == 20
    for sha in ("a" * 64, "b" * 64):
        stage(sha=sha).fill(stage.names, CPU, 8)
    assert len(times(stage.root)) == 16


def test_a_photo_that_was_replaced_has_a_new_fake(stage):
    stage().fill(stage.names, CPU, 8)
    before = times(stage.root)
    replaced = stage(sources={n: ("1" if n == stage.names[0] else "0") * 16 for n in stage.names})
    stage.photos[stage.names[0]] = -stage.x[0]
    replaced.fill(stage.names, CPU, 8)
    after = times(stage.root)
    assert {p.stem for p in before if after[p] != before[p]} == {"000001"}


def test_several_processes_share_the_work(stage):
    """Rank 0 is done before the others look what is missing: all go by its list, so no photo is left out and
    none is made twice."""
    shares, sent = [], []
    for rank in range(3):
        ctx = Context(rank, 3, torch.device("cpu"))
        ctx.barrier, ctx.broadcast = (
            lambda: None,
            lambda value: sent[0] if sent else sent.append(value) or value,
        )
        stage.seen.clear()
        stage().fill(stage.names, ctx, 2)
        shares.append(list(stage.seen))
    assert sorted(sum(shares, [])) == stage.names and [len(share) for share in shares] == [3, 3, 2]


def test_a_fake_is_asked_for_as_its_translator_is_asked(stage, tiny_generator):
    class Difference(Translator):
        def condition(self, c_org, target):
            return target - c_org

    made = stage()
    made.translator = Difference(tiny_generator, "b" * 64)
    made.fill(stage.names, CPU, 4)
    with torch.no_grad():
        k = made.domains[stage.names[0]]
        wanted = tiny_generator(
            stage.x[:1], create_labels(stage.labels[:1], ATTRIBUTES)[k] - stage.labels[:1]
        )
    assert (
        torch.from_numpy(made.load(stage.names[:1])).int()
        - torch.from_numpy(images.to_uint8(wanted.clamp(-1, 1))).int()
    ).abs().max() <= 1


def test_fakes_that_are_not_finite_are_not_kept(stage, monkeypatch):
    fakes = stage()
    monkeypatch.setattr(Translator, "forward", lambda self, x, c: x * float("nan"))
    with pytest.raises(RunError, match="not made of finite numbers"):
        fakes.fill(stage.names, CPU, 4)
    assert not [path for cached in fakes.caches for path in cached.folder.glob("*.png")]
