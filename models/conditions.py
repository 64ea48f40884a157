"""Which labels a face is translated to, what asks a translator for them, and which of them an attack works
on."""

from collections.abc import Sequence

import torch

from common.errors import UserError, nearest

HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
RULES = ("original", "iterative", "joint", "target")  # of attack_labels


def create_labels(c_org: torch.Tensor, attributes: Sequence[str]) -> torch.Tensor:
    """One target label set per attribute (StarGAN's rule).

    For a hair colour: that colour on, the other hair colours off; for any other attribute: its value flipped.

    Args:    c_org (N, C) in {0, 1};  attributes  the C column names
    Returns: (C, N, C): result[k] are the labels of target domain k
    """
    hair = [i for i, name in enumerate(attributes) if name in HAIR_COLOURS]
    targets = []
    for k in range(len(attributes)):
        c = c_org.clone()
        if k in hair:
            for i in hair:  # a list as an index would wait for the device
                c[:, i] = 0
            c[:, k] = 1
        else:
            c[:, k] = 1 - c[:, k]
        targets.append(c)
    return torch.stack(targets)


def condition(translator: object, c_org: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """What asks any G(x, c) for the labels `target` of photos of labels c_org, both (..., N, C) in {0, 1}; a
    plain network, or None, takes labels as they are."""
    ask = getattr(translator, "condition", None)  # of models.translators.Translator
    return target if ask is None else ask(c_org, target)


def own(translator: object, c_org: torch.Tensor) -> torch.Tensor:
    """Conditions (N, C) that ask for the photos' own labels c_org (N, C)."""
    return condition(translator, c_org, c_org)


def targets(translator: object, c_org: torch.Tensor, attributes: Sequence[str]) -> torch.Tensor:
    """Conditions (K, N, C) that ask for one target domain after the other, K = C; see create_labels."""
    return condition(translator, c_org, create_labels(c_org, attributes))


def attack_labels(
    rule: str, c_org: torch.Tensor, attributes: Sequence[str], translator: object = None
) -> torch.Tensor:
    """Label sets of one attack, as the conditions of the translator that it works on; the labels of the
    evaluation are another matter.

    original   the photo's own labels, the default of the published protocol: K = 1
    iterative  step k uses set k mod K (class-transferable, Ruiz et al. 2020, Sec. 3.2): K = C target domains
    joint      mean loss over all K sets: K = C target domains
    target     the upper bound of an attacker who knows the edit: K = C, and the caller attacks each [:,
               k:k+1] separately

    Args:    c_org (N, C) in {0, 1};  attributes  the C column names (hair colours exclude each other)
             translator  G(x, c); None where an attack uses none
    Returns: (N, K, C)
    Raises:  UserError for an unknown rule, ValueError for labels of another width
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
