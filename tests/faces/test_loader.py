"""Batches depend on (seed, step) alone: not on what was asked before, nor on the number of processes."""

import pytest
import torch

from common import seeds
from common.cli import UserError
from common.distributed import Context
from faces.celeba import FaceFolder
from faces.loader import Batches

CPU = torch.device("cpu")


@pytest.fixture
def ten(face_folder):
    return FaceFolder(face_folder(10), ["Male", "Young"], crop=40, size=16)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_shapes_ranges_and_positions(ten):
    x, c, positions = Batches(ten, 4, 0, Context(0, 1, CPU)).get(3)
    assert x.shape == (4, 3, 16, 16) and x.dtype == torch.float32 and x.abs().max() <= 1
    assert c.shape == (4, 2) and set(c.flatten().tolist()) <= {0.0, 1.0}
    assert positions.tolist() == [12, 13, 14, 15]


def test_every_epoch_is_another_permutation_across_batch_borders(ten):
    batches = Batches(ten, 4, 0, Context(0, 1, CPU))
    # 40 positions = 4 epochs of 10
    rows = torch.cat([batches.rows(k) for k in range(10)]).tolist()
    epochs = [rows[k : k + 10] for k in range(0, 40, 10)]
    assert all(sorted(e) == list(range(10)) for e in epochs) and len({tuple(e) for e in epochs}) == 4
    assert Batches(ten, 4, 1, Context(0, 1, CPU)).rows(0).tolist() != rows[:4]


@pytest.mark.parametrize("world", [1, 3])
def test_position_p_is_photo_p_mod_n_of_its_epochs_permutation(ten, world):
    for batch_size in (3, 6, 24):
        for rank in range(world):
            batches = Batches(ten, batch_size, 2, Context(rank, world, CPU))
            for step in range(8):
                assert batches.rows(step).tolist() == [
                    int(torch.randperm(10, generator=seeds.generator(2, "epoch", p // 10))[p % 10])
                    for p in batches.positions(step).tolist()
                ]


def test_labels_and_photos_belong_together(ten):
    batches = Batches(ten, 4, 0, Context(0, 1, CPU), flip=False)
    x, c, _ = batches.get(7)
    rows = batches.rows(7)
    assert torch.equal(x, ten.floats(rows)) and torch.equal(c, ten.labels[rows])


def test_step_alone_decides(ten):
    one, other = (Batches(ten, 4, 0, Context(0, 1, CPU)) for _ in range(2))
    wanted = one.get(6)
    for step in (90, 2, 31, 5):
        other.get(step)
    assert same(wanted, other.get(6))


@pytest.mark.parametrize("world", [2, 3])
def test_the_shards_of_a_step_are_the_whole_batch(ten, world):
    for step in (0, 1, 4):
        whole = Batches(ten, 6, 5, Context(0, 1, CPU)).get(step)
        parts = [Batches(ten, 6, 5, Context(rank, world, CPU)).get(step) for rank in range(world)]
        assert same(whole, [torch.cat(p) for p in zip(*parts, strict=True)])


def test_flips_mirror_about_half_and_nothing_else(ten):
    ctx = Context(0, 1, CPU)
    plain, flipped = Batches(ten, 10, 0, ctx, flip=False), Batches(ten, 10, 0, ctx)
    mirrored = 0
    for step in range(20):
        for a, b in zip(plain.get(step)[0], flipped.get(step)[0], strict=True):
            mirrored += bool(torch.equal(a.flip(-1), b))
            assert torch.equal(a, b) or torch.equal(a.flip(-1), b)
    assert 70 <= mirrored <= 130


def test_a_batch_may_exceed_the_folder(ten):
    assert sorted(Batches(ten, 20, 0, Context(0, 1, CPU)).rows(0).tolist()) == sorted(2 * list(range(10)))


def test_a_batch_that_cannot_be_divided_is_refused(ten):
    with pytest.raises(
        UserError, match="--batch_size 15: cannot be divided among 4 processes; expected a multiple, 12"
    ):
        Batches(ten, 15, 0, Context(0, 4, CPU))
    with pytest.raises(UserError, match="no photos"):
        Batches(ten.subset([]), 4, 0, Context(0, 1, CPU))


def test_what_is_mirrored_depends_on_seed_and_position_alone(ten):
    """The coin of position p is that of the stream of (seed, "flip", p); about half are heads."""
    batches = Batches(ten, 4, 3, Context(0, 1, CPU), flip=False)
    found = batches.mirrored(torch.arange(400))
    assert found.dtype == torch.bool and found.tolist() == [
        bool(seeds.numbered([p], 3, "flip").integers(2)) for p in range(400)
    ]
    assert 160 <= int(found.sum()) <= 240
    assert batches.mirrored(torch.tensor([250, 7])).tolist() == [bool(found[250]), bool(found[7])]
    assert not torch.equal(found, Batches(ten, 4, 4, Context(0, 1, CPU)).mirrored(torch.arange(400)))
    assert torch.equal(
        found, Batches(ten.subset(ten.names[:3]), 2, 3, Context(1, 2, CPU)).mirrored(torch.arange(400))
    )


def test_a_batch_mirrors_what_mirrored_says(ten):
    plain, flipped = (Batches(ten, 8, 0, Context(1, 2, CPU), flip=flip) for flip in (False, True))
    for step in range(4):
        (x, _, positions), (y, _, _) = plain.get(step), flipped.get(step)
        told = flipped.mirrored(positions)
        assert torch.equal(y, torch.where(told[:, None, None, None], x.flip(-1), x)) and not torch.equal(
            x, x.flip(-1)
        )
