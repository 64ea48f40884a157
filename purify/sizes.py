"""Photos of any size through a purifier whose network knows one size: overlapping tiles, or a resize there
and back."""

import torch
import torch.nn.functional as F

from common.seeds import Streams
from purify.base import Purifier

MODES = ("tile", "resize")
OVERLAP = 0.25  # of a tile's side, at least; tiles are spread evenly, so it is often more
# tiles of one photo that are purified together; a constant, because the order of random draws follows it
AT_ONCE = 16


def positions(length: int, tile: int) -> list[int]:
    """Left edges of the tiles that cover `length` pixels, evenly spread, overlapping by at least OVERLAP of a
    tile."""
    if length <= tile:
        return [0]
    stride = max(1, int(tile * (1 - OVERLAP)))
    count = 1 + -(-(length - tile) // stride)
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def window(tile: int, like: torch.Tensor) -> torch.Tensor:
    """(1, 1, tile, tile) weights, largest in the middle and above 0 at the border: overlapping tiles fade
    into each other."""
    ramp = torch.minimum(torch.arange(1, tile + 1), torch.arange(tile, 0, -1)).to(like)
    return (ramp[:, None] * ramp[None, :])[None, None]


def reflect_to(x: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """Extend the right and lower border by reflection to h x w, as often as it takes (an image is reflected
    by at most itself)."""
    while x.shape[-1] < w:
        x = F.pad(
            x,
            (0, min(w - x.shape[-1], max(1, x.shape[-1] - 1)), 0, 0),
            mode="reflect" if x.shape[-1] > 1 else "replicate",
        )
    while x.shape[-2] < h:
        x = F.pad(
            x,
            (0, 0, 0, min(h - x.shape[-2], max(1, x.shape[-2] - 1))),
            mode="reflect" if x.shape[-2] > 1 else "replicate",
        )
    return x


def describe(purifier: Purifier, mode: str) -> dict:
    """JSON dict of how other sizes are handled, for records."""
    if purifier.tile is None:
        return {"fit": "whole"}
    return {"fit": mode, "tile": purifier.tile, **({"overlap": OVERLAP} if mode == "tile" else {})}


def fit(purifier: Purifier, x: torch.Tensor, rng: Streams | None = None, mode: str = "tile") -> torch.Tensor:
    """Purify photos of any size; differentiable.

    tile    the photo in overlapping tiles of the network's size, blended; a smaller photo is reflected up to
            one tile
    resize  the photo shrunk or enlarged to one tile, purified, and brought back to its size (loses detail of
            large photos)
    Purifiers without a network size get the whole photo, reflected up to the next size they can take.

    Shape:  x (N, 3, H, W) in [-1, 1], all photos of one size -> same
    """
    n, _, h, w = x.shape
    tile = purifier.tile
    if tile is None:
        m, least = purifier.size_multiple, purifier.smallest
        high, wide = (max(side + -side % m, least + -least % m) for side in (h, w))
        return purifier(reflect_to(x, high, wide), rng)[..., :h, :w]
    if (h, w) == (tile, tile):
        return purifier(x, rng)
    if mode == "resize":
        small = F.interpolate(x, size=(tile, tile), mode="bilinear", antialias=True, align_corners=False)
        return F.interpolate(
            purifier(small.clamp(-1, 1), rng),
            size=(h, w),
            mode="bilinear",
            antialias=True,
            align_corners=False,
        ).clamp(-1, 1)
    if mode != "tile":
        raise ValueError(f"mode {mode!r}: one of {', '.join(MODES)}")
    return torch.cat([_tiled(purifier, x[i : i + 1], None if rng is None else rng.at([i])) for i in range(n)])


def _tiled(purifier, x, rng):
    """One photo (1, 3, H, W) in tiles; its random stream serves them one after the other."""
    h, w = x.shape[-2:]
    tile = purifier.tile
    padded = reflect_to(x, tile, tile)
    corners = [
        (top, left) for top in positions(padded.shape[-2], tile) for left in positions(padded.shape[-1], tile)
    ]
    weights = window(tile, x)
    sums, total = torch.zeros_like(padded), torch.zeros_like(padded[:1, :1])
    purifier.share = 1 / len(corners)
    try:
        for start in range(0, len(corners), AT_ONCE):
            some = corners[start : start + AT_ONCE]
            tiles = torch.cat([padded[..., top : top + tile, left : left + tile] for top, left in some])
            tiles = purifier(tiles, None if rng is None else rng.at([0] * len(some)))
            for (top, left), y in zip(some, tiles, strict=True):
                sums[..., top : top + tile, left : left + tile] += y * weights
                total[..., top : top + tile, left : left + tile] += weights
    finally:
        purifier.share = 1.0
    return (sums / total)[..., :h, :w].clamp(-1, 1)
