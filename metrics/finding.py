"""How well a finder of poisoned samples does: the boundary of its scores, what it flags, and intervals over
samples.

Higher scores are cleaner, as a critic's are; a sample is called poisoned (flagged) where score <= threshold.
Poisoned = 1 is the positive class. An examined set is equally long rows: poisoned (N,) 0 or 1, scores (N,)
finite, labels (N,) positions in the names of the classes. Their order changes nothing.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from common import seeds
from common.cli import UserError

RULES = ("quantile", "std")
FIGURES = ("accuracy", "precision", "recall", "f1", "auc", "tpr_at_1", "tpr_at_5", "fpr")
KEYS = tuple(key for name in FIGURES for key in (name, name + "_ci"))
RESAMPLES = 200  # each draws a ROC of up to tens of thousands of samples, for every class beside
ROUNDING = 1e-9  # of rate * n: 0.29 * 100 is 28.999999999999996, and 29 samples may be flagged


def boundary(held_scores: ArrayLike, rule: str, value: float) -> float:
    """The threshold that held-out trusted scores set; nothing of the examined set enters it.

    quantile  `value` is a false positive rate: k = floor(value n) held-out samples lie at or below the k-th
              smallest score. numpy's quantiles interpolate or round up, so that of 25 samples at a rate of 5
              % two would be flagged; here at most the nominal share is, and exactly it where value n is
              whole. Of new clean samples k / (n + 1) are expected to be flagged, a little less still. Where
              several scores tie at the k-th smallest, the threshold falls to the next score below them, or
              just below the smallest: then less is flagged.
    std       `value` is z: mean - z std, the published rule with z = 1. The deviation divides by n (ddof 0),
              as numpy's and the published code's.

    Args:    held_scores  (n,) higher = cleaner, of samples that no part of the finder has seen
             value        in (0, 1) for quantile, finite for std
    Returns: float
    Raises:  UserError for scores that are NaN or infinite, fewer than 2 of them or value n < 1, a value out
             of range, and equal scores under std; ValueError for another rule, or scores of another shape
    Source:  std: Chen et al. 2021, arXiv:2105.03592, and github.com/Oschart/Attack-On-DePois; k / (n + 1):
             Vovk et al. 2005 (conformal prediction)
    """
    scores = np.sort(checked_scores(held_scores))
    n = len(scores)
    check_held(n, rule, value)
    if rule == "std":
        # the boundary would be the score of every clean sample, and flag them all
        if scores[0] == scores[-1]:
            raise UserError(
                f"held-out trusted samples: all {n} scores are {scores[0]:g}, which have no spread for the"
                " rule std; use the rule quantile"
            )
        return float(scores.mean() - value * scores.std(ddof=0))
    k = math.floor(value * n + ROUNDING)
    if scores[k - 1] < scores[k]:
        return float(scores[k - 1])
    below = np.searchsorted(scores, scores[k])
    return float(scores[below - 1] if below else np.nextafter(scores[0], -np.inf))


def check_held(n: int, rule: str, value: float) -> None:
    """Whether n held-out samples can set this boundary; known before anything is trained.  Raises as
    boundary."""
    _check_rule(rule, value)
    if n < 2:
        raise UserError(
            f"held-out trusted samples: found {n}, expected 2 or more to set a boundary; trust more images"
        )
    if rule == "quantile" and math.floor(value * n + ROUNDING) < 1:
        raise UserError(
            f"held-out trusted samples: found {n}, expected {math.ceil(1 / value - ROUNDING)} or more for a"
            f" false positive rate of {value:g}; trust more images, or allow a higher rate"
        )


def nominal_fpr(rule: str, value: float) -> float:
    """The share of clean samples that a boundary is meant to flag: `value` of quantile, the tail of a
    Gaussian below -z of std.  Raises as boundary."""
    _check_rule(rule, value)
    return float(value if rule == "quantile" else statistics.NormalDist().cdf(-value))


def measure(
    poisoned: ArrayLike, scores: ArrayLike, threshold: float, seed: int, resamples: int = RESAMPLES
) -> dict[str, float | list[float] | None]:
    """The figures of a finder on one examined set.

    accuracy   share of samples on the right side of the threshold;  precision  share of the flagged that are
               poisoned
    recall     share of the poisoned that are flagged;  fpr  share of the clean that are flagged
    f1         2 TP / (2 TP + FP + FN): 0 where poisoned samples are there and none is flagged
    auc        area under the ROC of -score, ties counted half
    tpr_at_k   the largest recall of any threshold that flags at most k % of the clean samples examined, a
               corner of the ROC: nothing is drawn between corners, so fewer than 100 / k clean samples leave
               no false positive at all
    *_ci       [low, high], the 95 % percentile interval over samples, drawn with replacement; the threshold
               stays. Where the set has both classes, draws that hold one alone are left out. tpr_at_k picks
               its best threshold anew in each draw: its interval leans upwards

    A figure that is not defined (precision with nothing flagged, recall, f1 and tpr_at_k without poisoned
    samples, fpr and tpr_at_k without clean ones, auc without both) is None, its interval too; so is every
    interval of a single sample.

    Args:    resamples  draws of the bootstrap; seed: equal rows give the equal interval
    Returns: {key: float, [low, high] or None} with KEYS
    Raises:  ValueError for no rows, unequal lengths, poisoned other than 0 and 1, a threshold that is NaN
             UserError for scores that are NaN or infinite
    Source:  scikit-learn (roc_curve, auc); Efron & Tibshirani 1993, ch. 13 (percentile interval)
    """
    poisoned, scores = _checked(poisoned, scores)
    if math.isnan(threshold):
        raise ValueError("expected a threshold, found NaN")
    # equal rows in any order draw alike, and a ROC sorts quickly what is sorted
    order = np.lexsort((poisoned, scores))
    poisoned, scores = poisoned[order], scores[order]
    flagged = scores <= threshold
    values = _figures(poisoned, scores, flagged)
    intervals = _intervals(_resampled(poisoned, scores, flagged, seed, resamples))
    result = {}
    for name, value, interval in zip(FIGURES, values, intervals, strict=True):
        result[name] = None if math.isnan(value) else value
        result[name + "_ci"] = None if math.isnan(value) else interval
    return result


def measure_classes(
    poisoned: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    labels: ArrayLike,
    classes: Sequence[str],
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, dict]:
    """Figures of the samples that carry each label, under the one threshold.  A flipped label counts where it
    stands, not where it was.

    Args:    labels   (N,) positions in `classes`, as found in the examined set;  classes  names
    Returns: {class: {**measure(...), "num_samples", "num_poisoned"}} in the order of `classes`; of a class
             without samples all but these are None
    Raises:  as measure; ValueError for labels outside `classes` too
    """
    poisoned, scores = _checked(poisoned, scores)
    labels = np.asarray(labels)
    if labels.shape != poisoned.shape or not np.isin(labels, range(len(classes))).all():
        raise ValueError(
            f"expected {len(poisoned)} labels from 0 to {len(classes) - 1}, found shape {labels.shape} and"
            f" {np.unique(labels)[:5].tolist()}"
        )
    result = {}
    for k, name in enumerate(classes):
        mine = labels == k
        figures = (
            measure(poisoned[mine], scores[mine], threshold, seed, resamples)
            if mine.any()
            else dict.fromkeys(KEYS)
        )
        result[name] = {**figures, "num_samples": int(mine.sum()), "num_poisoned": int(poisoned[mine].sum())}
    return result


def _check_rule(rule, value):
    if rule not in RULES:
        raise ValueError(f"expected a rule of {', '.join(RULES)}, found {rule!r}")
    if rule == "quantile" and not 0 < value < 1:
        raise UserError(
            f"boundary by quantile: expected a false positive rate above 0 and below 1, found {value:g}"
        )
    if not math.isfinite(value):
        raise UserError(f"boundary by std: expected a finite number of standard deviations, found {value:g}")


def checked_scores(scores: ArrayLike) -> np.ndarray:
    """(N,) float64.  Raises UserError, ValueError."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"expected scores (N,), found shape {scores.shape}")
    wrong = int((~np.isfinite(scores)).sum())
    if wrong:
        raise UserError(
            f"scores: {wrong} of {len(scores)} are NaN or infinite, so nothing can be told by them; a network"
            " that diverged? Train it anew, with a lower learning rate"
        )
    return scores


def _checked(poisoned, scores):
    """poisoned as bool and scores as float64 arrays (N,).  Raises ValueError, UserError."""
    poisoned, scores = np.asarray(poisoned), checked_scores(scores)
    if poisoned.shape != scores.shape or not len(scores):
        raise ValueError(
            f"expected equal, non-zero numbers of poisoned (0 or 1) and scores, found shapes {poisoned.shape}"
            f" and {scores.shape}"
        )
    if not np.isin(poisoned, (0, 1)).all():
        raise ValueError(f"expected 0 (clean) and 1 (poisoned), found {np.unique(poisoned)[:5].tolist()}")
    return poisoned.astype(bool), scores


def _share(part, whole):
    return float(part / whole) if whole else math.nan


def _figures(poisoned, scores, flagged):
    """The FIGURES of arrays (N,) as floats; NaN = not defined."""
    positives, called, hit = int(poisoned.sum()), int(flagged.sum()), int((poisoned & flagged).sum())
    negatives, false = len(poisoned) - positives, called - hit
    area = at_1 = at_5 = math.nan
    if positives and negatives:
        from sklearn.metrics import auc, roc_curve  # on use: slow to load, and options read this file

        # The default drops corners on a straight line; one of them may be the last within k %.
        fpr, tpr, _ = roc_curve(poisoned, -scores, drop_intermediate=False)
        area, at_1, at_5 = float(auc(fpr, tpr)), float(tpr[fpr <= 0.01].max()), float(tpr[fpr <= 0.05].max())
    return (
        _share(hit + negatives - false, len(poisoned)),
        _share(hit, called),
        _share(hit, positives),
        _share(2 * hit, called + positives) if positives else math.nan,
        area,
        at_1,
        at_5,
        _share(false, negatives),
    )


def _resampled(poisoned, scores, flagged, seed, resamples):
    """FIGURES of as many samples drawn with replacement: (at most resamples, 8) array."""
    n, both = len(poisoned), poisoned.any() and not poisoned.all()
    rng = np.random.default_rng(seeds.derive(seed, "bootstrap"))
    rows = []
    for _ in range(resamples if n > 1 else 0):
        times = np.bincount(rng.integers(0, n, n), minlength=n)
        drawn = np.repeat(poisoned, times)
        if not both or (drawn.any() and not drawn.all()):
            rows.append(_figures(drawn, np.repeat(scores, times), np.repeat(flagged, times)))
    return np.asarray(rows).reshape(-1, len(FIGURES))


def _intervals(rows):
    """[low, high] of each column; draws in which a figure was not defined are left out of its interval.  None
    where none is left."""
    columns = [column[~np.isnan(column)] for column in rows.T]
    return [
        [float(v) for v in np.percentile(column, [2.5, 97.5])] if len(column) else None for column in columns
    ]
