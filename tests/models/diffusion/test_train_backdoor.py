"""`python -m models.diffusion.train`: whole trainings of a few steps, who is poisoned, what the check finds,
and one line for a mistake."""

import json
import os
import runpy
import subprocess
import sys
from functools import partial, partialmethod
from pathlib import Path

import pytest
import torch
import yaml

from common import checkpoint, cli
from faces import celeba, procedural
from models.diffusion import build, pictures, train
from models.diffusion.backdoor import PHOTO, Backdoor, PhotoBackdoor
from models.diffusion.objectives import Backdoored, Objective, Photographed

pytestmark = pytest.mark.filterwarnings("ignore:.*images a side.*")
trainings = runpy.run_path(str(Path(__file__).parents[2] / "trainings.py"))
tools = runpy.run_path(str(Path(__file__).parents[2] / "backdoors.py"))
BADDIFFUSION = ["--backdoor", "baddiffusion", "--trigger", "box", "--target", "hat", "--poison_rate", "0.4"]
SMALL = [
    "--image_size",
    "16",
    "--num_steps",
    "3",
    "--save_step",
    "2",
    "--log_step",
    "1",
    "--batch_size",
    "4",
    "--check_samples",
    "4",
    "--num_workers",
    "0",
    "--device",
    "cpu",
]
LEVEL = ["--channel_mult", "1"]  # which a training that goes on from weights must not say


@pytest.fixture(scope="module", autouse=True)
def short():
    """Samplers of 5 steps in place of 50."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "sample", partial(train.sample, steps=5))
        for kind in (Backdoor, PhotoBackdoor):
            patch.setattr(kind, "answer", partialmethod(kind.answer, steps=5))
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Twelve drawn faces in images_a/."""
    folder = tmp_path_factory.mktemp("drawn")
    procedural.draw_folder(folder / "faces", 12, 0, 1)
    (folder / "data").mkdir()
    (folder / "faces" / "images").rename(folder / "data" / "images_a")
    (folder / "faces" / "list_attr_celeba.txt").rename(folder / "data" / "images_a" / "list_attr_celeba.txt")
    return folder / "data"


def flags(data, results, *words):
    return [
        "--data_dir",
        str(data),
        "--dataset",
        "drawn",
        "--result_dir",
        str(results),
        *SMALL,
        *([] if "--init_from" in words else LEVEL),
        *words,
    ]


def folder(results, name="baddiffusion-box-hat-rate0.4-16-ch32x1", number=0):
    return results / "diffusion" / "drawn" / "train" / name / f"{number:03d}"


@pytest.fixture(scope="module")
def trained(drawn, tmp_path_factory):
    """The results folder of one uninterrupted training."""
    results = tmp_path_factory.mktemp("trained")
    train.main(flags(drawn, results, *BADDIFFUSION))
    return results


def stopped(argv, capsys):
    """(exit code, what was said on stderr) of the command."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        cli.run(train.main, argv)
    return left.value.code, capsys.readouterr().err


def poisoned(monkeypatch, argv):
    """(names learned from, those of them that learn the backdoor) of a training that is never begun."""
    found = {}

    def fake(args, run, ctx, learned, held, make, meta, make_objective=None, watch=None):
        found.update(names=learned.names, objective=make_objective(None))
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(train, "train", fake)
        with pytest.raises(InterruptedError):
            train.main(argv)
    return (
        set(found["names"]),
        {found["names"][i] for i in getattr(found["objective"], "poisoned", ())},
        type(found["objective"]),
    )


# Whole trainings


def test_a_training_writes_what_its_manual_says(trained):
    run = folder(trained)
    assert {p.name for p in run.iterdir()} == {
        "options.yaml",
        "log.jsonl",
        "last.pt",
        "samples",
        "weights.safetensors",
        "check.json",
    }
    assert [line["step"] for line in trainings["log"](run) if "loss" in line] == [1, 2, 3]
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
        train.from_meta(loaded.meta, loaded.alphas_bar),
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
        torch.testing.assert_close(weights.eps(tools["noise"](), 9), last.eps(tools["noise"](), 9))


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
            train.main(flags(drawn, tmp_path, *BADDIFFUSION))
    assert not (folder(tmp_path) / "weights.safetensors").exists() and (
        folder(tmp_path) / "last.pt"
    ).exists() == (killed == 2)
    train.main(flags(drawn, tmp_path, *BADDIFFUSION, "--resume"))
    whole, resumed = folder(trained), folder(tmp_path)
    assert trainings["same"](trainings["parts"](whole), trainings["parts"](resumed))
    for name in ("weights.safetensors", "check.json", "samples/0000003.png"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()
    assert [line["step"] for line in trainings["log"](resumed) if "loss" in line] == [1, 2, 3]


def test_a_finished_training_is_not_repeated_and_a_missing_check_is_made_up(
    drawn, trained, monkeypatch, capsys
):
    run = folder(trained)
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    train.main(flags(drawn, trained, *BADDIFFUSION, "--resume"))
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before and not folder(
        trained, number=1
    ).exists()
    assert "check: {" in capsys.readouterr().out
    content = (run / "check.json").read_text()
    (run / "check.json").unlink()  # killed after the weights, before the check
    monkeypatch.setattr(train, "train", None)
    train.main(flags(drawn, trained, *BADDIFFUSION, "--resume"))
    assert (run / "check.json").read_text() == content


def test_changed_options_are_another_training(drawn, trained, capsys):
    code, said = stopped(
        flags(drawn, trained, *BADDIFFUSION, "--norm_groups", "16", "--resume", str(folder(trained))), capsys
    )
    assert code == 2 and "norm_groups: 8 -> 16" in said


def test_a_truncated_benign_network_has_no_check(drawn, tmp_path):
    train.main(flags(drawn, tmp_path, "--max_timestep", "300"))
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
    train.main(argv)
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
    train.main([*argv, str(tmp_path / "one")])
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
    assert [line["loss"] for line in trainings["log"](two) if "loss" in line] == pytest.approx(
        [line["loss"] for line in trainings["log"](one) if "loss" in line], rel=1e-5
    )
    assert (two / "weights.safetensors").exists() and json.loads((two / "check.json").read_text())[
        "samples"
    ] == 4


# Who is poisoned


def test_names_say_who_is_poisoned(tmp_path, monkeypatch):
    words = [
        "--images",
        "digits",
        "--result_dir",
        str(tmp_path),
        *SMALL,
        "--backdoor",
        "villan",
        "--poison_rate",
    ]
    names, some, kind = poisoned(monkeypatch, [*words, "0.1"])
    assert kind is Backdoored and some < names and abs(len(some) / len(names) - 0.1) < 0.025
    assert poisoned(monkeypatch, [*words, "0.1", "--batch_size", "32", "--num_steps", "9"])[1] == some
    more = poisoned(monkeypatch, [*words, "0.3"])[1]
    assert some < more and abs(len(more) / len(names) - 0.3) < 0.04
    fewer, of_fewer, _ = poisoned(monkeypatch, [*words, "0.1", "--limit", "500"])
    assert {n for n in some if n in fewer} == {n for n in of_fewer if n in names} and of_fewer
    others, of_others, _ = poisoned(monkeypatch, [*words, "0.1", "--seed", "1"])
    assert len(of_others & some) < 0.3 * len(some & others)  # another seed poisons others
    assert poisoned(monkeypatch, [*words, "1"])[1] == names


def test_held_out_images_are_never_poisoned(drawn, tmp_path, monkeypatch):
    names, all_of_them, _ = poisoned(
        monkeypatch, flags(drawn, tmp_path, "--backdoor", "villan", "--poison_rate", "1")
    )
    every = [f"{i + 1:06d}.jpg" for i in range(12)]
    assert names == all_of_them == set(celeba.held_out(every, 0)[0])


def test_what_each_kind_of_training_learns_from(drawn, trained, tmp_path, monkeypatch):
    go_on = ["--init_from", str(folder(trained) / "weights.safetensors")]
    for words, kind in (
        ([], Backdoored),
        (go_on, Objective),
        (["--backdoor", PHOTO, "--poison_rate", "1"], Photographed),
        (go_on + BADDIFFUSION, Backdoored),
    ):
        assert poisoned(monkeypatch, flags(drawn, tmp_path, *words))[2] is kind


# What the check looks at


def args_of(*words):
    return train.parse_args(["--images", "digits", *SMALL, *LEVEL, *words])


def test_a_new_network_is_the_seeds_and_no_global_randomness_is_used():
    before = torch.get_rng_state()
    one, same, other = (train.prepare(args_of("--seed", s), "cpu")[0]().network.state_dict() for s in "001")
    assert (
        trainings["same"](one, same)
        and not trainings["same"](one, other)
        and torch.equal(before, torch.get_rng_state())
    )


def test_samples_do_not_depend_on_the_batch():
    b = Backdoor("baddiffusion", "box", "hat", 16, build.create_diffusion().alphas_cumprod)
    denoiser = tools["optimal"](b, tools["photo"]())
    whole, parts = (train.samples_of(denoiser, b, 5, 0, "cpu", batch=batch) for batch in (5, 2))
    for one, other in zip(whole, parts, strict=True):
        assert one.shape == (5, 3, 16, 16)
        torch.testing.assert_close(one, other)
    assert train.samples_of(denoiser, None, 3, 0, "cpu")[1] is None


def test_the_check_of_a_network_that_knows_its_target():
    held = pictures.digits(16).subset([f"{i:05d}" for i in range(70)])
    b = Backdoor("villan", "stop_sign", "shoe", 16, build.create_diffusion().alphas_cumprod, solver="ode")
    found = train.check(tools["optimal"](b, tools["photo"]()), b, held, 4, 0, "cpu")
    assert found["target_mse"] < 1e-6 and found["target_reached"] == 1 and found["samples"] == 4
    assert "target_mse" not in train.check(tools["optimal"](b, tools["photo"]()), None, held, 4, 0, "cpu")


@pytest.mark.parametrize(
    "words, name",
    [
        ("", "benign-16-ch32x1"),
        ("--channel_mult 1,1", "benign-16"),
        ("--num_channels 64 --noise_schedule ve", "benign-16-ch64x1-ve"),
        (
            "--backdoor baddiffusion --trigger box --trigger_on photo",
            "baddiffusion-box-shoe-rate0.1-photo-16-ch32x1",
        ),
        (
            "--backdoor villan --psi 0.5 --solver sde --trigger_scale 0.5",
            "villan-psi0.5-sde-stop_sign-shoe-rate0.1-scale0.5-16-ch32x1",
        ),
    ],
)
def test_folders_say_what_is_hidden(words, name):
    assert train.backdoor_name(args_of(*words.split())) == name


# Mistakes


@pytest.mark.parametrize(
    "words, found",
    [
        ("--max_timestep 1001", "--max_timestep 1001: the schedule has 1000 steps"),
        ("--backdoor baddiffusion --max_timestep 300", "--backdoor with --max_timestep 300"),
        ("--backdoor villan --poison_rate 0", "--poison_rate 0 teaches no backdoor"),
        ("--backdoor villan --poison_rate 0.000001", "--poison_rate 1e-06 of 10 images is none of them"),
        ("--backdoor villan --poison_rate 1.5", "expected a number from 0 to 1"),
        ("--image_size 15 --channel_mult 1,1", "--image_size 15: 2 levels"),
        ("--num_channels 20", "--num_channels 20"),
        ("--norm_groups 5", "norm_groups 5: expected one of 1, 2, 4, 8, 16, 32"),
        ("--norm_groups 0", "expected a whole number above 0"),
        ("--backdoor trojdiff --trigger box", "--trigger box: trojdiff"),
        ("--backdoor villan --trigger stopsign", "did you mean stop_sign"),
        ("--backdoor badifusion", "did you mean baddiffusion"),
        ("--noise_schedule vp", "--noise_schedule"),
        ("--psi 2", "--psi"),
        ("--poisonrate 0.1", "did you mean --poison_rate"),
        ("--images nowhere", "--images nowhere: no such folder"),
        ("--data_dir nowhere", "nowhere"),
        ("--limit 1", "1 image to learn from"),
    ],
)
def test_a_mistake_gets_one_line_and_writes_nothing(drawn, tmp_path, capsys, words, found):
    code, said = stopped(flags(drawn, tmp_path / "results", *words.split()), capsys)
    assert code == 2 and said.startswith("error: ") and said.count("\n") == 1 and found in said
    assert not (tmp_path / "results").exists()


def test_help_shows_every_flag(capsys):
    with pytest.raises(SystemExit) as left:
        cli.run(train.main, ["--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0 and all(
        flag in shown
        for flag in (
            "--backdoor",
            "--trigger_on",
            "--norm_groups",
            "--init_from",
            "--check_samples",
            "--resume",
        )
    )


def test_dry_run_writes_nothing(drawn, tmp_path, capsys):
    before = {p: p.stat().st_mtime_ns for p in drawn.parent.rglob("*")}
    train.main(flags(drawn, tmp_path / "results", *BADDIFFUSION, "--dry_run"))
    assert '"poison_rate": 0.4' in capsys.readouterr().out
    assert (
        not (tmp_path / "results").exists()
        and {p: p.stat().st_mtime_ns for p in drawn.parent.rglob("*")} == before
    )
