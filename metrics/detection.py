"""How well a detector tells deepfakes from real photos: accuracy, AUC, AP, EER and ECE, with intervals over
photos.

A test set is four equally long rows: labels (N,) fake = 1, real = 0; p (N,) probability of fake in [0, 1];
photo_ids (N,) the photo that an image is or is a fake of (its file name), which ties a photo and its fake
together; domains (N,) the fake's target attribute, None for a real photo. Their order changes nothing.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from common import seeds
from common.cli import UserError
from metrics.images import RESAMPLES
from models.detector.network import THRESHOLD

ECE_BINS = 15  # Guo et al. 2017, arXiv:1706.04599
MIN_PHOTOS = 10  # fewer make no bootstrap over photos
FIGURES = ("accuracy", "auc", "ap", "eer", "ece")
KEYS = (
    "accuracy",
    "accuracy_std",
    "accuracy_ci",
    *(key for name in FIGURES[1:] for key in (name, name + "_ci")),
)


def check_test_size(num_photos: int) -> None:
    """Raises UserError below MIN_PHOTOS distinct photos; scripts call it before they train what could not be
    tested."""
    if num_photos < MIN_PHOTOS:
        raise UserError(
            f"test set: found {num_photos} photo{'' if num_photos == 1 else 's'}, expected {MIN_PHOTOS} or"
            " more, over which the 95% intervals are resampled; test on more photos"
        )


def scores_of(
    labels: ArrayLike, p: ArrayLike, photo_ids: ArrayLike, seed: int, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """The figures of a detector on one test set.

    accuracy  share of images on the right side of p = 0.5 (0.5 itself means fake), accuracy_std the sample
              deviation of right (1) / wrong (0)
    auc       area under the ROC, ties counted half;  ap  average precision of the fakes, a sum over steps,
              without interpolation
    eer       error rate where the share of real photos taken for fakes equals the share of fakes missed, see
              equal_error_rate
    ece       expected calibration error of p itself: over 15 bins [k/15, (k+1)/15), and one of p = 1 alone,
              the mean weighted by their images of |share of fakes - mean p|. It looks at the probability of
              fake, not at that of the predicted class (max(p, 1 - p)).
    *_ci      [low, high], the 95% percentile interval over photos: all rows of a photo are drawn together, as
              in image_metrics.bootstrap. Noise only ever adds to an ece: of a well calibrated detector the
              interval lies mostly above the figure, and may not hold it

    Args:    resamples  draws of the bootstrap; those that hold one class alone are left out. seed: equal rows
                        give the equal interval
    Returns: {key: float or [low, high]} with KEYS
    Raises:  ValueError for no rows, unequal lengths, labels other than 0 and 1, p outside [0, 1] or NaN
             UserError for fewer than MIN_PHOTOS photos, or one class alone
    Source:  scikit-learn (auc, ap), scipy (eer), torchmetrics (ece: Guo et al. 2017 in the binary form of
             Naeini et al. 2015)
    """
    labels, p = _checked(labels, p, photo_ids)
    ids = np.asarray([str(i) for i in photo_ids])
    check_test_size(len(set(ids.tolist())))
    _check_classes(labels)
    # falling p: the libraries sort each resample, which is quick where it is sorted
    order = np.lexsort((ids, labels, -p))
    labels, p, ids = labels[order], p[order], ids[order]
    figures = dict(zip(FIGURES, _figures(labels, p), strict=True))
    figures["accuracy_std"] = float(_right(labels, p).std(ddof=1))
    intervals = np.percentile(_resampled(labels, p, ids, seed, resamples), [2.5, 97.5], axis=0)  # (2, 5)
    figures |= {
        name + "_ci": [float(low), float(high)] for name, low, high in zip(FIGURES, *intervals, strict=True)
    }
    return {key: figures[key] for key in KEYS}


def by_domain(
    labels: ArrayLike,
    p: ArrayLike,
    photo_ids: ArrayLike,
    domains: ArrayLike,
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, dict[str, Any]]:
    """Figures of the fakes of each target attribute against the real photos that these fakes were made from.

    Returns: {domain: {**scores_of(...), "num_photos"}}; a domain of fewer than MIN_PHOTOS photos has None for
             all but num_photos
    Raises:  as scores_of; UserError too for a domain whose real photos are missing from the set
    """
    labels, p = _checked(labels, p, photo_ids, domains)
    ids, fake_of = np.asarray([str(i) for i in photo_ids]), np.asarray([str(d) for d in domains])
    figures = {}
    for domain in dict.fromkeys(fake_of[labels == 1].tolist()):
        fake = (labels == 1) & (fake_of == domain)
        photos = np.unique(ids[fake])
        mine = fake | ((labels == 0) & np.isin(ids, photos))
        enough = len(photos) >= MIN_PHOTOS
        scores = (
            scores_of(labels[mine], p[mine], ids[mine], seed, resamples) if enough else dict.fromkeys(KEYS)
        )
        figures[domain] = {**scores, "num_photos": len(photos)}
    return figures


def roc(labels: ArrayLike, p: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(fpr, tpr): share of real photos taken for fakes, share of fakes found, (T,) each, from (0, 0) to (1,
    1).  Raises as scores_of."""
    labels, p = _checked(labels, p)
    _check_classes(labels)
    from sklearn.metrics import roc_curve  # on use, as below: slow to load, and the test is a training's end

    return roc_curve(labels, p, pos_label=1)[:2]


def equal_error_rate(fpr: np.ndarray, tpr: np.ndarray) -> float:
    """fpr at the point of the ROC, drawn through its corners, where fpr = 1 - tpr.

    Along the curve the gap rises steadily from -1 to 1, so there is exactly one such point, on a vertical
    step too.

    Shape:  (T,) twice, those of roc -> float in [0, 1]
    """
    from scipy.optimize import brentq

    corners = np.arange(len(fpr))
    at = brentq(lambda t: np.interp(t, corners, fpr + tpr) - 1, 0, len(fpr) - 1)
    return float(np.interp(at, corners, fpr))


def _checked(labels, p, *others):
    """labels as int64 and p as float64 arrays (N,).  `others`: rows that must be as long.  Raises
    ValueError."""
    labels, p = np.asarray(labels), np.asarray(p, dtype=np.float64)
    lengths = [len(row) for row in (labels, p, *others)]
    if len(set(lengths)) > 1 or not lengths[0] or labels.ndim != 1 or p.ndim != 1:
        raise ValueError(
            f"expected equal, non-zero numbers of labels, probabilities and names, found {lengths}"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"expected labels 0 (real) and 1 (fake), found {np.unique(labels)[:5].tolist()}")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(
            f"expected probabilities in [0, 1], found {p.min():.3g} to {p.max():.3g}: logits, or a network"
            " that diverged?"
        )
    return labels.astype(np.int64), p


def _check_classes(labels):
    if labels.min() == labels.max():
        raise UserError(
            f"test set: all {len(labels)} images are {('real', 'fake')[labels[0]]}, expected both classes; "
            "test on photos and their fakes"
        )


def _right(labels, p):
    return (p >= THRESHOLD) == labels


def _figures(labels, p):
    """The FIGURES of arrays (N,) that hold both classes, floats."""
    from sklearn.metrics import auc, average_precision_score, roc_curve
    from torchmetrics.functional.classification import binary_calibration_error

    # shared by auc and eer; roc_auc_score would compute it again
    fpr, tpr, _ = roc_curve(labels, p, pos_label=1)
    ece = binary_calibration_error(torch.from_numpy(p), torch.from_numpy(labels), n_bins=ECE_BINS, norm="l1")
    return (
        float(_right(labels, p).mean()),
        float(auc(fpr, tpr)),
        float(average_precision_score(labels, p, pos_label=1)),
        equal_error_rate(fpr, tpr),
        float(ece),
    )


def _resampled(labels, p, photo_ids, seed, resamples):
    """FIGURES of sets of as many photos, drawn with replacement: (at most resamples, 5) array."""
    photos, owner = np.unique(photo_ids, return_inverse=True)
    rng = np.random.default_rng(seeds.derive(seed, "bootstrap"))
    figures = []
    for _ in range(resamples):
        # (N,) copies of each row
        times = np.bincount(rng.integers(0, len(photos), len(photos)), minlength=len(photos))[owner]
        drawn = np.repeat(labels, times)
        if drawn.any() and not drawn.all():
            figures.append(_figures(drawn, np.repeat(p, times)))
    return np.asarray(figures)
