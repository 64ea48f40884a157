"""The strongest of several attacks, for each photo by itself: what a defence is worth against an attacker who
knows it."""

from collections import Counter
from collections.abc import Callable, Sequence

import torch

import attacks
from attacks.apgd import APGD
from attacks.base import Attack
from attacks.harm import fake_mse
from attacks.low_frequency import LowFrequency
from attacks.square import Square
from attacks.through import DRAWS
from common import seeds
from common.declared import Look
from common.seeds import Streams

MASKED = 1.05  # times the harm of the exact gradient: from there on it is masked


class Worst(Attack):
    """Several attacks, of which each photo keeps the one that harms its fakes most behind the whole defence.

    apgd            exact gradients through the defence
    apgd-bpda       backward as if the defence was the identity; where there is one
    square          queries alone, no gradient
    low-frequency   a coarse perturbation, through the defence
    apgd-ignoring   the translator alone; where there is a defence

    apgd has all steps and starts; the others that take gradients half the steps, from one start. Each has
    random numbers of its own, so what one finds does not depend on which others there are. The harm
    is measured on the released 8-bit image, of a random defence over the same DRAWS draws for all.

    Args:   settings  of the members' own flags;  the rest as attacks.base.Attack
    notes:  {"won": member, "l2": {member: harm}} of each photo, squared [-1, 1] units
    Source: the practice of Croce and Hein 2020 (arXiv:2003.01690): an ensemble that needs no tuning, with an
            attack without gradients in it, and the worst of them for each image
    """

    name = "worst"
    look = Look("worst case", "#7a1020", 44)
    parameters = tuple(
        dict.fromkeys(p for cls in (APGD, Square, LowFrequency) for p in cls.parameters if p.name != "jpeg")
    )
    handed = ("precision",)
    differentiates = goes_through = True

    def __init__(
        self,
        translator: Callable[..., torch.Tensor] | None,
        eps: float,
        label: str = "original",
        precision: str = "fp32",
        **settings: int,
    ):
        super().__init__(translator, eps, precision)
        whole, companions = translator, {"square": translator, "low-frequency": translator}
        if self.defence:
            whole, blind = (self.defence.differentiated(gradient) for gradient in ("full", "bpda"))
            companions = {"apgd-bpda": blind, "square": whole, "low-frequency": whole}
            companions["apgd-ignoring"] = self.generator
        settings = {"label": label, "precision": precision, **settings}
        exact = attacks.build("apgd", whole, eps, **settings)
        short = settings | {"apgd_steps": -(-exact.steps // 2), "restarts": 1}
        self.members = {"apgd": exact} | {
            name: attacks.build(KINDS.get(name, name), seen, eps, **short)
            for name, seen in companions.items()
        }
        self.label, self.steps = label, exact.steps
        self.measured = max(DRAWS, self.draws) if self.defence and self.defence.random else 1
        self.notes = []

    def check_size(self, image_size: int) -> None:
        for member in self.members.values():
            member.check_size(image_size)

    def check_finite(self) -> None:
        for member in self.members.values():
            member.check_finite()

    def definition(self) -> dict:
        return {
            "attack": self.name,
            "eps": self.eps,
            "steps": self.steps,
            "restarts": self.members["apgd"].restarts,
            "queries": self.members["square"].queries,
            "grid": self.members["low-frequency"].grid,
            "target": "clean",
            "label": self.label,
            "precision": self.precision,
            "members": {name: member.definition() for name, member in self.members.items()},
            "measured": self.measured,
            "streams": seeds.VERSION,
        }

    def perturb(self, x: torch.Tensor, labels: torch.Tensor, rng: Streams) -> torch.Tensor:
        goals = [self.reference(x, labels[:, k]) for k in range(labels.shape[1])]
        released, harm = [], []
        for name, member in self.members.items():
            released.append(member.disrupt(x, labels, rng.apart(name)))
            harm.append(fake_mse(self, released[-1], labels, goals, rng.apart("harm"), self.measured))
        harm = torch.stack(harm, 1)
        best = harm.argmax(1)  # the first where several are as good
        names = list(self.members)
        self.notes = [
            {"won": names[k], "l2": dict(zip(names, row, strict=True))}
            for k, row in zip(best.tolist(), harm.tolist(), strict=True)
        ]
        return torch.stack(released, 1)[torch.arange(len(x), device=x.device), best] - x


KINDS = {"apgd-bpda": "apgd", "apgd-ignoring": "apgd"}  # member -> attack, where they differ


def summarise(notes: Sequence[dict]) -> dict:
    """What the notes of Worst say together: {"won": {member: count}, "l2": {member: mean}, "masked"}.

    masked: the attack without gradients harms more than the exact gradient, which is therefore none to trust
    """
    won = Counter(note["won"] for note in notes)
    l2 = {name: sum(note["l2"][name] for note in notes) / len(notes) for name in notes[0]["l2"]}
    masked = l2["square"] > MASKED * l2["apgd"]
    return {"won": {name: won[name] for name in l2}, "l2": l2, "masked": masked}
