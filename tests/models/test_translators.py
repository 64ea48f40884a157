import pytest
import torch

from common.cli import UserError
from models.conditions import condition, create_labels, own, targets
from models.translators import TRANSLATORS, Translator, load_translator

NAMES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]


class Difference(Translator):
    def condition(self, c_org, target):
        return target - c_org


def test_a_plain_network_and_none_are_asked_with_labels(tiny_generator, faces):
    _, c = faces(3)
    for translator in (tiny_generator, None, Translator(tiny_generator)):
        assert torch.equal(own(translator, c), c) and torch.equal(
            targets(translator, c, NAMES), create_labels(c, NAMES)
        )
        assert torch.equal(condition(translator, c, 1 - c), 1 - c)


def test_a_translator_says_what_it_is_asked_with(tiny_generator, faces):
    _, c = faces(3)
    translator = Difference(tiny_generator)
    assert not own(translator, c).any() and torch.equal(
        targets(translator, c, NAMES), create_labels(c, NAMES) - c
    )


def test_an_unknown_name_and_a_style_without_use_are_one_line(tmp_path):
    with pytest.raises(
        UserError, match=f"unknown translator 'stargna'.*stargan.*one of: {', '.join(TRANSLATORS)}"
    ):
        load_translator(tmp_path / "g.pt", gan_type="stargna")
    with pytest.raises(UserError, match="--gan_style is for --gan_type starganv2, found stgan"):
        load_translator(tmp_path / "g.pt", gan_type="stgan", style="3")
