"""The label-free attack of NRP's training (Naseer et al. 2020): away from the photo in the features of a
network that is no translator."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from attacks.gradient import PGD, STEPS
from common import seeds
from common.declared import Look, Parameter
from common.seeds import Streams
from models.classifier.network import AttributeClassifier, load_classifier


@cache  # trainings make an attack a step
def network_of(features: Path | str | None) -> AttributeClassifier:
    """The classifier of a weight file, None = the shipped one."""
    return load_classifier(features)


class FeatureDistance(PGD):
    """PGD that maximises the mean squared distance of the convolutional features of x + d from those of x:
    these stand where a translator's fakes do.

    It knows neither translator nor labels: what a purifier learns from it is about no translator.

    Args:   eps, step_size  [-1, 1] image units;  steps  one forward and backward pass of the network each
            features        weights of an attribute classifier (models.classifier), None = the shipped one;
                            the last of its convolutions is looked at, of the photo at its own size
    Source: Naseer, Khan, Hayat, Khan and Porikli 2020 (arXiv:2006.04924), self-supervised perturbation; there
            the features are VGG-16's
    """

    name = "feature"
    look = Look("feature", "#8451c9", 35)
    parameters = (
        *STEPS,
        Parameter(
            "features",
            "--attack_features",
            str,
            None,
            "for feature: the attribute classifier whose features are disturbed (python -m"
            " models.classifier.train); default: the one that ships",
            metavar="FILE",
        ),
    )
    handed = ()
    uses_translator = differentiates = goes_through = False

    def __init__(
        self,
        translator: Callable[..., torch.Tensor] | None,
        eps: float,
        steps: int = 10,
        step_size: float = 0.01,
        features: Path | str | None = None,
    ):
        super().__init__(None, eps, steps, step_size, target="clean")
        self.network = network_of(features)

    def translate(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """The features (N, C, h, w) of x (N, 3, H, W), whatever is asked for."""
        return self.network.body(x)

    def perturb(self, x: torch.Tensor, labels: torch.Tensor, rng: Streams) -> torch.Tensor:
        self.network.to(x.device)
        return super().perturb(x, labels[:, :1], rng)

    def definition(self) -> dict:
        return {
            "attack": self.name,
            "eps": self.eps,
            "steps": self.steps,
            "step_size": self.step_size,
            "features": self.network.sha256,
            "streams": seeds.VERSION,
        }
