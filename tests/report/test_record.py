"""Records: round trip, refusal of what does not fit, and damaged or unknown files listed instead of a
crash."""

import copy
import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

from common.cli import UserError
from report import kinds, record
from synthetic import as_dict, defense, detector, disruption, filtering, save, scan


def test_round_trip(tmp_path):
    for found in (defense(), detector(), disruption(), filtering(), scan(), scan("villan"), scan("unknown")):
        record.write(tmp_path / "record.json", found)
        assert record.read(tmp_path / "record.json") == found
        assert json.loads((tmp_path / "record.json").read_text())["format"] == 1


def test_a_record_does_not_change():
    with pytest.raises(FrozenInstanceError):
        defense().seed = 3


def test_nan_and_infinity_become_null_and_numbers_become_plain(tmp_path):
    found = defense()
    found.metrics["purified"].update(
        l2=float("nan"), psnr=float("inf"), l2_ci=(np.float64(0.1), np.float32(0.5)), linf=torch.tensor(0.25)
    )
    record.write(tmp_path / "record.json", found)
    text = (tmp_path / "record.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    back = record.read(tmp_path / "record.json").metrics["purified"]
    assert (
        back["l2"] is None and back["psnr"] is None and back["l2_ci"] == [0.1, 0.5] and back["linf"] == 0.25
    )


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda d: d["metrics"]["purified"].pop("l2_ci"), "metrics.purified.l2_ci: missing"),
        (lambda d: d["config"].pop("eps"), "config.eps: missing"),
        (lambda d: d["config"].update(eps="0.05"), "config.eps: expected number or null"),
        (lambda d: d["config"].update(num_images=1.5), "config.num_images: expected whole number"),
        (lambda d: d["config"].update(num_images=True), "config.num_images: expected whole number"),
        (
            lambda d: d["metrics"]["purified"].update(l2_ci=[2, 1]),
            "metrics.purified.l2_ci: expected interval",
        ),
        (lambda d: d["metrics"].update(input=3), "metrics.input: expected an object"),
        (lambda d: d.pop("cost"), "cost: missing"),
        (lambda d: d.update(cost=None), "cost: expected an object"),
        (lambda d: d.update(kind="novel"), "unknown kind 'novel'"),
        (lambda d: d.update(kind=["defense"]), "unknown kind"),
        (lambda d: d.update(format=2), "format: expected 1"),
        (lambda d: d.update(name=""), "name: expected text"),
    ],
)
def test_problems_are_named(tmp_path, change, expected):
    whole = as_dict(save(tmp_path, defense()))
    assert record.validate(whole) == []
    broken = copy.deepcopy(whole)
    change(broken)
    problems = record.validate(broken)
    assert len(problems) == 1 and expected in problems[0]
    (tmp_path / "record.json").write_text(json.dumps(broken))
    with pytest.raises(UserError, match="record.json"):
        record.read(tmp_path / "record.json")


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda d: d["config"].pop("poison_rate"), "config.poison_rate: missing"),
        (lambda d: d["metrics"]["disrupted"].pop("auc_ci"), "metrics.disrupted.auc_ci: missing"),
        (
            lambda d: d["metrics"]["purified"].update(ece="low"),
            "metrics.purified.ece: expected number or null",
        ),
        (lambda d: d["metrics"].pop("purified"), "metrics.purified: missing"),
        (lambda d: d["provenance"].pop("defense_sha256"), "provenance.defense_sha256: missing"),
    ],
)
def test_a_detectors_test_sets_are_checked_where_there_are_any(tmp_path, change, expected):
    whole = as_dict(save(tmp_path, detector("one-step")))
    assert (
        record.validate(whole) == []
        and record.validate(as_dict(save(tmp_path, detector("clean", purified=None)))) == []
    )
    change(whole)
    (problem,) = record.validate(whole)
    assert expected in problem


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda d: d["config"].update(translators="stargan"), "config.translators: expected list or null"),
        (lambda d: d["config"].pop("crafted_on"), "config.crafted_on: missing"),
        (lambda d: d["metrics"]["worst"].pop("translator"), "metrics.worst.translator: missing"),
        (
            lambda d: d["per_group"]["translator"]["stgan"].pop("rmse_ci"),
            "per_group.translator.stgan.rmse_ci: missing",
        ),
        (
            lambda d: d["per_group"]["translator"].update(stargan=[1]),
            "per_group.translator.stargan: expected an object or null",
        ),
        (lambda d: d["per_group"].update(translator=[1]), "per_group.translator: expected an object or null"),
        (lambda d: d["provenance"].update(gan_sha256="b"), "provenance.gan_sha256: expected object or null"),
    ],
)
def test_every_translator_of_a_disruption_is_checked(tmp_path, change, expected):
    whole = as_dict(save(tmp_path, disruption()))
    assert record.validate(whole) == []
    change(whole)
    (problem,) = record.validate(whole)
    assert expected in problem


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda d: d["config"].pop("method_params"), "config.method_params: missing"),
        (
            lambda d: d["config"].update(poison_params="mode=critic"),
            "config.poison_params: expected object or null",
        ),
        (lambda d: d["metrics"].pop("tpr_at_1_ci"), "metrics.tpr_at_1_ci: missing"),
        (lambda d: d["metrics"]["classifier"].pop("kept"), "metrics.classifier.kept: missing"),
        (
            lambda d: d["per_group"]["class"]["1"].pop("num_poisoned"),
            "per_group.class.1.num_poisoned: missing",
        ),
        (
            lambda d: d["per_group"]["class"].update({"0": 0.9}),
            "per_group.class.0: expected an object or null",
        ),
        (lambda d: d["provenance"].pop("mimic_sha256"), "provenance.mimic_sha256: missing"),
    ],
)
def test_every_class_of_a_finder_of_poisoned_samples_is_checked(tmp_path, change, expected):
    whole = as_dict(save(tmp_path, filtering()))
    assert (
        record.validate(whole) == []
        and record.validate(as_dict(save(tmp_path, filtering("loss", half=None)))) == []
    )
    change(whole)
    (problem,) = record.validate(whole)
    assert expected in problem


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda d: d["config"].pop("truth"), "config.truth: missing"),
        (lambda d: d["config"].update(truth="benign"), "config.truth: expected object or null"),
        (lambda d: d["config"].update(starts="dark"), "config.starts: expected list or null"),
        (lambda d: d["metrics"].update(backdoored="yes"), "metrics.backdoored: expected number or null"),
        (lambda d: d["metrics"]["input"].pop("tnr"), "metrics.input.tnr: missing"),
        (
            lambda d: d["metrics"]["check"].update(frechet="low"),
            "metrics.check.frechet: expected number or null",
        ),
        (lambda d: d["cost"].pop("nfe"), "cost.nfe: missing"),
        (lambda d: d["provenance"].pop("defense_sha256"), "provenance.defense_sha256: missing"),
    ],
)
def test_what_a_scan_knows_is_checked(tmp_path, change, expected):
    whole = as_dict(save(tmp_path, scan("villan")))
    assert (
        record.validate(whole) == []
        and record.validate(as_dict(save(tmp_path, scan("unknown", check=False, flagged=-1)))) == []
    )
    change(whole)
    (problem,) = record.validate(whole)
    assert expected in problem


def test_not_measured_and_unforeseen_values_are_fine(tmp_path):
    found = as_dict(save(tmp_path, defense()))
    found["metrics"]["clean_purified"] = None
    found["metrics"]["purified"]["frechet"] = None
    found["features"] = None
    found["config"]["attack_eot"] = 4
    assert record.validate(found) == []


def test_an_invalid_record_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="config.eps: missing"):
        record.write(
            tmp_path / "record.json",
            replace(defense(), config={k: v for k, v in defense().config.items() if k != "eps"}),
        )
    assert not list(tmp_path.iterdir())


def test_every_kind_has_a_schema():
    assert [kind.name for kind in kinds.load_all()] == [
        "defense",
        "detector",
        "dadfi",
        "depois",
        "terd",
        "benchmark",
    ]


def test_read_all_lists_what_it_cannot_read(tmp_path):
    good = save(tmp_path, defense())
    for name, text in (
        ("cut", good.read_text()[:200]),
        ("nan", '{"format": 1, "x": NaN}'),
        ("empty", ""),
        ("list", "[1]"),
        ("deep", "[" * 100000),
        ("novel", json.dumps({**as_dict(good), "kind": "novel"})),
        ("binary", "\udcff"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_bytes(text.encode(errors="surrogateescape"))
    records, problems, unknown = record.read_all(tmp_path)
    assert [(path, found.name) for path, found in records] == [(good, "jpeg-q75")]
    assert len(problems) == 6
    for name, problem in zip(("binary", "cut", "deep", "empty", "list", "nan"), problems, strict=True):
        assert f"/{name}/record.json" in problem and "\n" not in problem
    assert unknown == [(tmp_path / "novel" / "record.json", "novel")]
    with pytest.raises(UserError, match="unknown kind 'novel'"):
        record.read(tmp_path / "novel" / "record.json")


def test_missing_and_empty_folders_are_one_line(tmp_path):
    with pytest.raises(UserError, match="no such results folder"):
        record.read_all(tmp_path / "none")
    with pytest.raises(UserError, match="holds no record.json"):
        record.read_all(tmp_path)
