"""Controls: no disruption, and noise that knows nothing of the translator."""

from attacks.base import Attack


class NoAttack(Attack):
    """The photo as it is; eps has no meaning."""

    name = "none"
    uses_translator = False
    smallest_eps = float("-inf")

    def __init__(self, translator=None, eps=0.0):
        super().__init__(None, eps or 0.0)

    def perturb(self, x, labels, rng):
        return x.new_zeros(()).expand_as(x)

    def definition(self):
        return {"attack": self.name, "eps": 0.0}


class Gaussian(Attack):
    """White noise of standard deviation eps ([-1, 1] units); not projected to a ball, but an 8-bit image in
    [-1, 1] as all."""

    name = "gaussian"
    uses_translator = False
    smallest_eps = 1e-6

    def __init__(self, translator, eps):
        super().__init__(None, eps)

    def perturb(self, x, labels, rng):
        return self.eps * rng.normal(x)

    @property
    def levels(self):
        return 255  # eps does not bound the noise, the image box does

    def definition(self):
        return {"attack": self.name, "eps": self.eps}


class RandomSign(Attack):
    """Every value of the photo moved by plus or minus eps at random: what a disruption of the same bound must
    beat."""

    name = "random-sign"
    uses_translator = False

    def __init__(self, translator, eps):
        super().__init__(None, eps)

    def perturb(self, x, labels, rng):
        return self.project(x, self.eps * rng.uniform(x, -1, 1).sign())

    def definition(self):
        return {"attack": self.name, "eps": self.eps}
