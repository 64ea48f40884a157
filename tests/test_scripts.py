"""The shell scripts: they parse and run under dash, forward their words, and every flag that they give is one
that its command knows; those of CelebA and the demo run every defence."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common import cli
from recorded import (
    RATES,
    ROOT,
    SHELL,
    TRAINERS,
    conditions,
    defences,
    environment_of,
    parse,
    parse_all,
    run,
    target,
    words_of,
)

SCRIPTS = sorted(p for p in (*ROOT.glob("*.sh"), *ROOT.glob("experiments/*.sh"), ROOT / "tests" / "run.sh"))
RUNNABLE = [p for p in SCRIPTS if p.name not in ("environment.sh", "run.sh")]
TRAINING = [p for p in RUNNABLE if p.name != "gpu_benchmarks.sh"]


def ids(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("script", SCRIPTS, ids=ids)
def test_parses_under_every_shell_and_stops_at_the_first_error(script):
    for shell in filter(shutil.which, ("dash", "sh", "bash")):
        done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, f"{shell}: {done.stderr}"
    text = script.read_text()
    if script.name == "environment.sh":
        return
    assert (
        text.startswith("#!/bin/sh\n")
        and "\nset -eu\n" in text
        and '"$@"' in text
        and "environment.sh" in text
    )
    assert "\ncd " not in text and "[[" not in text and "pipefail" not in text


@pytest.mark.parametrize("script", RUNNABLE, ids=ids)
def test_every_command_line_is_understood_by_the_script_it_names(script, workplace, monkeypatch):
    commands, _ = run(script, workplace, *words_of(script), **environment_of(script))
    assert len(commands) >= (7 if script in TRAINING else 3)
    for argv in commands:
        parse_all(argv, monkeypatch)  # UserError names the flag


@pytest.mark.parametrize("script", TRAINING, ids=ids)
def test_extra_words_come_last_so_that_they_win(script, workplace):
    commands, _ = run(script, workplace, *words_of(script), "--seed", "12345", **environment_of(script))
    runs = [argv for argv in commands if target(argv)[0] in TRAINERS and "--judge" not in argv]
    assert len(runs) >= 4 and all(argv[-2:] == ["--seed", "12345"] for argv in runs)
    assert not any("--data" in argv for argv in commands)


@pytest.mark.parametrize("script", TRAINING, ids=ids)
def test_every_long_command_resumes(script, workplace):
    commands, _ = run(script, workplace, *words_of(script), **environment_of(script))
    assert all(
        "--resume" in argv for argv in commands if target(argv)[0] in TRAINERS and "--judge" not in argv
    )


def test_train_script_trains_everything_once_and_splits_only_where_needed(workplace):
    script = ROOT / "train_CelebA.sh"
    commands, _ = run(script, workplace, **environment_of(script))
    assert target(commands[0])[0] == "split_dataset" and target(commands[-1])[0] == "models.stargan.train"
    assert defences(commands) == [
        "ddpm",
        "one-step",
        "defensive-model-1",
        "defensive-model-2",
        "defensive-model-1-fixed",
        "defensive-model-2-fixed",
        "one-step-robust",
    ]
    (workplace / "dataset" / "CelebA" / "images_a").mkdir(parents=True)
    commands, _ = run(script, workplace, DEFENSES="ddpm")
    assert [target(argv)[0] for argv in commands] == ["train_defense"]


@pytest.mark.parametrize(
    "environment, message",
    [
        ({}, "CELEBA=/path/to/CelebA"),
        ({"CELEBA": "photos", "GAN": "lost.ckpt"}, "lost.ckpt is not there"),
        ({"CELEBA": "lost"}, "found none of"),
        ({"CELEBA": "photos", "GAN": "G.ckpt", "DEFENSES": "nonsense"}, "DEFENSES names nonsense"),
    ],
)
def test_train_script_says_what_is_missing_before_any_training(workplace, environment, message):
    commands, said = run(ROOT / "train_CelebA.sh", workplace, code=2, **environment)
    assert message in said and not any(target(argv)[0] in TRAINERS for argv in commands)


def test_test_script_runs_all_defences_in_both_protocols_then_compares(workplace, monkeypatch):
    script = ROOT / "test_CelebA.sh"
    commands, _ = run(script, workplace, GAN="G.ckpt", INCEPTION="inception.pth", GAN_DATA="all of it")
    assert target(commands[-1])[0] == "compare_results"
    tests = [target(argv)[1] for argv in commands[:-1]]
    plain = [words for words in tests if "--attack_on" not in words]
    assert len(plain) == 2 and len(tests) == len(plain) + 2 * 3
    for words in plain:
        names = words[words.index("--defense_model_type") + 1 :][:20]
        assert (names[0], names[-1]) == ("none", "both") and len(set(names)) == 20
    assert [len(parse_all(argv, monkeypatch)) for argv in commands[:-1]] == 2 * [20, 1, 1, 1]
    assert all(
        words[words.index("--gan_training_data") + 1] == "all of it"
        and words[words.index("--inception_weights") + 1] == "inception.pth"
        and words[words.index("--image_size") + 1] == "128"
        for words in tests
    )
    assert {
        (words[words.index("--attack_target") + 1], words[words.index("--attack_label") + 1])
        for words in tests
    } == {("gray", "original"), ("clean", "target")}
    commands, _ = run(script, workplace, "--dry_run", DEFENSES="none jpeg-40", GAN="G.ckpt")
    assert defences(commands) == ["none"] * 2 and target(commands[-1])[0] == "test_defense"
    assert commands[1][commands[1].index("none") + 1] == "jpeg-40" and commands[1][-1] == "--dry_run"


def test_detector_script_trains_every_condition_then_compares(workplace):
    script = ROOT / "train_detector_CelebA.sh"
    commands, _ = run(script, workplace, GAN="G.ckpt", GAN_DATA="all of it", WEIGHTS="mobilenet.pth")
    assert target(commands[-1])[0] == "compare_results"
    found = conditions(commands)
    assert found[:7] == [("clean", None, None)] + [("disrupted", None, rate) for rate in RATES]
    assert len([f for f in found if f[0] == "purified" and f[2] == "1"]) == 10
    assert [f[2] for f in found if f[1] == "one-step"] == ["0", *RATES] and len(found) == 7 + 10 + 6 + 2
    assert all(
        target(argv)[1][:6:2] == ["--data_dir", "--result_dir", "--image_size"] and "mobilenet.pth" in argv
        for argv in commands[:-1]
    )
    assert all(argv[argv.index("--gan_training_data") + 1] == "all of it" for argv in commands[:-1])
    commands, _ = run(
        script,
        workplace,
        "--dry_run",
        CONDITIONS="filtered",
        KEPT="kept.txt",
        RATES="0.1 0.3",
        DETECTORS="meso4 resnet18",
    )
    assert conditions(commands) == [("filtered", None, "0.3")] * 2 and "kept.txt" in commands[0]


@pytest.mark.parametrize(
    "name", ["train_CelebA.sh", "test_CelebA.sh", "train_detector_CelebA.sh", "experiments/real_faces.sh"]
)
def test_several_gpus_launch_only_what_passed_a_dry_run(workplace, name):
    script = ROOT / name
    environment = {
        **environment_of(script),
        "DEFENSES": "ddpm" if "train" in name else "ddpm-10",
        "STEPS": "diffusion",
        "GPUS": "2",
    }
    (workplace / "dataset" / "CelebA" / "images_a").mkdir(parents=True)
    commands, _ = run(script, workplace, **environment)
    dry, launched = commands[0], commands[1]
    assert dry[-1] == "--dry_run" and launched[:5] == [
        "-m",
        "tools.launch",
        "--standalone",
        "--nproc_per_node=2",
        "--",
    ]
    assert launched[5:] == dry[:-1]
    commands, _ = run(script, workplace, code=2, DRY_RUN_CODE="2", **environment)
    assert len(commands) == 1  # nothing was launched


def wrapper(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def environment(here, path):
    """The $PYTHON that environment.sh sets when python3 is looked up in `path`."""
    done = subprocess.run(
        [SHELL, "-c", f'set -eu; here={here}; . "$here/environment.sh"; echo "$PYTHON"'],
        text=True,
        check=True,
        capture_output=True,
        env={"PATH": f"{path}:/usr/bin:/bin", "HOME": str(here)},
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_environment_takes_the_active_python_when_its_packages_fit(tmp_path):
    for name in ("environment.sh", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    active = wrapper(tmp_path / "bin" / "python3", f'exec "{sys.executable}" "$@"')
    assert environment(tmp_path, active.parent) == str(active) and not (tmp_path / ".venv").exists()


def test_environment_prefers_its_own_where_the_active_python_does_not_fit(tmp_path):
    for name in ("environment.sh", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    active = wrapper(tmp_path / "bin" / "python3", "exit 1")
    own = wrapper(tmp_path / ".venv" / "bin" / "python", f'exec "{sys.executable}" "$@"')
    assert environment(tmp_path, active.parent) == str(own)


def groups_of(commands, monkeypatch):
    """Of each test_defense.py: its defences in the one grammar, with the weights that are named."""
    groups = []
    for argv in commands:
        if target(argv)[0] == "test_defense":
            every = parse_all(argv, monkeypatch)
            words = target(argv)[1]
            names = words[words.index("--defense_model_type") + 1 :][: len(every)]
            groups.append(
                [
                    (n, o.defense_weights and Path(o.defense_weights).parent.name)
                    for n, o in zip(names, every, strict=True)
                ]
            )
    return groups


DEMO = ROOT / "demo.sh"
AE, ONE_STEP = ("defensive-model-2-fixed", "dae"), ("one-step", "one_step")
ROBUST, PLAIN = ("one-step-robust", "one_step_robust"), [("none", None), ("jpeg-75", None)]


def test_the_demo_tests_each_group_of_defences_in_one_process(workplace, monkeypatch):
    commands, _ = run(DEMO, workplace)
    ddpm, diffpure = [("ddpm-10", None), ("ddpm-20", None)], [("diffpure-300-30", None)]
    quick = [("none", None), ("jpeg-50", None), ("jpeg-75", None), ("blur", None), AE, ONE_STEP, ROBUST]
    one_pass = [("none", None), ("jpeg-75", None), AE, ONE_STEP]
    groups = groups_of(commands, monkeypatch)
    assert groups[0] == quick  # the first table, before anything is trained
    # then two at a time, in the order in which they happen to start
    assert sorted(groups[1:4]) == sorted([ddpm + diffpure, quick, one_pass])
    known = [PLAIN, [ONE_STEP, ROBUST], [("ddpm-10", None)]]
    assert sorted(groups[4:]) == sorted([ddpm, *known, diffpure])
    every = [
        o for argv in commands if target(argv)[0] == "test_defense" for o in parse_all(argv, monkeypatch)
    ]
    assert {(o.attack_type, o.attack_target, o.attack_label, o.attack_through) for o in every} == {
        ("pgd", "gray", "original", None),
        ("pgd", "clean", "target", None),
        ("dadfi", "gray", "original", None),
        ("pgd", "clean", "joint", "ddpm"),
        ("worst", "gray", "joint", "self"),
    }
    diffpure = next(o for o in every if o.defense_model_type == "diffpure")
    assert (diffpure.ddpm_start_num, diffpure.respacing, diffpure.test_noise_var) == (300, "30", 0.05)
    trained = [parse(argv, monkeypatch) for argv in commands if target(argv)[0] == "train_detector"]
    assert sorted((o.condition, o.defense_model_type) for o in trained) == [
        ("clean", "none"),
        ("disrupted", "none"),
        ("purified", "one-step"),
        ("purified", "one-step-robust"),
    ]
    assert all(Path(o.defense_weights).is_file() for o in [*every, *trained] if o.defense_weights)


def test_the_demo_runs_what_is_asked_for(workplace, monkeypatch):
    commands, _ = run(
        DEMO,
        workplace,
        "--num_workers",
        "1",
        OUT="small",
        NUM="16",
        DEFENSES="none",
        SLOW_DEFENSES="ddpm-5",
        ONE_PASS_DEFENSES=" ",
        DETECTOR_DEFENSES="jpeg-40",
    )
    groups = groups_of(commands, monkeypatch)
    assert groups[0] == [("none", None)]  # and nobody in one pass, nor beside the last of the slow ones
    assert sorted(groups[1:3]) == sorted([[("none", None)], [("ddpm-5", None)]])
    known = [PLAIN, [ONE_STEP, ROBUST], [("ddpm-10", None)]]
    assert sorted(groups[3:]) == sorted([*known, [("ddpm-5", None)]])
    first = parse(next(argv for argv in commands if target(argv)[0] == "test_defense"), monkeypatch)
    assert (first.limit, first.num_workers, first.result_dir) == (16, 1, "small/results")
    assert {c[1] for c in conditions(commands)} == {None, "jpeg-40"}


def test_the_demo_comes_in_two_sizes_of_one_story(workplace, monkeypatch):
    quick, said = run(DEMO, workplace)
    full, _ = run(DEMO, workplace, FULL="1")

    def story(commands):
        return sorted(
            (target(argv)[0], *(w for w in target(argv)[1] if w.startswith("--"))) for argv in commands
        )

    assert story(quick) == story(full)
    limits = {parse_all(argv, monkeypatch)[0].limit for argv in full if target(argv)[0] == "test_defense"}
    assert limits == {40, 8, 16}
    lines = [line for line in said.splitlines() if line.startswith("== ")]
    assert [line[3:6] for line in lines] == [f"{n}/8" for n in range(1, 9)]
    assert all(re.search(r"\(\d+ min left\)$", line) for line in lines)


def test_no_script_translates_names_of_defences():
    for script in SCRIPTS:
        text = script.read_text()
        for word in ("flags_of", "--jpeg_quality", "--blur_sigma", "--ddpm_start_num", "--respacing"):
            assert word not in text, script


def test_recorder_would_notice_an_unknown_flag(monkeypatch):
    with pytest.raises(cli.UserError, match="--jpeg_qualty"):
        parse(
            ["test_defense.py", "--defense_model_type", "jpeg", "--gan_weights", "G", "--jpeg_qualty", "3"],
            monkeypatch,
        )
