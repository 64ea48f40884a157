"""One fake of each photo, in a domain that changes its label; what is there is never made again."""
import numpy as np
import pytest
import torch

from common import images
from common.distributed import Context
from models.stargan.cached import FakePhotos, random_domains
from models.stargan.frozen import Translator
from models.stargan.labels import create_labels

CPU = Context(0, 1, torch.device("cpu"))
ATTRIBUTES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]


@pytest.fixture
def stage(tmp_path, faces, tiny_generator):
    """make(...) -> FakePhotos of eight photos, with what they are made from beside it."""
    x, c = faces(8)
    names = [f"{i + 1:06d}.jpg" for i in range(8)]

    def make(names=names, labels=c, sha="a" * 64, key="plain", sources=None, precision="fp32"):
        made = FakePhotos(Translator(tiny_generator, sha), "stargan", ATTRIBUTES, key, lambda some: torch.stack([photos[n] for n in some]), dict(zip(names, labels)),
                          {n: k for n, k in zip(names, random_domains(names, labels, ATTRIBUTES, 0))}, tmp_path / "fakes", sources or {n: "0" * 16 for n in names}, precision)
        made.names = names
        return made
    photos = dict(zip(names, x))
    make.names, make.x, make.labels, make.root, make.photos = names, x, c, tmp_path / "fakes", photos
    return make


def fakes_of(stage, generator, domains):
    """uint8 (8, H, W, 3): each photo translated alone."""
    with torch.no_grad():
        made = [generator(x[None], create_labels(c[None], ATTRIBUTES)[k]) for x, c, k in zip(stage.x, stage.labels, domains)]
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
    assert np.abs(made.load(stage.names).astype(int) - wanted).max() <= 1                # float rounding in a batch of another size


def test_each_name_lies_in_the_folder_of_its_domain(stage):
    made = stage()
    made.fill(stage.names, CPU, 4)
    found = {p.stem: p.parent.name.rpartition("-")[0] for p in times(stage.root)}
    assert found == {n.split(".")[0]: f"stargan-{ATTRIBUTES[k]}" for n, k in made.domains.items()} and len(set(found.values())) > 1


@pytest.mark.parametrize("seed", range(5))
def test_a_domain_always_changes_the_labels(faces, seed):
    _, c = faces(60)
    names = [f"{i}.jpg" for i in range(60)]
    domains, targets = random_domains(names, c, ATTRIBUTES, seed), create_labels(c, ATTRIBUTES)
    assert len(domains) == 60 and all(not torch.equal(targets[k, i], c[i]) for i, k in enumerate(domains))
    assert all(not (k < 3 and c[i, k] == 1) for i, k in enumerate(domains)) and set(domains) == set(range(5))     # nobody is given the hair that they have


def test_a_domain_depends_on_seed_and_name_alone(faces):
    _, c = faces(40)
    names = [f"{i}.jpg" for i in range(40)]
    of = lambda rows, seed=0: dict(zip([names[i] for i in rows], random_domains([names[i] for i in rows], c[list(rows)], ATTRIBUTES, seed)))
    whole = of(range(40))
    assert of(range(39, -1, -1)) == whole and of(range(40)) == whole
    assert of([7, 3, 21]) == {names[i]: whole[names[i]] for i in (7, 3, 21)}
    assert of(range(40), seed=1) != whole


def test_a_photo_that_no_domain_changes_is_named():
    """Black hair, and nothing but hair colours to choose from where there is only that one."""
    c = torch.tensor([[0.0], [1.0]])
    assert random_domains(["a.jpg"], c[:1], ["Black_Hair"], 0) == [0]
    with pytest.raises(ValueError, match="b.jpg: no target domain changes its labels"):
        random_domains(["a.jpg", "b.jpg"], c, ["Black_Hair"], 0)


def test_nothing_is_made_twice_and_more_photos_extend_it(stage):
    seen, made = [], stage()
    inputs = made.inputs
    made.inputs = lambda names: seen.extend(names) or inputs(names)
    made.fill(stage.names[:5], CPU, 2)
    before = times(stage.root)
    assert sorted(seen) == stage.names[:5] and len(before) == 5
    made.fill(stage.names, CPU, 3)
    made.fill(stage.names, CPU, 8)
    after = times(stage.root)
    assert sorted(seen) == stage.names and len(after) == 8 and {p: after[p] for p in before} == before


def test_other_labels_make_another_fake(stage):
    """The folder is the domain's; a photo whose own labels were corrected is translated again, the others are not."""
    made = stage()
    made.fill(stage.names, CPU, 1)
    was, before = made.load(stage.names), times(stage.root)
    labels = stage.labels.clone()
    labels[2, 4] = 1 - labels[2, 4]
    changed = stage(labels=labels)
    changed.domains[stage.names[2]] = made.domains[stage.names[2]] = 3                   # Male: the target keeps Young
    assert changed.caches[3].missing(stage.names[2:3]) == stage.names[2:3]
    made.fill(stage.names, CPU, 1)
    was = made.load(stage.names)
    changed.fill(stage.names, CPU, 1)
    found = changed.load(stage.names)
    assert [np.array_equal(a, b) for a, b in zip(was, found)] == [i != 2 for i in range(8)]
    assert all(times(stage.root)[p] == t for p, t in before.items() if p.stem != "000003")


def test_another_translator_input_or_precision_has_caches_of_its_own(stage):
    keys = [{c.key for c in stage(**change).caches} for change in ({}, {"sha": "b" * 64}, {"key": "disrupted"}, {"precision": "bf16"})]
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
    part = lambda rank: Context(rank, 2, torch.device("cpu"))
    one, other = (stage() for _ in range(2))
    for rank, made in ((0, one), (1, other)):
        ctx = part(rank)
        ctx.barrier = lambda: None
        made.todo = []
        inputs = made.inputs
        made.inputs = lambda names, inputs=inputs, todo=made.todo: todo.extend(names) or inputs(names)
        missing = {id(c): c.missing for c in made.caches}
        for c in made.caches:
            c.missing = lambda names: list(names)                                          # as if both looked before either has begun
        made.fill(stage.names, ctx, 2)
        for c in made.caches:
            c.missing = missing[id(c)]
    assert sorted(one.todo + other.todo) == stage.names and abs(len(one.todo) - len(other.todo)) <= 1
