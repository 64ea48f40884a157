import pytest
import torch

from common.cli import UserError
from common.distributed import Context
from faces.loader import Batches
from models.starganv2.domains import Sampler, domain_table, domains_of

HAIR = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male"]


def rows(*texts):
    return torch.tensor([[float(v) for v in t] for t in texts])


def test_a_domain_is_a_combination_that_occurs():
    assert domain_table(rows("0", "1", "1"), ["Male"], 1) == [[0], [1]]
    assert domain_table(rows("11", "00", "11", "01"), ["Male", "Young"], 1) == [[0, 0], [0, 1], [1, 1]]
    assert domain_table(rows("11", "00", "11", "01", "00"), ["Male", "Young"], 2) == [[0, 0], [1, 1]]


def test_hair_colours_exclude_each_other():
    found = domain_table(rows("1000", "1001", "0100", "0011", "0000", "0001", "1100", "1110"), HAIR, 1)
    assert found == [[0, 0, 1, 1], [0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 1]]


def test_one_domain_is_not_enough():
    with pytest.raises(
        UserError,
        match=r"Male: 1 combinations have --min_domain_photos 2 photos or more, .*found: 1 x 3, 0 x 1",
    ):
        domain_table(rows("1", "1", "0", "1"), ["Male"], 2)
    with pytest.raises(UserError, match="found: none"):
        domain_table(rows("0001", "1101"), HAIR, 1)


def test_photos_without_a_domain():
    assert domains_of(rows("0100", "1100", "1001", "0000"), [[0, 1, 0, 0], [1, 0, 0, 1]]).tolist() == [
        0,
        -1,
        1,
        -1,
    ]


class Faces:
    """12 photos whose every pixel is their number, counted from 1, / 100, the left half negative."""

    def __len__(self):
        return 12

    def floats(self, indices):
        x = (torch.tensor(indices).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4) + 1) / 100
        x[..., :2] *= -1
        return x


DOMAINS = torch.tensor([0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2])


def sampler(batch_size=4, rank=0, world=1, seed=0):
    return Sampler(
        Faces(),
        DOMAINS,
        Batches(Faces(), batch_size, seed, Context(rank, world, torch.device("cpu"))),
        seed,
        5,
    )


def numbers(x):
    return (x[:, 0, 0, 0].abs() * 100).round().long() - 1


def test_photos_and_references_are_of_their_domains():
    seen = [sampler(16).draw(i) for i in range(20)]
    for d in seen:
        assert torch.equal(DOMAINS[numbers(d.x)], d.y_org) and all(
            torch.equal(DOMAINS[numbers(r)], d.y_trg) for r in d.references
        )
        assert d.z.shape == (2, 16, 5) and not torch.equal(d.z[0], d.z[1])
    y_org, y_trg, x = (torch.cat([getattr(d, name) for d in seen]) for name in ("y_org", "y_trg", "x"))
    for y in (y_org, y_trg):
        # every domain equally often, whatever its size
        assert all(abs(int((y == k).sum()) - 320 / 3) < 35 for k in range(3))
    # about half of them mirrored
    assert set(numbers(x).tolist()) == set(range(12)) and 120 < int((x[:, 0, 0, 0] > 0).sum()) < 200


def test_draws_depend_on_seed_step_and_position_alone():
    whole = sampler().draw(7)
    halves = [sampler(rank=r, world=2).draw(7) for r in range(2)]
    for name in ("x", "y_org", "y_trg"):
        assert torch.equal(torch.cat([getattr(h, name) for h in halves]), getattr(whole, name))
    assert torch.equal(torch.cat([h.z for h in halves], 1), whole.z) and torch.equal(
        torch.cat([h.references for h in halves], 1), whole.references
    )
    assert not torch.equal(sampler().draw(8).z, whole.z) and not torch.equal(
        sampler(seed=1).draw(7).z, whole.z
    )
