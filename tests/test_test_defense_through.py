"""The table's engine where the attacker knows the defence, run whole on tiny photos."""

import pytest

import test_test_defense as whole
import weights as tiny
from common.cli import UserError
from test_test_defense import only, records, run

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
    ],
)
def test_mistakes_of_who_knows_the_defence_write_nothing(stage, tmp_path, more, words):
    flags, results = stage
    more = more.replace(" W", f" {tiny.diffusion(tmp_path / 'w.safetensors', channel_mult='1')}")
    with pytest.raises(UserError) as e:
        run(flags, f"--defense_model_type {more}")
    assert all(word in str(e.value) for word in words) and not results.exists()
