"""Which labels an attack conditions the translator on; the labels of the evaluation are another matter."""

from common.cli import UserError, nearest
from models.translators import own, targets

RULES = ("original", "iterative", "joint", "target")


def attack_labels(rule, c_org, attributes, translator=None):
    """Label sets of one attack, as the conditions of the translator that it works on.

    original   the photo's own labels, the default of the published protocol: K = 1
    iterative  step k uses set k mod K (class-transferable, Ruiz et al. 2020, Sec. 3.2): K = C target domains
    joint      mean loss over all K sets: K = C target domains
    target     the upper bound of an attacker who knows the edit: K = C, and the caller attacks each [:,
               k:k+1] separately

    Args:    c_org (N, C) in {0, 1};  attributes  the C column names (hair colours exclude each other)
             translator  G(x, c); None where an attack uses none
    Returns: (N, K, C)
    """
    if rule not in RULES:
        raise UserError(f"unknown label rule {rule!r}{nearest(rule, RULES)}; one of: {', '.join(RULES)}")
    if c_org.ndim != 2 or c_org.shape[1] != len(attributes):
        raise ValueError(
            f"expected labels (N, {len(attributes)}) for {', '.join(attributes)}, found {tuple(c_org.shape)}"
        )
    return (
        own(translator, c_org)[:, None]
        if rule == "original"
        else targets(translator, c_org, attributes).transpose(0, 1).contiguous()
    )
