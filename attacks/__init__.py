"""Disruptions of a photo that break the deepfake made of it. Names -> classes, imported on use."""

from common import registry

ATTACKS = {
    "none": "attacks.noise:NoAttack",
    "gaussian": "attacks.noise:Gaussian",
    "random-sign": "attacks.noise:RandomSign",
    "fgsm": "attacks.gradient:FGSM",
    "bim": "attacks.gradient:BIM",
    "pgd": "attacks.gradient:PGD",
    "mim": "attacks.gradient:MIM",
    "universal": "attacks.universal:Universal",
    "dadfi": "attacks.dadfi:DADFI",
}
# attacks that differentiate a translator
GRADIENT = ("fgsm", "bim", "pgd", "mim")
# to these, target, label and steps mean nothing
WITHOUT_TRANSLATOR = tuple(name for name in ATTACKS if name not in GRADIENT)
OPTIONS = (
    "steps",
    "step_size",
    "target",
    "label",
    "blur",
    "precision",
    "perturbation",
    "fit",
    "weights",
    "other_sizes",
)


def build(name, translator, eps, **options):
    """Make an attack by name.

    Args:    translator  G(x, c), a models.translators.Translator or attacks.through.ThroughDefence; unused by
                         none, random-sign, gaussian, universal and dadfi (None will do)
             eps         L-inf radius in [-1, 1] units (0.05 = 6.4/255); the standard deviation for gaussian;
                         unused by none
             options     of OPTIONS; those that do not concern this attack are left out, so that callers may
                         pass one set to all
    Returns: attacks.base.Attack
    Raises:  UserError for an unknown name, TypeError for an option that no attack has, ValueError for a value
             out of range
    """
    return registry.make("attack", ATTACKS, OPTIONS, name, translator, eps, **options)
