"""`python -m models.diffusion.train`: whole trainings of a few steps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from small_trainings import BADDIFFUSION, LEVEL, SMALL, flags, folder, shorten, stopped, train_small

import backdoors
import trainings
from common import checkpoint
from models.diffusion import build, train
from models.diffusion.backdoor import Backdoor, from_meta
from models.diffusion.objectives import Backdoored

pytestmark = pytest.mark.filterwarnings("ignore:.*images a side.*")


@pytest.fixture(scope="module", autouse=True)
def short():
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        yield


def test_a_training_writes_what_its_manual_says(trained):
    run = folder(trained)
    assert {p.name for p in run.iterdir()} == {
        "options.yaml",
        "log.jsonl",
        "last.pt",
        "previous.pt",
        "samples",
        "weights.safetensors",
        "check.json",
    }
    assert [line["step"] for line in trainings.log(run) if "loss" in line] == [1, 2, 3]
    assert sorted(p.name for p in (run / "samples").iterdir()) == ["0000002.png", "0000003.png"]
    found = json.loads((run / "check.json").read_text())
    assert set(found) == {"frechet", "frechet_features", "samples", "target_mse", "target_reached"}
    # nothing is learned in 3 steps
    assert (
        found["samples"] == 4
        and found["target_mse"] > 0.01
        and found["target_reached"] == 0
        and found["frechet"] > 0
    )
    assert yaml.safe_load((run / "options.yaml").read_text())["options"]["trigger"] == "box"


def test_weights_tell_of_their_backdoor_and_load(trained):
    path = folder(trained) / "weights.safetensors"
    _, meta = checkpoint.read_weights(path)
    assert meta["backdoor"] == {
        "name": "baddiffusion",
        "trigger": "box",
        "target": "hat",
        "poison_rate": 0.4,
        "trigger_scale": 1.0,
        "trigger_on": "background",
    }
    assert (meta["kind"], meta["steps"], meta["seed"], meta["max_timestep"], meta["trained_on"]) == (
        "diffusion",
        3,
        0,
        1000,
        "drawn",
    )
    assert meta["options"]["norm_groups"] == 8
    loaded = build.load(path)
    assert loaded.family == "ours" and loaded.image_size == 16 and loaded.max_timestep == 1000
    b, same = (
        from_meta(loaded.meta, loaded.alphas_bar),
        Backdoor("baddiffusion", "box", "hat", 16, build.create_diffusion().alphas_cumprod),
    )
    assert torch.equal(b.r, same.r) and torch.equal(b.target, same.target)
    torch.testing.assert_close(b.d[50:], same.d[50:], rtol=0.01, atol=0)  # of float32


def test_last_state_is_the_same_network(trained):
    weights, last = (build.load(folder(trained) / name) for name in ("weights.safetensors", "last.pt"))
    groups = [
        {m.num_groups for m in d.network.modules() if isinstance(m, torch.nn.GroupNorm)}
        for d in (weights, last)
    ]
    assert groups == [{8}, {8}] and last.max_timestep == 1000 and last.image_size == 16
    with torch.no_grad():
        torch.testing.assert_close(weights.eps(backdoors.noise(), 9), last.eps(backdoors.noise(), 9))


@pytest.mark.parametrize("killed", [1, 2])  # before a state was saved, and after
def test_a_killed_training_ends_as_an_uninterrupted_one(drawn, trained, tmp_path, monkeypatch, killed):
    calls, loss = [], Backdoored.loss

    def dies(self, *batch):
        calls.append(1)
        if len(calls) > killed:
            raise MemoryError
        return loss(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(Backdoored, "loss", dies)
        with pytest.raises(MemoryError):
            train_small(flags(drawn, tmp_path, *BADDIFFUSION))
    assert not (folder(tmp_path) / "weights.safetensors").exists() and (
        folder(tmp_path) / "last.pt"
    ).exists() == (killed == 2)
    train_small(flags(drawn, tmp_path, *BADDIFFUSION, "--resume"))
    whole, resumed = folder(trained), folder(tmp_path)
    assert trainings.same(trainings.parts(whole), trainings.parts(resumed))
    for name in ("weights.safetensors", "check.json", "samples/0000003.png"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()
    assert [line["step"] for line in trainings.log(resumed) if "loss" in line] == [1, 2, 3]


def test_a_finished_training_is_not_repeated_and_a_missing_check_is_made_up(
    drawn, trained, monkeypatch, capsys
):
    run = folder(trained)
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    train_small(flags(drawn, trained, *BADDIFFUSION, "--resume"))
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before and not folder(
        trained, number=1
    ).exists()
    assert "check: {" in capsys.readouterr().out
    content = (run / "check.json").read_text()
    (run / "check.json").unlink()  # killed after the weights, before the check
    monkeypatch.setattr(train, "train", None)
    train_small(flags(drawn, trained, *BADDIFFUSION, "--resume"))
    assert (run / "check.json").read_text() == content


def test_changed_options_are_another_training(drawn, trained, capsys):
    code, said = stopped(
        flags(drawn, trained, *BADDIFFUSION, "--norm_groups", "16", "--resume", str(folder(trained))), capsys
    )
    assert code == 2 and "norm_groups: 8 -> 16" in said


def test_a_truncated_benign_network_has_no_check(drawn, tmp_path):
    train_small(flags(drawn, tmp_path, "--max_timestep", "300"))
    run = folder(tmp_path, "benign-16-ch32x1-t300")
    assert not (run / "check.json").exists() and sorted(p.name for p in (run / "samples").iterdir()) == [
        "0000002.png",
        "0000003.png",
    ]
    assert (
        build.load(run / "weights.safetensors").max_timestep == 300
        and checkpoint.read_weights(run / "weights.safetensors")[1]["backdoor"] is None
    )


def test_digits_with_the_variance_exploding_schedule(tmp_path):
    argv = [
        "--images",
        "digits",
        "--limit",
        "30",
        "--result_dir",
        str(tmp_path),
        *SMALL,
        *LEVEL,
        "--noise_schedule",
        "ve",
        "--backdoor",
        "villan",
        "--psi",
        "0",
    ]
    train_small(argv)
    (run,) = (
        tmp_path / "diffusion" / "digits" / "train" / "villan-psi0-ode-stop_sign-shoe-rate0.1-16-ch32x1-ve"
    ).iterdir()
    for name in ("weights.safetensors", "last.pt"):
        loaded = build.load(run / name)
        assert float(loaded.alphas_bar[-1]) == pytest.approx(1 / 2501, rel=1e-4)
    meta = checkpoint.read_weights(run / "weights.safetensors")[1]["backdoor"]
    assert (meta["psi"], meta["solver"]) == (0, "ode")
    # a mirrored digit is none
    assert "flip" not in yaml.safe_load((run / "options.yaml").read_text())["options"]["data_augmentation"]


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path):
    argv = [
        "--images",
        "digits",
        "--limit",
        "40",
        *SMALL,
        *LEVEL,
        "--image_size",
        "8",
        "--save_step",
        "3",
        "--backdoor",
        "villan",
        "--poison_rate",
        "0.5",
        "--result_dir",
    ]
    train_small([*argv, str(tmp_path / "one")])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            "-m",
            "models.diffusion.train",
            *argv,
            str(tmp_path / "two"),
        ],
        cwd=Path(train.__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (next((tmp_path / name).rglob("options.yaml")).parent for name in ("one", "two"))
    assert [line["loss"] for line in trainings.log(two) if "loss" in line] == pytest.approx(
        [line["loss"] for line in trainings.log(one) if "loss" in line], rel=1e-5
    )
    assert (two / "weights.safetensors").exists() and json.loads((two / "check.json").read_text())[
        "samples"
    ] == 4
