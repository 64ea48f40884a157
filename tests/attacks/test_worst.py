"""The strongest of several attacks, for each photo by itself."""

import pytest
import torch

from attacks import build
from attacks.through import DRAWS, ThroughDefence
from attacks.worst import Worst, summarise
from common import images, seeds
from purify.plain import Blur

NAMES = ["a", "b", "c", "d"]
FEW = {"apgd_steps": 3, "restarts": 1, "queries": 5, "grid": 4}
BEHIND = ["apgd", "apgd-bpda", "square", "low-frequency", "apgd-ignoring"]


class Noisy(Blur):
    """Draws noise from the image's own stream."""

    name, stochastic = "noisy", True

    def purify(self, x, rng):
        return (x + 0.2 * rng.normal(x)).clamp(-1, 1)


def worst(translator, purifier=None, **more):
    seen = ThroughDefence(translator, purifier, **more) if purifier else translator
    return build("worst", seen, 0.05, **FEW)


def rng(names=NAMES):
    return seeds.attacking(0, names)


def test_each_photo_keeps_its_worst_member_as_it_was_released(faces, tiny_generator):
    x, c = faces(4)
    attack, through = worst(tiny_generator, Blur()), ThroughDefence(tiny_generator, Blur())
    x_adv = attack(x, c[:, None], rng())
    assert [list(note["l2"]) for note in attack.notes] == [BEHIND] * 4
    clean = tiny_generator(x, c)
    fakes = tiny_generator(images.quantise(Blur()(x_adv)), c)
    harm = (fakes - clean).square().mean(dim=(1, 2, 3))
    for k, note in enumerate(attack.notes):
        assert note["l2"][note["won"]] == max(note["l2"].values()) == pytest.approx(float(harm[k]), rel=1e-5)
    for name, seen in (
        ("apgd", through),
        ("apgd-bpda", through.differentiated("bpda")),
        ("square", through),
        ("low-frequency", through),
        ("apgd-ignoring", tiny_generator),
    ):
        # all but the exact gradient have half the steps, and one start
        spent = FEW if name in ("apgd", "square") else {**FEW, "apgd_steps": 2}
        alone = build(name.split("-bpda")[0].split("-ignoring")[0], seen, 0.05, **spent)
        found = alone(x, c[:, None], rng().apart(name))
        won = [note["won"] == name for note in attack.notes]
        assert torch.equal(x_adv[won], found[won])
        fakes = tiny_generator(images.quantise(Blur()(found)), c)
        told = (fakes - clean).square().mean(dim=(1, 2, 3))
        assert told.tolist() == pytest.approx([note["l2"][name] for note in attack.notes], rel=1e-5)
        assert (harm >= told * (1 - 1e-5)).all()


def test_without_a_defence_there_is_nothing_to_ignore(faces, tiny_generator):
    attack = worst(tiny_generator)
    assert list(attack.members) == ["apgd", "square", "low-frequency"]
    x, c = faces(2)
    assert attack(x, c[:, None], rng(NAMES[:2])).shape == x.shape and len(attack.notes) == 2


def test_a_members_result_depends_neither_on_the_others_nor_on_the_batch(faces, tiny_generator):
    x, c = faces(4)
    whole, fewer = worst(tiny_generator, Noisy(), eot=2), worst(tiny_generator, Noisy(), eot=2)
    fewer.members = {name: fewer.members[name] for name in ("low-frequency", "square")}
    whole(x, c[:, None], rng()), fewer(x[1:2], c[1:2, None], rng(["b"]))
    (found,) = fewer.notes
    assert found["l2"] == pytest.approx({k: whole.notes[1]["l2"][k] for k in found["l2"]}, rel=1e-3)


def test_the_harm_of_a_random_defence_is_a_mean_over_draws(tiny_generator):
    assert worst(tiny_generator, Noisy()).measured == DRAWS >= 20
    assert worst(tiny_generator, Noisy(), eot=50).measured == 50
    assert worst(tiny_generator, Noisy(), known_noise=True).measured == 1
    assert worst(tiny_generator, Blur()).measured == 1


def test_several_label_sets(faces, tiny_generator):
    x, c = faces(2)
    attack = build("worst", tiny_generator, 0.05, label="joint", **FEW)
    labels = torch.stack([c, 1 - c], dim=1)
    x_adv = attack(x, labels, rng(NAMES[:2]))
    harm = [
        (tiny_generator(x_adv, k) - tiny_generator(x, k)).square().mean(dim=(1, 2, 3)) for k in (c, 1 - c)
    ]
    assert [max(note["l2"].values()) for note in attack.notes] == pytest.approx(
        torch.stack(harm).mean(0).tolist(), rel=1e-5
    )


def test_the_definition_has_those_of_all_members(tiny_generator):
    found = worst(tiny_generator, Blur()).definition()
    assert (found["attack"], found["eps"], found["steps"], found["target"]) == ("worst", 0.05, 3, "clean")
    assert (found["restarts"], found["queries"], found["grid"]) == (1, 5, 4)
    members = found["members"]
    assert list(members) == BEHIND and members["apgd-ignoring"]["through"] is None
    assert [members[name]["through"]["gradient"] for name in ("apgd", "apgd-bpda")] == ["full", "bpda"]
    assert members["square"]["queries"] == 5 and members["low-frequency"]["grid"] == 4
    assert {p.flag for p in Worst.parameters} == {
        "--apgd_steps",
        "--apgd_restarts",
        "--square_queries",
        "--attack_grid",
        "--attack_label",
    }


def test_notes_together_say_who_won_and_whether_the_gradient_is_masked():
    def note(won, apgd, square):
        return {"won": won, "l2": {"apgd": apgd, "square": square}}

    found = summarise([note("apgd", 0.5, 0.25), note("square", 0.25, 0.5), note("apgd", 0.75, 0.75)])
    assert found["won"] == {"apgd": 2, "square": 1} and found["l2"] == {"apgd": 0.5, "square": 0.5}
    assert [summarise([note("square", 1.0, l2)])["masked"] for l2 in (0.5, 1.04, 1.06)] == [
        False,
        False,
        True,
    ]
