import pytest
import torch

from common.cli import UserError
from models.label_rules import attack_labels

ATTRIBUTES = ["Black_Hair", "Blond_Hair", "Male"]


def test_label_rules():
    c = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    assert torch.equal(attack_labels("original", c, ATTRIBUTES), c[:, None])
    stack = attack_labels("joint", c, ATTRIBUTES)
    assert stack.shape == (2, 3, 3)
    assert stack[0].tolist() == [[1, 0, 1], [0, 1, 1], [1, 0, 0]]  # black, blond, other gender
    assert torch.equal(stack, attack_labels("iterative", c, ATTRIBUTES)) and torch.equal(
        stack, attack_labels("target", c, ATTRIBUTES)
    )


def test_wrong_rule_and_wrong_width():
    with pytest.raises(UserError, match="did you mean joint"):
        attack_labels("joints", torch.zeros(1, 3), ATTRIBUTES)
    with pytest.raises(ValueError, match="N, 3"):
        attack_labels("original", torch.zeros(1, 2), ATTRIBUTES)
