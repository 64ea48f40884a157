"""Distance between two sets of images: FID and KID on the standard Inception weights, elsewhere a Frechet
distance that names its features.

Only features of the Inception network converted from the TensorFlow graph of 2015-12-05 make a number an FID
(Heusel et al. 2017). With any other network the same formula measures something else and is called `frechet`.
"""

import os
import tempfile
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from common import checkpoint, files, images, seeds
from common.cli import UserError
from models.classifier.network import AttributeClassifier, load_classifier

# of pt_inception-2015-12-05-6726825d.pth: pytorch-fid's and torch-fidelity's weights
INCEPTION_SHA = "6726825d"
# images a side; below it the 2,048-d covariance is singular and the bias dominates
ENOUGH = 2048
KID_SUBSET, KID_SUBSETS = 1000, 100
KID_KEPT = 4000  # images of a side that KID is measured on: more hardly tell more, and must be kept


class Extractor(nn.Module):
    """uint8 images (N, 3, H, W) -> features (N, num_features) float32.  `.description` goes into the record.

    Args:  network   uint8 images -> features;  num_features  their number
           standard  True for the standard Inception weights alone: the distances are then called fid and kid
           description  {"name", "sha256", "resize", "backend"}
    """

    def __init__(self, network: nn.Module, num_features: int, standard: bool, description: dict):
        super().__init__()
        self.network, self.num_features = network, num_features
        self.standard, self.description = standard, description
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, x: torch.Tensor | np.ndarray) -> torch.Tensor:
        """x: float tensor (N, 3, H, W) in [-1, 1], rounded to 8 bits here; uint8 tensor (N, 3, H, W); or
        uint8 array (N, H, W, 3).

        Raises:  ValueError for float images outside [-1, 1].
        """
        if not torch.is_tensor(x):
            x = torch.from_numpy(x).movedim(-1, 1)
        if x.dtype != torch.uint8:
            images.check_range(x)
            x = images.to_bytes(x)
        return self.network(x.to(next(self.network.parameters()).device)).float()


class _Inception(nn.Module):
    """The pool3 features (N, 2048) of the Inception network in a weight file."""

    def __init__(self, weights_path: str):
        super().__init__()
        # here and in Distance: torchmetrics loads torchvision, scipy and matplotlib, over 2 s
        from torchmetrics.image.fid import NoTrainInceptionV3

        self.network = NoTrainInceptionV3("inception-v3-compat", ["2048"], weights_path, antialias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)


class _Classifier(nn.Module):
    """The penultimate layer of the attribute classifier, which takes images in [-1, 1]."""

    def __init__(self, classifier: AttributeClassifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier.features(x.float().div(127.5).sub(1))


def load_extractor(
    inception_weights: Path | str | None = None,
    classifier: Path | str | None = None,
    device: torch.device | str = "cpu",
) -> Extractor:
    """The features of `--inception_weights FILE`; without a file those of an attribute classifier (None = the
    shipped one).

    Raises:  UserError, one line, if a weight file is missing, damaged, holds code, or is not the standard
             Inception file.
    """
    backend = f"torchmetrics {metadata.version('torchmetrics')}"
    if inception_weights is None:
        network = load_classifier(classifier)
        size = network.image_size
        description = {
            "name": "attribute-classifier",
            "sha256": network.sha256,
            "resize": f"bilinear, antialiased, to {size}x{size}",
            "backend": backend,
        }
        return Extractor(_Classifier(network), network.num_features, False, description).to(device)
    state, sha256 = read_inception(inception_weights)
    description = {
        "name": "inception-2015-12-05-2048",
        "sha256": sha256,
        "resize": "bilinear as TensorFlow 1, no antialiasing, to 299x299",
        "backend": f"{backend}, torch-fidelity {metadata.version('torch-fidelity')}",
    }
    return Extractor(_build_inception(state, inception_weights), 2048, True, description).to(device)


def read_inception(path: Path | str) -> tuple[dict[str, torch.Tensor], str]:
    """(state_dict, sha256) of the standard Inception file, read as data.  Raises UserError."""
    state, _ = checkpoint.read_weights(path)  # first: a truncated file is called truncated, not wrong
    sha256 = files.sha256(path)
    if not sha256.startswith(INCEPTION_SHA):
        raise UserError(
            f"{path}: not the standard Inception weights (sha256 {sha256[:8]}..., expected"
            f" {INCEPTION_SHA}...); give pt_inception-2015-12-05-6726825d.pth, or drop --inception_weights to"
            " measure `frechet` instead of FID"
        )
    return state, sha256


def _build_inception(state, path):
    # torch-fidelity unpickles the file it is given; it gets one that we wrote, in a folder that only this
    # user can enter.
    with tempfile.TemporaryDirectory(prefix="inception-") as folder:
        private = os.path.join(folder, "weights.pth")
        torch.save(state, private)
        try:
            return _Inception(private)
        except RuntimeError as e:
            raise UserError(
                f"{path}: its tensors do not fit the Inception network ({' '.join(str(e).split())[:120]})"
            ) from e


class _Features(nn.Module):
    """Lets torchmetrics take features that are already there, so that FID and KID share one pass of the
    network."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


class Sample:
    """Features (n, num_features) of at most KID_KEPT images of a set: those whose key has the smallest seeded
    hash, so they depend neither on the order of the images nor on the process that saw them."""

    def __init__(self, seed: int):
        self.seed, self.ranks, self.features = seed, np.empty(0, np.int64), None

    def add(self, features: torch.Tensor, keys: Sequence[str]) -> None:
        ranks = np.array([seeds.derive(self.seed, "kid", key) for key in keys], np.int64)
        if self.features is not None:
            ranks, features = np.concatenate([self.ranks, ranks]), torch.cat([self.features, features])
        self.ranks, self.features = self._smallest(ranks, features)

    def _smallest(self, ranks, features):
        order = np.argsort(ranks, kind="stable")[:KID_KEPT]
        return ranks[order], features[torch.from_numpy(order).to(features.device)]

    def gathered(self) -> torch.Tensor:
        """Those of all processes, in the order of their hash."""
        if not (dist.is_available() and dist.is_initialized()):
            return self.features
        parts = [None] * dist.get_world_size()
        dist.all_gather_object(parts, (self.ranks, None if self.features is None else self.features.cpu()))
        parts = [(ranks, features) for ranks, features in parts if features is not None]
        ranks = np.concatenate([ranks for ranks, _ in parts])
        return self._smallest(ranks, torch.cat([features for _, features in parts]))[1]


class Distance:
    """Distance between two sets of images, streamed: update with batches of either side in any order, then
    compute.

    Sums are kept in double precision, so the result does not depend on the batch size; under torchrun every
    process updates with its shard and calls compute. KID is measured on at most KID_KEPT images of a side (8
    KB each), chosen by `seed` and their keys, in subsets drawn from `seed`.

    Args:  extractor  of load_extractor; share one among the distances of a run
    """

    def __init__(self, extractor: Extractor, seed: int = 0):
        self.extractor, self.seed = extractor, seed
        self.features = extractor.description
        from torchmetrics.image.fid import FrechetInceptionDistance

        device = next(extractor.parameters()).device
        self.fid = FrechetInceptionDistance(feature=_Features(extractor.num_features)).to(device)
        self.samples = (Sample(seed), Sample(seed)) if extractor.standard else None  # judged, reference
        self.counts = [0, 0]  # images seen: judged, reference

    def update(self, x: torch.Tensor | np.ndarray, real: bool, keys: Sequence[str] | None = None) -> None:
        """Add images (forms: Extractor.forward); real=True for the reference side."""
        self.update_features(self.extractor(x), real, keys)

    def update_features(self, features: torch.Tensor, real: bool, keys: Sequence[str] | None = None) -> None:
        """Add features (N, num_features) that the extractor gave before: a reference shared by several
        distances costs one pass.  keys: what the N images are called; None = they are counted."""
        side = int(real)
        if self.samples:
            numbers = range(self.counts[side], self.counts[side] + len(features))
            self.samples[side].add(features.float(), keys or [str(n) for n in numbers])
        self.counts[side] += len(features)
        self.fid.update(features.double(), real=bool(real))

    def compute(self) -> dict[str, float | None]:
        """{"fid", "kid", "frechet"}: floats, None for what these features do not measure.  Needs two images
        on each side.

        Warns below 2,048 images a side.
        """
        counts = torch.tensor(self.counts, device=self.fid.device)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(counts)
        fewest = int(counts.min())
        distances = {"fid": None, "kid": None, "frechet": None}
        name = "fid" if self.extractor.standard else "frechet"
        if fewest < ENOUGH:
            warnings.warn(
                f"{name} from {fewest} images a side is biased upward; below {ENOUGH:,} it compares runs of"
                " equal size only",
                stacklevel=2,
            )
        if fewest < 2:
            return distances
        # Rounding can leave equal sets a hair below zero, which no distance is.
        distances[name] = max(0.0, float(self.fid.compute()))
        if self.samples:
            distances["kid"] = self._kid(min(KID_SUBSET, fewest))
        return distances

    def _kid(self, subset):
        from torchmetrics.image.kid import KernelInceptionDistance

        judged, reference = (sample.gathered() for sample in self.samples)
        # all subsets are the whole set
        subsets = KID_SUBSETS if max(len(judged), len(reference)) > subset else 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its note on memory, which Sample bounds
            kid = KernelInceptionDistance(
                feature=_Features(self.extractor.num_features),
                subset_size=subset,
                subsets=subsets,
                sync_on_compute=False,
            )
        kid.update(reference, real=True)
        kid.update(judged, real=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.derive(self.seed, "kid"))
            return float(kid.compute()[0])
