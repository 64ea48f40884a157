"""Which labels a face is translated to."""

import torch

HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")


def create_labels(c_org, attributes):
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
            c[:, hair] = 0
            c[:, k] = 1
        else:
            c[:, k] = 1 - c[:, k]
        targets.append(c)
    return torch.stack(targets)
