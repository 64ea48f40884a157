"""Released weights: float16, described, listed with their sha256."""

import pytest
import torch
import yaml

from common import checkpoint, files
from common.cli import UserError
from tools import export


def finish(results, kind, number="000"):
    path = results / kind / number
    path.mkdir(parents=True)
    checkpoint.save_weights(
        path / "weights.safetensors",
        {"w": torch.full((3,), 1 / 3)},
        {"kind": "classifier", "steps": 7, "seed": 1},
    )


@pytest.fixture
def models(tmp_path, monkeypatch):
    for name, _ in export.SHIPPED.values():
        (tmp_path / "models" / name).mkdir(parents=True)
    monkeypatch.setattr(export, "MODELS", tmp_path / "models")
    return tmp_path / "models"


def test_weights_are_halved_described_and_listed(models, tmp_path):
    for kind in export.SHIPPED:
        finish(tmp_path / "results", kind)
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
    )
    state, meta = checkpoint.read_weights(path)
    assert meta["kind"] == "classifier" and state["w"].dtype == torch.float32
    assert torch.equal(state["w"], torch.full((3,), 1 / 3).half().float())


def test_what_is_not_finished_keeps_its_old_weights_and_says_so(models, tmp_path, capsys):
    finish(tmp_path / "results", "classifier/drawn/train/standard")
    export.main([str(tmp_path / "results")])
    assert "translator" in capsys.readouterr().out
    assert list(yaml.safe_load((models / "weights.yaml").read_text())) == [
        "models/classifier/demo.safetensors"
    ]


def test_nothing_finished_is_one_line(models, tmp_path):
    with pytest.raises(UserError, match="demo_weights.sh"):
        export.main([str(tmp_path / "results")])
    assert not (models / "weights.yaml").exists()
