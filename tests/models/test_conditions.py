import torch

from models.conditions import create_labels

NAMES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]


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
