"""The table's engine where the attacker knows the defence, run whole on tiny photos."""

import json

import pytest

import test_test_defense as whole
import weights as tiny
from common import images
from common.cli import UserError
from report.looks import Looks
from report.rows import attack_of
from test_test_defense import only, records, run
from tiny import robust_file

stage = whole.stage


def found(results):
    """{defence: record}"""
    return {r["config"]["defense"]: r for r in records(results).values()}


def test_through_itself_each_defence_is_attacked_through_its_own_purifier(stage, tmp_path):
    flags, results = stage
    weights = tiny.diffusion(tmp_path / "one.safetensors", "one-step", channel_mult="1")
    more = f"--defense_weights one-step={weights} --attack_target clean --limit 2"
    run(flags, f"--defense_model_type none jpeg-60 one-step {more} --attack_through self")
    itself = found(results)
    assert {p.split("/")[-3] for p in records(results)} == {"pgd-eps0.05-clean-through-self"}
    assert {r["config"]["attack_through"] for r in itself.values()} == {"self"}
    keys = {name: r["provenance"]["attacked_key"] for name, r in itself.items()}
    before = set(records(results))
    assert len(set(keys.values())) == 3
    # the same photos as by name, and for none as by an attacker who ignores defences
    for name, through in (
        ("none", "none"),
        ("jpeg-60", "jpeg-60"),
        ("jpeg-60", "jpeg"),
        ("one-step", "one-step"),
    ):
        options = more if name == "one-step" else more.partition(str(weights))[2]
        run(flags, f"--defense_model_type {name} {options} --attack_through {through}")
        (again,) = [r for p, r in records(results).items() if p not in before]
        before = set(records(results))
        assert again["provenance"]["attacked_key"] == keys[again["config"]["defense"]]
        assert again["config"]["attack_through"] == (None if name == "none" else through)


def test_another_purifier_is_named_with_its_parameters(stage):
    flags, results = stage
    run(flags, "--defense_model_type jpeg-60 --attack_through jpeg-90 --limit 1")
    run(flags, "--defense_model_type blur --attack_through jpeg-90 --limit 1")
    a, b = records(results).values()
    assert a["config"]["attack_through"] == b["config"]["attack_through"] == "jpeg-90"
    assert a["provenance"]["attacked_key"] == b["provenance"]["attacked_key"]


def test_an_attacker_may_have_other_weights_than_the_defence(stage, tmp_path):
    flags, results = stage
    own = tiny.diffusion(tmp_path / "own.safetensors", "one-step", channel_mult="1")
    others = tiny.diffusion(tmp_path / "others.safetensors", "one-step")
    more = f"--defense_model_type one-step --defense_weights {own} --attack_through one-step --limit 1"
    run(flags, more)
    key = only(results)["provenance"]["attacked_key"]
    run(flags, f"{more} --through_weights {others}")
    (path, record) = next((p, r) for p, r in records(results).items() if "@" in p)
    sha = record["config"]["through_sha256"]
    assert f"-through-one-step@{sha[:6]}/" in path and record["provenance"]["attacked_key"] != key
    assert sha != record["provenance"]["defense_sha256"]
    assert [r["config"]["through_sha256"] for p, r in records(results).items() if "@" not in p] == [None]


@pytest.mark.slow
def test_an_attacker_may_know_the_noise_of_the_test(stage, tmp_path):
    flags, results = f"{stage[0]} --attack_steps 4", stage[1]
    weights = tiny.diffusion(tmp_path / "ddpm.safetensors", channel_mult="1")
    more = f"--defense_model_type ddpm-3 --defense_weights {weights} --attack_target clean --limit 2"
    run(flags, f"{more} --attack_through self --eot 2")
    run(flags, f"{more} --attack_through self --known_noise")
    by = {r["config"]["attack_known_noise"]: r for r in records(results).values()}
    assert set(by) == {None, True} and any("-through-self-known-noise/" in p for p in records(results))
    assert (by[None]["config"]["attack_eot"], by[True]["config"]["attack_eot"]) == (2, 1)
    assert by[True]["metrics"]["purified"]["l2"] > by[None]["metrics"]["purified"]["l2"]


@pytest.mark.parametrize(
    "more, words",
    [
        ("jpeg --attack_through self --eot 4", ["--eot 4", "jpeg draws none"]),
        ("jpeg --attack_through self --known_noise", ["--known_noise", "jpeg draws none"]),
        ("none --eot 2", ["--eot 2", "none draws none"]),
        ("ddpm-3 --defense_weights W --attack_through self --eot 4 --known_noise", ["--eot 4", "drop one"]),
        ("jpeg --attack_through jpg", ["--attack_through", "self, none", "jpeg"]),
        ("jpeg --attack_through jpeg-101", ["--attack_through", "1 to 100"]),
        ("jpeg --attack_through self --through_weights W", ["--through_weights", "--attack_through"]),
        ("jpeg --attack_through jpeg --through_weights W", ["--through_weights", "--attack_through"]),
        ("jpeg --attack_type gaussian --attack_through self", ["gaussian"]),
        ("jpeg --attack_type worst --gradient bpda", ["--gradient bpda", "both"]),
        ("jpeg --attack_type worst --attack_grid 64", ["--attack_grid 64", "32"]),
    ],
)
def test_mistakes_of_who_knows_the_defence_write_nothing(stage, tmp_path, more, words):
    flags, results = stage
    more = more.replace(" W", f" {tiny.diffusion(tmp_path / 'w.safetensors', channel_mult='1')}")
    with pytest.raises(UserError) as e:
        run(flags, f"--defense_model_type {more}")
    assert all(word in str(e.value) for word in words) and not results.exists()


FEW = "--attack_type worst --apgd_steps 2 --apgd_restarts 1 --square_queries 4 --attack_grid 4"


def notes_of(results):
    """{purifier: the notes of the photos that were disrupted through it}"""
    notes = {}
    for path in sorted((results / "attacked").rglob("*.png")):
        members = json.loads((path.parent / "definition.json").read_text())["members"]
        through = members["apgd"]["through"] or {"purifier": "none"}
        notes.setdefault(through["purifier"], []).append(images.read_note(path))
    return notes


def test_the_worst_case_is_what_the_table_measures_and_the_record_says_who_won(stage, tmp_path, capsys):
    flags, results = stage
    weights = tiny.diffusion(tmp_path / "one.safetensors", "one-step", channel_mult="1")
    more = f"--defense_weights one-step={weights} --attack_label target --limit 2 {FEW}"
    run(flags, f"--defense_model_type none jpeg-60 one-step {more}")
    said, every, notes = capsys.readouterr().out, found(results), notes_of(results)
    assert {p.split("/")[-3] for p in records(results)} == {"worst-eps0.05-clean-target-through-self"}
    for name, record in every.items():
        worst, mine = record["config"]["worst"], notes[name]
        assert len(mine) == 10 == sum(worst["won"].values()) and worst["eot"] == 1
        assert set(worst["l2"]) == set(mine[0]["l2"]) and ("apgd-bpda" in worst["l2"]) == (name != "none")
        l2 = sum(max(note["l2"].values()) for note in mine) / 10
        assert record["metrics"]["purified"]["l2"] == pytest.approx(l2, rel=1e-5) and l2 > 0
        won = ", ".join(f"{member} {count}" for member, count in worst["won"].items() if count)
        assert f"\nworst: {won}\n" in said and f"; worst: {won}\n" in said
    looks = Looks()
    assert len({attack_of(record["config"], looks) for record in every.values()}) == 1
    config = every["one-step"]["config"]
    assert (config["attack_through"], config["attack_eot"], config["attack_known_noise"]) == (
        "self",
        None,
        None,
    )
    assert [config[f"attack_{key}"] for key in ("steps", "restarts", "queries", "grid")] == [2, 1, 4, 4]
    run(flags, f"--defense_model_type jpeg-60 --attack_label target --limit 2 {FEW}")  # from the cache alone
    assert found(results)["jpeg"]["config"]["worst"] == every["jpeg"]["config"]["worst"]


def test_the_worst_case_of_a_translator_of_its_own_attacks_that_one(stage, tmp_path):
    flags, results = stage
    adversarial = tiny.translator(tmp_path / "adv.safetensors", conv_dim=6)
    run(flags, f"--defense_model_type none adv-train --adv_gan_weights {adversarial} --limit 2 {FEW}")
    every = found(results)
    assert every["adv-train"]["config"]["attack_on"] == "self"
    assert every["none"]["config"]["attack_on"] == "standard"
    assert (
        every["adv-train"]["config"]["attack_through"] == every["none"]["config"]["attack_through"] == "self"
    )


@pytest.mark.slow  # every member, twenty draws of each
def test_the_worst_case_of_a_random_defence_draws_often(stage, tmp_path):
    flags, results = stage
    weights = tiny.diffusion(tmp_path / "ddpm.safetensors", channel_mult="1")
    more = f"--defense_weights {weights} --limit 1 {FEW} --apgd_steps 1 --square_queries 1"
    run(flags, f"--defense_model_type ddpm-1 {more}")
    run(flags, f"--defense_model_type ddpm-1 {more} --eot 2")
    by = {r["config"]["worst"]["eot"]: r["config"]["attack_eot"] for r in records(results).values()}
    assert by == {20: None, 2: 2}


def test_the_worst_case_that_ignores_the_defence_goes_through_nothing(stage):
    flags, results = stage
    run(flags, f"--defense_model_type none blur --limit 2 --attack_through none {FEW}")
    a, b = records(results).values()
    assert a["config"]["attack_through"] is b["config"]["attack_through"] is None
    assert a["config"]["worst"] == b["config"]["worst"] and set(a["config"]["worst"]["l2"]) == {
        "apgd",
        "square",
        "low-frequency",
    }


def test_robust_weights_of_another_translator_are_told_and_tested(stage, tmp_path, capsys):
    flags, results = stage
    weights = robust_file(tmp_path / "robust.safetensors", gan_sha256="0123456789abcdef")
    run(flags, f"--defense_model_type one-step-robust --defense_weights {weights} --limit 1")
    assert "another translator (sha256 01234567)" in capsys.readouterr().out
    assert len(records(results)) == 1
