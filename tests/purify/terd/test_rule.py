"""The rules of model detection, by hand."""

import json
import math

import pytest
import torch

from common import checkpoint
from common.cli import UserError
from purify.terd.rule import (
    FULL,
    Calibration,
    collect,
    divergence,
    fit,
    flagged,
    floor,
    limits,
    main,
    probability,
    score,
)

BENIGN = [(0.010, 0.001), (0.012, 0.001), (0.014, 0.001)]  # mean .012, std .002


def row(name, m, v=0.001):
    return {"name": name, "sha256": name * 4, "mean_kl": m, "var_kl": v}


def calibration(tmp_path, known):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(known))
    return Calibration(path)


def test_divergence_by_hand():
    r = torch.tensor([0.0, 2.0]).expand(3, 1, 2)
    # per dimension 0 or 2; variance 6/5 over six values
    assert divergence(r, 1.0) == pytest.approx((1.0, 1.2))
    m, v = divergence(torch.zeros(3, 2, 2), 0.5)
    assert m == pytest.approx(math.log(2) + (0.25 - 1) / 2) and v == pytest.approx(0)
    assert divergence(torch.zeros(3, 2, 2), 1.0) == (0.0, 0.0)


def test_three_standard_deviations_and_the_floor():
    assert limits(BENIGN)["mean_kl"] == pytest.approx((0.012, 0.002))
    assert score(0.018, BENIGN) == pytest.approx(3)
    assert not flagged(0.0179, 0.001, BENIGN, 10_000) and flagged(0.0181, 0.001, BENIGN, 10_000)
    assert not flagged(0.0181, 0.001, BENIGN, 500)  # 9 nats in all: noise does not tell it
    # nor is less than that of a small image asked for of a large one
    assert not flagged(0.0138, 0.1, BENIGN, 10_000) and floor(10_000) == floor(768) == 10.8 / 768
    with pytest.raises(ValueError, match="2 benign"):
        flagged(1, 1, BENIGN[:2], 100)
    assert limits(BENIGN[:2]) is None and score(1, BENIGN[:2]) is None


def test_either_moment_flags():
    spread = [(0.015, 0.0010), (0.017, 0.0012), (0.019, 0.0014)]
    assert flagged(0.017, 0.1, spread, 10_000) and not flagged(0.017, 0.0012, spread, 10_000)


def test_fitted_rule_tells_the_two_apart():
    known = fit(BENIGN, [(0.4, 0.05), (0.3, 0.04)])
    assert probability(0.35, 0.045, known) > 0.5 > probability(0.012, 0.001, known)
    json.dumps(known)


def test_a_network_never_calibrates_its_own_verdict(tmp_path):
    rows = [row("a", 0.010), row("b", 0.012), row("c", 0.014), row("d", 0.9)]
    found = calibration(tmp_path, {"reduced": {FULL: {"benign": rows, "backdoored": [row("x", 0.5, 0.05)]}}})
    own, other = (found.judge("reduced", FULL, 0.9, 0.001, 768, sha) for sha in ("d" * 4, "e" * 4))
    # with itself among the benign, the outlier widens the rule
    assert own["flagged"] and not other["flagged"]
    assert own["rule"] == other["rule"] == "benign-only, 4 networks" and 0 <= own["fitted"] <= 1
    assert own["limits"]["floor"] == pytest.approx(10.8 / 768) and own["limits"]["mean_kl"] == pytest.approx(
        0.018
    )


def test_other_plans_are_judged_by_the_reduced_one_and_say_so(tmp_path):
    found = calibration(
        tmp_path, {"reduced": {FULL: {"benign": [row(n, 0.01) for n in "abc"], "backdoored": []}}}
    )
    told = found.judge("published", FULL, 0.5, 0.1, 768, "z")
    assert told["flagged"] and told["fitted"] is None and "of the plan reduced" in told["rule"]


def test_a_truncated_range_needs_both_kinds(tmp_path):
    benign = {"benign": [row(n, 0.01) for n in "abc"], "backdoored": []}
    assert calibration(tmp_path, {"reduced": {"300": benign}}).judge("reduced", "300", 1, 1, 768, "z") is None
    both = {**benign, "backdoored": [row("x", 0.5)]}
    assert calibration(tmp_path, {"reduced": {"300": both}}).judge("reduced", "300", 1, 1, 768, "z")[
        "flagged"
    ]
    assert Calibration(tmp_path / "missing.json").judge("reduced", FULL, 1, 1, 768, "z") is None


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"reduced": 3}', '{"reduced": {"full": {"benign": [{}], "backdoored": []}}}']
)
def test_damaged_calibration_is_one_line(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(UserError, match="not a calibration"):
        Calibration(tmp_path / "c.json")


def scan_file(folder, name, truth, plan="reduced", standard=True, **more):
    folder.mkdir(parents=True)
    checkpoint.save_weights(
        folder / "trigger.safetensors",
        {"r": torch.zeros(3, 2, 2)},
        {
            "kind": "terd-trigger",
            "name": name,
            "sha256": name,
            "plan": plan,
            "standard": standard,
            "range": FULL,
            "truth": truth,
            "mean_kl": 0.01,
            "var_kl": 0.001,
            **more,
        },
    )


def test_command_collects_what_is_known_once(tmp_path, capsys):
    for i, (name, truth) in enumerate([("a", {}), ("a", {}), ("b", {"name": "villan"}), ("c", None)]):
        scan_file(tmp_path / "r" / str(i), name, truth)
    scan_file(tmp_path / "r" / "9", "d", {}, standard=False)
    main(["--out", str(tmp_path / "c.json"), str(tmp_path / "r")])
    kinds = json.loads((tmp_path / "c.json").read_text())["reduced"][FULL]
    assert [r["name"] for r in kinds["benign"]] == ["a"] and [r["name"] for r in kinds["backdoored"]] == ["b"]
    assert "1 benign, 1 backdoored" in capsys.readouterr().out and collect(tmp_path / "r") == {
        "reduced": {FULL: kinds}
    }


def test_command_refuses_a_folder_without_benign_networks(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        main([str(tmp_path / "none")])
    with pytest.raises(UserError, match="known to be benign"):
        main([str(tmp_path), "--out", str(tmp_path / "c.json")])
    assert not (tmp_path / "c.json").exists()
