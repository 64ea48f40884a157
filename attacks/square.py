"""Square attack: a random search that asks for fakes and never for a gradient."""

from collections.abc import Callable

import torch

from attacks.base import Attack
from attacks.gradient import LABEL, check_label_sets
from attacks.harm import fake_mse
from common import cli, seeds
from common.declared import Look, Parameter
from common.seeds import Streams
from models.conditions import RULES

P_INIT = 0.8  # share of the photo that the first square covers
HALVED_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries


def covered(query: int, queries: int) -> float:
    """Share of the photo that the square of a query covers: halved at set parts of the budget."""
    done = query * 10_000 // queries
    return P_INIT / 2 ** sum(done > h for h in HALVED_AT)


class Square(Attack):
    """L-inf Square attack on the mean squared distance of the fakes from the clean fakes.

    Begins with vertical stripes of +-eps; each query sets one square of the photo, at a random place, to
    +-eps in each channel, and a photo keeps the change if its fakes move further off. What is asked about is
    the released 8-bit image, so the image kept is as harmful as it was found to be (behind a random defence:
    in that mean of draws, which is not asked again).

    Args:   queries  images per photo that are asked, the stripes among them (each K fakes, times the draws of
                     a random defence);  the rest as attacks.base.Attack
            label    original, target: one label set (K = 1);  iterative, joint: mean over the K sets
    Source: Andriushchenko et al. 2020 (arXiv:1912.00049), Algorithms 1 and 2, with the schedule of its code.
            p starts at 0.8, their value for targeted attacks; ours has no class to leave.
    """

    name = "square"
    look = Look("Square", "#0f8f8a", 42)
    parameters = (
        Parameter(
            "queries", "--square_queries", cli.positive_int, 300, "images that square asks about", metavar="N"
        ),
        LABEL,
    )
    handed = ("precision",)
    goes_through = True

    def __init__(
        self,
        translator: Callable[..., torch.Tensor] | None,
        eps: float,
        queries: int = 300,
        label: str = "original",
        precision: str = "fp32",
    ):
        super().__init__(translator, eps, precision)
        if label not in RULES:
            raise ValueError(f"label {label!r}: one of {', '.join(RULES)}")
        if queries < 1:
            raise ValueError(f"expected queries >= 1, found {queries}")
        self.queries, self.label = queries, label

    def definition(self) -> dict:
        return {
            "attack": self.name,
            "eps": self.eps,
            "queries": self.queries,
            "target": "clean",
            "label": self.label,
            "precision": self.precision,
            "translator": getattr(self.generator, "sha256", None),
            "through": self.defence.definition() if self.defence else None,
            "streams": seeds.VERSION,
        }

    def perturb(self, x: torch.Tensor, labels: torch.Tensor, rng: Streams) -> torch.Tensor:
        check_label_sets(self.label, labels.shape[1])
        goals = [self.reference(x, labels[:, k]) for k in range(labels.shape[1])]
        n, channels, h, w = x.shape

        def ask(d):
            return fake_mse(self, self.release(x, d), labels, goals, rng, self.draws)

        best = self._signs(x.new_empty(n, channels, 1, w), rng).expand_as(x)
        top = ask(best)
        for query in range(1, self.queries):
            side = min(max(1, round((covered(query, self.queries) * h * w) ** 0.5)), h, w)
            inside = _within(rng, h, side, x)[:, None, :, None] & _within(rng, w, side, x)[:, None, None]
            d = torch.where(inside, self._signs(x.new_empty(n, channels, 1, 1), rng), best)
            score = ask(d)
            best = torch.where((score > top)[:, None, None, None], d, best)
            top = torch.maximum(score, top)
        return self.project(x, best)

    def _signs(self, like, rng):
        return self.eps * torch.where(rng.uniform(like) < 0.5, -1.0, 1.0).to(like)


def _within(rng, length, side, x):
    """(N, length) bool: a stretch of `side` at each photo's own random place."""
    begin = rng.integers(length - side + 1, x.device)[:, None]
    place = torch.arange(length, device=x.device)
    return (place >= begin) & (place < begin + side)
