"""Released weights: float16, described, listed with their sha256."""

import pytest
import torch
import yaml

from common import checkpoint, files, seeds
from common.cli import UserError
from tools import export

VICTIMS = [{"gan": name} for name in export.VICTIMS]


def purifier(defense, attack, eps):
    return {"defense_model_type": defense, "attack_type": attack, "train_noise_var": eps}


RECIPE = {  # folder in models -> options, metadata of the training that ships
    "stargan": ({"adversarial": "none"}, {"kind": "stargan-generator"}),
    "classifier": ({}, {"kind": "classifier"}),
    "diffusion": (purifier("ddpm", "none", 0.05), {"kind": "diffusion"}),
    "one_step": (purifier("one-step", "pgd", 0.11), {"kind": "one-step"}),
    "one_step_robust": (
        purifier("one-step-robust", "pgd", 0.085),
        {"kind": "one-step-robust", "options": {"width": 112, "blocks": 3}},
    ),
    "dae": (purifier("defensive-model-2-fixed", "gaussian", 0.05), {"kind": "dae"}),
    "stgan": ({}, {"kind": "stgan-generator"}),
    "starganv2": ({}, {"kind": "starganv2-generator"}),
    "dadfi": ({}, {"kind": "dadfi", "variant": "", "victims": VICTIMS}),
}


def finish(results, name, number="000", options=None, meta=None, dataset="drawn"):
    """A finished training of RECIPE, with other options or metadata if given."""
    own, says = RECIPE[name]
    path = results / name / "drawn" / "train" / "kind" / number
    path.mkdir(parents=True)
    header = {"options": {"dataset": dataset, **own, **(options or {})}, "started": "2026-01-01T10:00:00"}
    (path / "options.yaml").write_text(yaml.safe_dump(header))
    checkpoint.save_weights(
        path / "weights.safetensors",
        {"w": torch.full((3,), 1 / 3)},
        {**says, "steps": 7, "seed": int(number), **(meta or {})},
    )


@pytest.fixture
def models(tmp_path, monkeypatch):
    for name in export.SHIPPED:
        (tmp_path / "models" / name).mkdir(parents=True)
    monkeypatch.setattr(export, "MODELS", tmp_path / "models")
    return tmp_path / "models"


def test_weights_are_halved_described_and_listed(models, tmp_path):
    for name in export.SHIPPED:
        finish(tmp_path / "results", name, "001")
    export.main([str(tmp_path / "results")])
    listed = yaml.safe_load((models / "weights.yaml").read_text())
    assert len(listed) == len(export.SHIPPED)
    row = listed["models/stargan/demo.safetensors"]
    path = models / "stargan" / "demo.safetensors"
    assert (
        row["sha256"] == files.sha256(path)
        and row["bytes"] == path.stat().st_size
        and row["steps"] == 7
        and row["seed"] == 1
        and row["streams"] == seeds.VERSION
    )
    state, meta = checkpoint.read_weights(path)
    assert meta["kind"] == "stargan-generator" and state["w"].dtype == torch.float32
    assert torch.equal(state["w"], torch.full((3,), 1 / 3).half().float())


def test_what_is_not_finished_keeps_its_old_weights_and_says_so(models, tmp_path, capsys):
    finish(tmp_path / "results", "classifier")
    export.main([str(tmp_path / "results")])
    assert "translator" in capsys.readouterr().out
    assert list(yaml.safe_load((models / "weights.yaml").read_text())) == [
        "models/classifier/demo.safetensors"
    ]


def test_nothing_finished_is_one_line(models, tmp_path):
    with pytest.raises(UserError, match="demo_weights.sh"):
        export.main([str(tmp_path / "results")])
    assert not (models / "weights.yaml").exists()


def test_trainings_that_are_not_the_recipes_do_not_ship(models, tmp_path):
    results = tmp_path / "results"
    for number, (name, changed) in enumerate(
        [
            ("stargan", {"options": {"adversarial": "both"}}),
            ("diffusion", {"options": {"attack_type": "pgd"}}),
            ("one_step", {"options": {"fake_weight": 0.0}}),
            ("dadfi", {"meta": {"variant": "distance0"}}),
            ("dadfi", {"meta": {"victims": VICTIMS[:1]}}),
            ("classifier", {"dataset": "real-faces"}),
        ]
    ):
        finish(results, name, f"{number:03d}", **changed)
    with pytest.raises(UserError, match="no finished training"):
        export.main([str(results)])
    finish(results, "dadfi", "010")
    export.main([str(results)])
    (row,) = yaml.safe_load((models / "weights.yaml").read_text()).values()
    assert row["seed"] == 10


def test_of_the_robust_networks_the_grown_one_ships(models, tmp_path):
    finish(tmp_path / "results", "one_step_robust")
    small = {"options": {"width": 112, "blocks": 0}}
    finish(tmp_path / "results", "one_step_robust", "001", meta=small)
    weights = export.SHIPPED["one_step_robust"].find(tmp_path / "results")
    assert weights.parent.name == "000"
