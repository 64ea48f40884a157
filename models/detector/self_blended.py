"""Fakes that no generator makes: a photo blended into itself, Shiohara and Yamasaki, CVPR 2022
(arXiv:2204.08376).

    fakes = self_blended(photos, seed)

A changed copy of the photo (other colours; blurred or sharpened; moved and resized a little) is blended into
the photo inside a mask of the face. The seam and the two kinds of detail are what a detector learns.

Differs from the paper and its code (mapooon/SelfBlendedImages):
  - Masks are convex shapes of random size around the place where an aligned photo has its face, bent by a
    smooth random field and with an edge of random width; theirs are hulls of landmarks, bent and blurred.
  - The copy is what is changed, always. Theirs changes the copy or the photo, and shows the changed photo as
    the real one; here the real photos stay what they are.
  - The copy is blurred, at most as if halved in size and enlarged again; theirs is halved or quartered by
    nearest neighbours, which of 64 pixels leaves no face. Its saturation changes visibly, its hue does not
    (theirs gives both ranges of a third of a unit).
  - One fake of each photo, drawn once, where theirs draws anew in every epoch; and no colour changes and
    compression of both classes in training, so that detectors differ in their fakes alone.
"""

import torch
import torch.nn.functional as F

from common import images, seeds
from models.detector.samples import FAKE, Samples

AT_A_TIME = 256  # photos, for the memory; the result does not depend on it
RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)  # how much of the mask's inside the copy makes up
# Of a photo's side: where faces are (CelebA's aligned photos cut to a centred square), and how far from it
CENTRE, ASIDE = (0.5, 0.6), 0.04
HALF = (0.2, 0.36)  # half width and half height of a mask, least and most
BEND, GRID = 0.05, 5  # how far a mask's outline is moved, and the nodes of the field that moves it, a side
EDGE = (0.1, 0.7)  # width of a mask's edge, least and most, of its half width


def _between(rng, like, low, high):
    """(N, 1, 1, 1), uniform."""
    return rng.uniform(like[:, :1, :1, :1], low, high)


def _recoloured(x, rng):
    """Shifts of the channels in three photos of ten, other saturation, brightness and contrast in all."""
    shift = rng.uniform(x[:, :, :1, :1], -20 / 127.5, 20 / 127.5) * (_between(rng, x, 0, 1) < 0.3)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * _between(rng, x, 0.7, 1.3) + shift
    return x * _between(rng, x, 0.9, 1.1) + _between(rng, x, -0.2, 0.2)  # brightness: a tenth of [-1, 1]


def _sharpened_or_blurred(x, rng):
    """One of the two for each photo."""
    side = x.shape[-2:]
    half = F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
    blurred = x + _between(rng, x, 0.3, 1) * (F.interpolate(half, size=side, mode="bilinear") - x)
    around = F.avg_pool2d(F.pad(x, [1, 1, 1, 1], mode="replicate"), 3, 1)
    # 8 times the difference from the eight neighbours' mean is 9 times that from the mean of all nine
    sharpened = x + _between(rng, x, 0.2, 0.5) * 9 * (x - around)
    return torch.where(_between(rng, x, 0, 1) < 0.5, blurred, sharpened)


def _moved(x, rng):
    """Up to 3 % of the side to the left or right, 1.5 % up or down, and 5 % larger or smaller."""
    scale = _between(rng, x, 0.95, 1 / 0.95).reshape(-1)
    right, down = (2 * _between(rng, x, -most, most).reshape(-1) for most in (0.03, 0.015))
    nothing = torch.zeros_like(scale)
    rows = torch.stack([scale, nothing, right]), torch.stack([nothing, scale, down])
    grid = F.affine_grid(torch.stack(rows).permute(2, 0, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _masks(x, rng):
    """(N, 1, H, W) in [0, 1]: 1 well inside of the face, 0 outside."""
    h, w = x.shape[-2:]
    across = ((torch.arange(w, device=x.device) + 0.5) / w)[None, None, None]
    down = ((torch.arange(h, device=x.device) + 0.5) / h)[None, None, :, None]
    nodes = rng.uniform(x.new_empty(len(x), 2, GRID, GRID), -BEND, BEND)
    field = F.interpolate(nodes, size=(h, w), mode="bicubic", align_corners=True)
    from_centre = [
        (place + field[:, k : k + 1] - CENTRE[k] + _between(rng, x, -ASIDE, ASIDE)).abs()
        / _between(rng, x, *HALF)
        for k, place in enumerate((across, down))
    ]
    power = _between(rng, x, 1.7, 3)  # 2: an ellipse; larger: nearer to a rectangle
    radius = sum(d**power for d in from_centre) ** (1 / power)
    inside = ((1 - radius) / _between(rng, x, *EDGE)).clamp(0, 1)
    return inside * inside * (3 - 2 * inside)  # smooth where it begins and ends


def blend(x: torch.Tensor, rng: seeds.Streams) -> torch.Tensor:
    """Photos blended into themselves, (N, 3, H, W) in [-1, 1] and again; a stream of `rng` for each."""
    source = _moved(_sharpened_or_blurred(_recoloured(x, rng), rng).clamp(-1, 1), rng)
    ratio = torch.tensor(RATIOS, device=x.device)[rng.integers(len(RATIOS), x.device)][:, None, None, None]
    mask = ratio * _masks(x, rng)
    return (x + mask * (source - x)).clamp(-1, 1)


def self_blended(photos: Samples, seed: int) -> Samples:
    """A fake of each photo, in the order of the photos; it depends on (seed, name) and the photo alone."""
    pixels = photos.pixels.copy()
    for start in range(0, len(photos), AT_A_TIME):
        rows = range(start, min(start + AT_A_TIME, len(photos)))
        rng = seeds.named(seed, [photos.names[i] for i in rows], "self-blended")
        pixels[rows.start : rows.stop] = images.to_uint8(blend(photos.floats(rows), rng))
    return Samples(photos.names, [None] * len(photos), torch.full((len(photos),), FAKE), pixels)
