"""Distances between images, one row per pair, and their means with intervals over photos.

A pair is one photo in one target domain: the fake that is judged, and the reference fake of the undisturbed
photo. Everything is computed per image, so that no figure depends on the batch size. Images are float (N, 3,
H, W) in [-1, 1] throughout.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from common import seeds
from metrics.ssim import DATA_RANGE, Windowed, ssim

DISTURBED = 0.05  # l2 above this counts as a disrupted fake (Ruiz et al. 2020, arXiv:2003.01279)
# summed over the channels, [-1, 1] units (Huang et al. 2022, CMUA-Watermark, arXiv:2105.10872)
MASK_THRESHOLD = 0.5
PSNR_CAP = 100.0  # dB; equal images have an infinite PSNR, which has no mean
RESAMPLES = 1000
MAXIMA = ("linf",)  # summarised by their maximum; every other row by its mean


def image_rows(
    image: torch.Tensor, reference: torch.Tensor, windowed: Windowed | None = None
) -> dict[str, torch.Tensor]:
    """l2 (mean squared error), linf (largest difference), psnr (dB, at most PSNR_CAP) and ssim of each image.

    Args:    windowed  of the reference, where it is at hand: several images are held against it
    Shape:   (N, 3, H, W) float in [-1, 1] twice -> dict of (N,) float64 tensors, on their device.  H and W
             above 5 (SSIM's 11 x 11 window).
    Raises:  ValueError if the shapes differ.
    Source:  PSNR with data range 2; SSIM as metrics.ssim
    """
    if image.shape != reference.shape:
        raise ValueError(
            f"expected images of equal shape, found {tuple(image.shape)} and {tuple(reference.shape)}"
        )
    gap = image.detach().float() - reference.detach().float()
    return _of_gap(gap) | {"ssim": ssim(image, windowed or Windowed.of(reference)).double()}


def _of_gap(gap):
    l2 = _mean(gap.square())
    psnr = (10 * torch.log10(DATA_RANGE**2 / l2)).clamp(max=PSNR_CAP)
    return {"l2": l2, "linf": gap.abs().flatten(1).amax(1).double(), "psnr": psnr}


def _mean(x):
    """(N,) float64 means over what is left of each image, summed in float64."""
    x = x.flatten(1)
    return x.sum(1, dtype=torch.float64) / x.shape[1]


def edited(reference: torch.Tensor, photo: torch.Tensor) -> torch.Tensor:
    """(N, 1, H, W) bool: where a translator's fake `reference` edits the photo, both (N, 3, H, W): where the
    channels of |reference - photo| sum to more than 0.5.

    Source: Huang et al. 2022 (CMUA-Watermark), arXiv:2105.10872 and its code
    """
    return (reference.detach().float() - photo.detach().float()).abs().sum(1, keepdim=True) > MASK_THRESHOLD


def pair_rows(
    fake: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor, windowed: Windowed | None = None
) -> dict[str, torch.Tensor]:
    """l1 (mean absolute difference), l2, linf, psnr and l2_mask of fake against reference; ssim if asked.

    l2_mask is the squared error inside the region M that the translator edits (see `edited`):
    sum(M (fake - reference)^2) / (3 sum(M)). Each image has its own mask (the published code used the first
    image's for the whole batch); where it is empty the row is NaN.

    Args:    windowed  of the reference, where SSIM is wanted, which costs more than all the others
    Shape:   fake and reference (N, 3, H, W) float in [-1, 1], mask (N, 1, H, W) bool -> dict of (N,) float64
             tensors, on their device
    Source:  l1, l2: Ruiz et al. 2020, arXiv:2003.01279; mask: as `edited`
    """
    gap = fake.detach().float() - reference.detach().float()
    rows = {"l1": _mean(gap.abs()), **_of_gap(gap)}
    if windowed is not None:
        rows["ssim"] = ssim(fake, windowed).double()
    inside = (mask * gap.square()).flatten(1).sum(1, dtype=torch.float64)
    area = 3 * mask.flatten(1).sum(1)
    return {**rows, "l2_mask": torch.where(area > 0, inside / area.clamp(min=1), torch.nan)}


def summarise(rows: Mapping[str, ArrayLike], photo_ids: ArrayLike, seed: int) -> dict[str, Any]:
    """Means over pairs, their standard deviations, and bootstrap 95% intervals over photos.

    Args:    rows       dict of (N,) tensors, arrays or lists: those of pair_rows or image_rows, batches
                        concatenated
             photo_ids  (N,) the photo of each pair (a file name, for example): pairs of one photo are
                        resampled together
             seed       of the resampling; equal rows give the equal interval in any order
    Returns: dict of floats: <key>, <key>_std (sample standard deviation over pairs) and <key>_ci [low, high]
             for each mean; linf a maximum; for pairs also prop_dist (share of pairs with l2 > 0.05), sr_mask
             (share of l2_mask > 0.05) and empty_masks, the number of pairs left out of the masked figures.
             None where there is nothing to average, and for std and interval of a single pair or photo.
    Raises:  ValueError if there are no rows or their lengths differ.
    """
    ids = np.asarray([str(i) for i in photo_ids])
    columns = {key: np.asarray(row, dtype=np.float64) for key, row in rows.items()}
    if not len(ids) or any(len(c) != len(ids) for c in columns.values()):
        raise ValueError(
            f"expected equal, non-zero numbers of rows, found {len(ids)} photo names and "
            f"{ {key: len(c) for key, c in columns.items()} }"
        )
    columns, figures = _judged(columns)
    return figures | _means(columns, bootstrap(columns, ids, seed))


def summarise_table(
    rows: Mapping[str, np.ndarray], groups: Sequence[str], seed: int
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """summarise of a table of photos by groups (their domains): of all pairs, and of each group.

    One resampling of the photos serves all of them.

    Args: rows  dict of (N, D) float64 arrays, a photo a row, in the order of their names;  groups  D names
    """
    sets = {None: dict(rows), **{g: {k: v[:, d] for k, v in rows.items()} for d, g in enumerate(groups)}}
    judged = {name: _judged(columns) for name, columns in sets.items()}
    flat = {(name, key): c for name, (columns, _) in judged.items() for key, c in columns.items()}
    there = {key: ~np.isnan(c) for key, c in flat.items()}
    sums = [np.where(there[k], c, 0).reshape(len(c), -1).sum(1) for k, c in flat.items()]
    counts = [t.reshape(len(t), -1).sum(1, dtype=np.float64) for t in there.values()]
    found = dict(zip(flat, intervals(np.stack(sums, 1), np.stack(counts, 1), seed), strict=True))
    every = {
        name: figures | _means(columns, {key: found[name, key] for key in columns})
        for name, (columns, figures) in judged.items()
    }
    return every.pop(None), every


def _judged(columns):
    """(columns that are averaged, figures that are not): what follows from l2 and l2_mask, and the maxima."""
    columns = dict(columns)
    figures = {key: float(columns.pop(key).max()) for key in MAXIMA if key in columns}
    if "l2_mask" in columns:
        masked = columns["l2_mask"]
        columns["prop_dist"] = (columns["l2"] > DISTURBED).astype(np.float64)
        columns["sr_mask"] = np.where(np.isnan(masked), np.nan, masked > DISTURBED)
        figures["empty_masks"] = int(np.isnan(masked).sum())
    return columns, figures


def _means(columns, found):
    """Mean, standard deviation and interval of each column, NaN left out."""
    figures = {}
    for key, column in columns.items():
        used = column[~np.isnan(column)]
        figures[key] = float(used.mean()) if len(used) else None
        figures[key + "_std"] = float(used.std(ddof=1)) if len(used) > 1 else None
        figures[key + "_ci"] = found[key]
    return figures


def bootstrap(
    columns: Mapping[str, np.ndarray], photo_ids: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> dict[str, list[float] | None]:
    """intervals of means over pairs, by resampling whole photos (a cluster bootstrap).

    Pairs of one photo share its face and its disruption; drawing pairs one by one would take them for
    independent and give intervals that are too narrow. NaN rows are left out of a mean.

    Args:    columns  dict of (N,) float64 arrays;  photo_ids (N,) array
    Returns: {key: [low, high]}, or None for a key with fewer than two photos
    """
    photos, owner = np.unique(photo_ids, return_inverse=True)
    n, keys = len(photos), list(columns)
    sums, counts = np.zeros((n, len(keys))), np.zeros((n, len(keys)))
    for k, key in enumerate(keys):
        there = ~np.isnan(columns[key])
        sums[:, k] = np.bincount(owner[there], weights=columns[key][there], minlength=n)
        counts[:, k] = np.bincount(owner[there], minlength=n)
    return dict(zip(keys, intervals(sums, counts, seed, resamples), strict=True))


def intervals(
    sums: np.ndarray, counts: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> list[list[float] | None]:
    """95% percentile intervals of means, from each photo's sum and number of pairs.

    Args:    sums, counts  (photos, columns), photos in the order of their names
    Returns: [low, high] of each column, None where fewer than two photos have pairs
    Source:  Efron & Tibshirani 1993, ch. 13 (percentile interval); ratio of resampled sums as photos may hold
             unequal numbers
    """
    n = len(sums)
    uneven = np.flatnonzero((counts != counts[:1]).any(0))  # elsewhere n draws hold n times as many pairs
    rng = np.random.default_rng(seeds.derive(seed, "bootstrap"))
    means = []
    # resamples at a time: bounds the memory
    block = max(1, 1_000_000 // n)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        weight = np.tile(n * counts[0], (size, 1))
        weight[:, uneven] = times @ counts[:, uneven]
        means.append(np.divide(times @ sums, weight, out=np.full_like(weight, np.nan), where=weight > 0))
    means, enough = np.concatenate(means), (counts > 0).sum(0) > 1  # (resamples, columns)
    return [
        [float(v) for v in np.nanpercentile(column, [2.5, 97.5])] if some else None
        for column, some in zip(means.T, enough, strict=True)
    ]
