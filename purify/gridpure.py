"""GrIDPure (Zhao et al. 2023): the photo in overlapping tiles, each purified by a short DiffPure, several
rounds."""

import torch

from common import cli
from common.declared import Look, Parameter
from common.seeds import Streams
from models.diffusion.denoiser import Denoiser
from purify.denoising import START
from purify.reverse_only import DiffPure

GAMMA = 0.1  # of the photo that a round keeps
ROUNDS = Parameter("rounds", "--grid_rounds", cli.positive_int, 4, "of gridpure, rounds over the photo")


def tiles_of(h: int, w: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Rows and columns of each tile: squares of half the side at every quarter of it, and the four corners
    put together as one tile, since nothing else overlaps them.  h, w multiples of 4."""

    def spans(side):
        return [torch.arange(k * side // 4, k * side // 4 + side // 2) for k in range(3)]

    def ends(side):
        return torch.cat([torch.arange(side // 4), torch.arange(side - side // 4, side)])

    return [(rows, columns) for rows in spans(h) for columns in spans(w)] + [(ends(h), ends(w))]


class GridPure(DiffPure):
    """Rounds of x <- (1 - GAMMA) purified + GAMMA x, where `purified` is the mean of ten overlapping tiles,
    each diffused to a small t* and denoised.

    A tile has half the side of the photo and is given to the network as it is, at half the side that the
    network was trained on (nothing is enlarged); the network must be able to halve it as often as it does.
    An evaluation counts for each tile, a quarter of the photo: 10 start rounds of them for a photo.

    Args:   denoiser, start  as ReverseOnly;  rounds  over the whole photo
    Source: Zhao et al. 2023 (arXiv:2312.00084) and its published code: tiles of 256 of 512 pixels
    """

    name = "gridpure"
    look = Look("gridpure", "#b565c9", 6)
    parameters = (START, ROUNDS)
    defaults = {"start": 10}
    fewest = 1

    def __init__(self, denoiser: Denoiser, start: int = 10, rounds: int = 4):
        super().__init__(denoiser, start)
        self.rounds = rounds
        self.params |= {"rounds": rounds, "gamma": GAMMA}
        self.folder_name = f"{self.name}-t{start}-n{rounds}"
        self.size_multiple = max(4, 2 * denoiser.size_multiple)

    @classmethod
    def meant_by(cls, words: list[str]) -> list[str]:
        return words

    @property
    def passes(self) -> int:
        return self.rounds * super().passes

    def purify(self, x: torch.Tensor, rng: Streams | None) -> torch.Tensor:
        tiles = [[t.to(x.device) for t in tile] for tile in tiles_of(*x.shape[-2:])]
        counts = self.steps_for(x) * len(tiles)
        self.count(len(x), self.rounds * sum(counts))
        rows = rng.at(list(range(len(x))) * len(tiles))
        for _ in range(self.rounds):
            some = torch.cat([x[..., high[:, None], wide] for high, wide in tiles])
            sums, total = torch.zeros_like(x), torch.zeros_like(x[:1, :1])
            for (high, wide), y in zip(
                tiles, self.denoise(some, counts, rows).chunk(len(tiles)), strict=True
            ):
                sums[..., high[:, None], wide] += y
                total[..., high[:, None], wide] += 1
            x = (1 - GAMMA) * sums / total + GAMMA * x
        return x
