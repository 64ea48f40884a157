import torch

from attacks import build
from common import seeds
from models.conditions import attack_labels
from models.dadfi.validation import Validation
from models.stargan.frozen import StarGAN
from models.victims import Victim
from weights import ATTRIBUTES


class Gives:
    """A network whose perturbation is this one, whatever the photo."""

    def __init__(self, p):
        self.p = p

    def perturbation(self, x):
        return self.p.expand_as(x)


def test_what_counts_as_collapsed(faces, tiny_generator):
    x, c = faces(4)
    victim = Victim("stargan", "", StarGAN(tiny_generator), ATTRIBUTES, ATTRIBUTES)
    attack = build("pgd", tiny_generator, 0.05, steps=10, step_size=0.01, target="clean", label="iterative")
    pgd = attack(x, attack_labels("iterative", c, victim.attributes), seeds.Streams(range(4)))
    validation = Validation(x, c, [victim], attack.release, [pgd], 0.05, seed=0)
    assert validation.pgd[0] > 2 * validation.noise[0] > 0
    assert "0.00 of a grey level" in validation.finding(Gives(torch.full((1, 3, 1, 1), 0.4 / 127.5)))
    flat = torch.full((1, 3, 1, 1), 0.049)
    assert "no effect" in validation.finding(Gives(flat)) or "saturated constant" in validation.finding(
        Gives(flat)
    )
    validation.noise = [0.0]
    assert validation.finding(Gives(flat)).startswith(
        "saturated constant pattern: 0.049 of 0.05 everywhere, 0.00 of a grey level"
    )
    assert validation.finding(Gives((pgd - x)[:1])) is None
    validation.noise = [1.0]
    assert validation.finding(Gives((pgd - x)[:1])).startswith("no effect: its fakes are no further")
