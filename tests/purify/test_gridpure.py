"""GrIDPure: overlapping tiles, each through a short DiffPure, several rounds."""

import pytest
import torch
from torch import nn

from common import seeds
from common.cli import UserError
from purify import build
from purify.defences import form, parse
from purify.gridpure import GAMMA, GridPure, tiles_of
from purify.reverse_only import DiffPure
from tiny import check_gradient, denoiser, weights_file

NAMES = ["a", "b", "c"]


def rng(names=NAMES):
    return seeds.named(0, names, "purify")


def photos(n=3, size=16):
    return torch.rand(n, 3, size, size, generator=seeds.generator("photos")) - 0.5


def test_every_pixel_lies_in_tiles_of_half_the_side_and_the_corners_in_one_more():
    seen = torch.zeros(8, 12)
    for rows, columns in tiles_of(8, 12):
        assert (len(rows), len(columns)) == (4, 6)
        seen[rows[:, None], columns] += 1
    #                corner: the first tile, and that of the corners
    assert seen[:2, :3].eq(2).all() and seen[:2, 3:9].eq(2).all() and seen[2:6, 3:9].eq(4).all()
    assert len(tiles_of(8, 12)) == 10


def test_one_round_is_the_mean_of_the_tiles_blended_with_the_photo():
    d, x = denoiser(), photos()
    tiles = tiles_of(16, 16)
    part = torch.cat([x[..., rows[:, None], columns] for rows, columns in tiles])
    cured = DiffPure(d, 3)(part, rng().at([0, 1, 2] * len(tiles)))
    sums, count = torch.zeros_like(x), torch.zeros(16, 16)
    for (rows, columns), y in zip(tiles, cured.split(3), strict=True):
        sums[..., rows[:, None], columns] += y
        count[rows[:, None], columns] += 1
    want = 0.9 * sums / count + 0.1 * x
    purifier = GridPure(d, 3, rounds=1)
    torch.testing.assert_close(purifier(x, rng()), want)
    assert purifier.nfe == 10 * 3 and purifier.folder_name == "gridpure-t3-n1"
    assert purifier.params == {"start": 3, "rounds": 1, "gamma": GAMMA, "max_timestep": 300}


def test_a_round_begins_with_what_the_one_before_left_and_draws_other_noise():
    d, x = denoiser(), photos()
    streams = rng()
    once = GridPure(d, 2, rounds=1)
    torch.testing.assert_close(GridPure(d, 2, rounds=2)(x, rng()), once(once(x, streams), streams))


def test_a_network_that_finds_no_noise_leaves_a_share_of_the_photo(monkeypatch):
    """Where every tile comes back as zero, GAMMA of the photo is left after each round."""
    d, x = denoiser(), photos()
    purifier = GridPure(d, 3, rounds=2)
    monkeypatch.setattr(purifier, "denoise", lambda part, counts, rows: torch.zeros_like(part))
    torch.testing.assert_close(purifier(x, rng()), GAMMA**2 * x)


def test_a_photos_result_does_not_depend_on_its_neighbours():
    x = photos()
    together = GridPure(denoiser(), 3)(x, rng())
    for i, name in enumerate(NAMES):
        alone = GridPure(denoiser(), 3)(x[i : i + 1], rng([name]))
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-5, rtol=1e-5)


def test_gradient_matches_finite_differences_with_frozen_noise():
    purifier, x = GridPure(denoiser().double(), 2, rounds=2), photos(2).double()
    check_gradient(lambda y: purifier(y, rng(NAMES[:2])), x)


class Sides(nn.Module):
    """Notes the sides of what it is shown."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def forward(self, x, t):
        self.seen.add(tuple(x.shape[-2:]))
        return torch.zeros_like(x)


def test_the_network_sees_tiles_at_their_own_scale():
    network = Sides()
    GridPure(denoiser(network, size=16), 2, rounds=1)(photos(1), rng(["a"]))
    assert network.seen == {(8, 8)}


def test_our_network_takes_tiles_of_half_its_side(tmp_path):
    purifier = build("gridpure", str(weights_file(tmp_path / "w.safetensors", image_size=16)), rounds=1)
    assert purifier(photos(1), rng(["a"])).shape == (1, 3, 16, 16)


def test_sides_whose_halves_the_network_cannot_take_are_refused():
    with pytest.raises(UserError, match="gridpure: cannot take images of 12 x 12 .* multiples of 8"):
        GridPure(denoiser(multiple=4), 3)(photos(size=12), rng())


def test_its_name():
    assert form("gridpure") == "gridpure[-START[-ROUNDS]]"
    assert dict(parse("gridpure-20-2").params) == {"start": 20, "rounds": 2}
    assert dict(parse("gridpure-20").params) == {"start": 20}
    for text, words in (
        ("gridpure-auto", "gridpure adds noise first"),
        ("gridpure-20-0", "ROUNDS"),
        ("gridpure-1-2-3", "takes 1 to 2 parameters"),
    ):
        with pytest.raises(UserError, match=words):
            parse(text)
