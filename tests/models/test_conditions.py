import pytest
import torch

from common.cli import UserError
from models.conditions import attack_labels, create_labels

NAMES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]
FEWER = ["Black_Hair", "Blond_Hair", "Male"]


def test_hair_colours_exclude_each_other_and_the_rest_flips():
    # black-haired man; bald or hatted young woman
    c = torch.tensor([[1.0, 0, 0, 1, 0], [0, 0, 0, 0, 1]])
    out = create_labels(c, NAMES)
    assert out.shape == (5, 2, 5)
    assert out[:, 0].tolist() == [
        [1, 0, 0, 1, 0],
        [0, 1, 0, 1, 0],
        [0, 0, 1, 1, 0],
        [1, 0, 0, 0, 0],
        [1, 0, 0, 1, 1],
    ]
    assert out[:, 1].tolist() == [
        [1, 0, 0, 0, 1],
        [0, 1, 0, 0, 1],
        [0, 0, 1, 0, 1],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 0, 0],
    ]


def test_the_rule_goes_by_name_not_by_place():
    c = torch.tensor([[1.0, 0, 1]])
    assert create_labels(c, ["Male", "Gray_Hair", "Black_Hair"])[:, 0].tolist() == [
        [0, 0, 1],
        [1, 1, 0],
        [1, 0, 1],
    ]
    assert create_labels(c, ["Smiling", "Eyeglasses", "Bangs"])[:, 0].tolist() == [
        [0, 0, 1],
        [1, 1, 1],
        [1, 0, 0],
    ]


def test_the_photos_own_labels_are_left_alone():
    c = torch.tensor([[1.0, 0, 0, 1, 0]])
    create_labels(c, NAMES)
    assert c.tolist() == [[1, 0, 0, 1, 0]]


def test_label_rules():
    c = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    assert torch.equal(attack_labels("original", c, FEWER), c[:, None])
    stack = attack_labels("joint", c, FEWER)
    assert stack.shape == (2, 3, 3)
    assert stack[0].tolist() == [[1, 0, 1], [0, 1, 1], [1, 0, 0]]  # black, blond, other gender
    assert torch.equal(stack, attack_labels("iterative", c, FEWER)) and torch.equal(
        stack, attack_labels("target", c, FEWER)
    )


def test_wrong_rule_and_wrong_width():
    with pytest.raises(UserError, match="did you mean joint"):
        attack_labels("joints", torch.zeros(1, 3), FEWER)
    with pytest.raises(ValueError, match="N, 3"):
        attack_labels("original", torch.zeros(1, 2), FEWER)
