"""The shell scripts: they parse and run under dash, forward their words, and every flag that they give is one
that its script knows.

Each is run with PYTHON set to a recorder that writes down its arguments and succeeds; the recorded lines then
go to the parsers of the scripts that they name."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import train_defense
from common import cli
from models.diffusion import build
from models.diffusion import train as diffusion_train

ROOT = Path(__file__).resolve().parents[1]
SHELL = shutil.which("dash") or "sh"
SCRIPTS = sorted(p for p in (*ROOT.glob("*.sh"), *ROOT.glob("experiments/*.sh"), ROOT / "tests" / "run.sh"))
RUNNABLE = [p for p in SCRIPTS if p.name not in ("environment.sh", "run.sh")]
RATES = ["0.1", "0.25", "0.5", "0.75", "0.9", "1"]  # of the scripts that train detectors
RECORDER = """#!/bin/sh
line=$(printf '%s\\037' "$@"); printf '%s\\n' "$line" >> "$RECORD"  # in one write: two may record at once
case " $* " in *" --dry_run "*) exit "${DRY_RUN_CODE:-0}" ;; esac
"""
TRAINERS = (
    "train_defense",
    "test_defense",
    "train_detector",
    "models.stargan.train",
    "models.stgan.train",
    "models.starganv2.train",
    "models.dadfi.train",
    "models.classifier.train",
    "evaluation.disruption",
    "purify.depois",
    "models.diffusion.train",
    "purify.terd",
)


def ids(path):
    return str(path.relative_to(ROOT))


@pytest.fixture
def workplace(tmp_path):
    (tmp_path / "photos" / "images").mkdir(parents=True)  # what the scripts look for
    for name in ("photos/list_attr_celeba.txt", "G.ckpt", "perturbation.pt", "inception.pth"):
        (tmp_path / name).write_text("")
    # of terd.sh: backdoors go on from benign networks
    zoo = tmp_path / "results" / "terd" / "diffusion" / "terd-faces" / "train"
    for name, number, seed in (
        ("benign-16", 0, 0),
        ("benign-16", 1, 1),
        ("benign-16", 2, 2),
        ("benign-16-ve", 0, 0),
        *(("benign-16-t300", k, k) for k in range(3)),
        ("benign-32", 0, 0),
        ("benign-64-ch32x1-2-2", 0, 0),
        ("baddiffusion-box-hat-rate0.5-16-tuned", 0, 0),
        ("villan-box-hat-rate0.5-16-tuned", 0, 0),
    ):
        run_folder = zoo / name / f"{number:03d}"
        run_folder.mkdir(parents=True)
        (run_folder / "options.yaml").write_text(f"options:\n  seed: {seed}\n")
        (run_folder / "weights.safetensors").write_text("")
    recorder = tmp_path / "python"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    return tmp_path


def run(script, workplace, *words, code=0, **environment):
    """Run a script in `workplace`; returns the recorded command lines and what was said on stderr."""
    record = workplace / "record"
    record.write_text("")
    inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR", "LANG")}
    done = subprocess.run(
        [SHELL, str(script), *words],
        cwd=workplace,
        capture_output=True,
        text=True,
        timeout=60,
        env={**inherited, "PYTHON": str(workplace / "python"), "RECORD": str(record), **environment},
    )
    assert done.returncode == code, done.stderr
    return [line.split("\037")[:-1] for line in record.read_text().splitlines()], done.stderr


def words_of(script):
    return {"real_faces.sh": ["--data", "photos"], "depois_MNIST.sh": ["--data_root", "mnist"]}.get(
        script.name, []
    )


def environment_of(script):
    return (
        {"CELEBA": "photos", "GAN": "G.ckpt", "PERTURBATION": "perturbation.pt"}
        if script.name != "demo.sh"
        else {}
    )


def target(argv):
    """(module, its arguments) of a recorded command line."""
    argv = list(argv)
    if argv[:2] == ["-m", "torch.distributed.run"]:
        argv = [w for w in argv[2:] if w != "--standalone" and not w.startswith("--nproc_per_node=")]
    if argv[0] == "-m":
        return argv[1], argv[2:]
    assert argv[0] == "test_defense.py" or (ROOT / Path(argv[0]).name).samefile(argv[0])
    return Path(argv[0]).stem, argv[1:]


def parse(argv, monkeypatch):
    monkeypatch.setattr(train_defense, "newest_training", lambda *a, **k: "weights.safetensors")
    monkeypatch.setattr(
        diffusion_train,
        "started_from",
        lambda *a: SimpleNamespace(meta={"options": build.options_for(16), "max_timestep": 1000}),
    )
    module, words = target(argv)
    package = importlib.util.find_spec(module).submodule_search_locations is not None
    parsed = importlib.import_module(f"{module}.__main__" if package else module).parse_args(words)
    return parsed[0] if isinstance(parsed, list) else parsed  # of several defences the first


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
    assert len(commands) >= 7
    for argv in commands:
        parse(argv, monkeypatch)  # UserError names the flag


@pytest.mark.parametrize("script", RUNNABLE, ids=ids)
def test_extra_words_come_last_so_that_they_win(script, workplace):
    commands, _ = run(script, workplace, *words_of(script), "--seed", "12345", **environment_of(script))
    runs = [argv for argv in commands if target(argv)[0] in TRAINERS and "--judge" not in argv]
    assert len(runs) >= 4 and all(argv[-2:] == ["--seed", "12345"] for argv in runs)
    assert not any("--data" in argv for argv in commands)


@pytest.mark.parametrize("script", RUNNABLE, ids=ids)
def test_every_long_command_resumes(script, workplace):
    commands, _ = run(script, workplace, *words_of(script), **environment_of(script))
    assert all(
        "--resume" in argv for argv in commands if target(argv)[0] in TRAINERS and "--judge" not in argv
    )


def defences(commands):
    found = [
        train_or_test[1]
        for train_or_test in map(target, commands)
        if train_or_test[0] in ("train_defense", "test_defense")
    ]
    return [words[words.index("--defense_model_type") + 1] for words in found]


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


def test_test_script_runs_all_defences_in_both_protocols_then_compares(workplace):
    script = ROOT / "test_CelebA.sh"
    commands, _ = run(script, workplace, GAN="G.ckpt", INCEPTION="inception.pth", GAN_DATA="all of it")
    assert target(commands[-1])[0] == "compare_results"
    tests = [target(argv)[1] for argv in commands[:-1]]
    plain = [words for words in tests if "--attack_on" not in words]
    assert len(plain) == 2 and len(tests) == len(plain) + 2 * 3
    for words in plain:
        names = words[words.index("--defense_model_type") + 1 :][:19]
        assert (names[0], names[-1]) == ("none", "both") and len(set(names)) == 19
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


def conditions(commands):
    """[(condition, defence, poison rate)] of the train_detector command lines."""
    words = [w for module, w in map(target, commands) if module == "train_detector"]

    def value(w, flag):
        return w[w.index(flag) + 1] if flag in w else None

    return [
        (value(w, "--condition"), value(w, "--defense_model_type"), value(w, "--poison_rate")) for w in words
    ]


def test_detector_script_trains_every_condition_then_compares(workplace):
    script = ROOT / "train_detector_CelebA.sh"
    commands, _ = run(script, workplace, GAN="G.ckpt", GAN_DATA="all of it", WEIGHTS="mobilenet.pth")
    assert target(commands[-1])[0] == "compare_results"
    found = conditions(commands)
    assert found[:7] == [("clean", None, None)] + [("disrupted", None, rate) for rate in RATES]
    assert len([f for f in found if f[0] == "purified" and f[2] == "1"]) == 9
    assert [f[2] for f in found if f[1] == "one-step"] == ["0", *RATES] and len(found) == 7 + 9 + 6 + 2
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
    assert dry[-1] == "--dry_run" and launched[:4] == [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
    ]
    assert launched[4:] == dry[:-1]
    commands, _ = run(script, workplace, code=2, DRY_RUN_CODE="2", **environment)
    assert len(commands) == 1  # nothing was launched


def test_real_faces_steps_and_data(workplace, monkeypatch):
    script = ROOT / "experiments" / "real_faces.sh"
    commands, _ = run(
        script, workplace, "--num_workers", "1", "--data=photos", "--seed", "3", STEPS="split gan"
    )
    split, gan = map(target, commands)
    assert (
        split[0] == "split_dataset"
        and split[1][:2] == ["--folder_path", "photos/images"]
        and split[1][-4:] == ["--ratios", "0.7", "0.2", "0.1"]
    )
    assert gan[1][-4:] == ["--num_workers", "1", "--seed", "3"]
    args = parse(commands[1], monkeypatch)
    assert args.g_conv_dim == 32 and args.decay_steps < args.num_steps
    for step, count in {
        "curve": 5 * 11,
        "seeds": 3 * 6,
        "adaptive": 3,
        "unseen": 1 + 9 * 2,
        "tune": 19,
        "transfer": 10,
        "ablations": 3 * 6,
        "purified": 8,
    }.items():
        commands, _ = run(script, workplace, STEPS=step)
        assert len(commands) == count
        parsed = [parse(argv, monkeypatch) for argv in commands]
        assert {args.split for args in parsed if hasattr(args, "split")} == {"a" if step == "tune" else "b"}
    found = conditions(run(script, workplace, STEPS="detectors", DETECTORS="meso4")[0])
    assert (
        len(found) == 7 + 7 + 6 + 2
        and found[0] == ("clean", None, None)
        and ("purified", "one-step", "0") in found
    )
    assert len(run(script, workplace, STEPS="unseen", PERTURBATION="perturbation.pt")[0]) == 9 * 3
    tests = list(map(target, run(script, workplace, STEPS="table")[0]))
    assert len(tests) == 2 * (20 + 3) and sum("self" in words for _, words in tests) == 2 * 3
    for environment, words, message in (
        ({"STEPS": "split"}, [], "--data /path/to/CelebA"),
        ({}, ["--data"], "--data takes a folder"),
        ({"STEPS": "nonsense"}, [], "STEPS names nonsense"),
    ):
        commands, said = run(script, workplace, *words, code=2, **environment)
        assert commands == [] and message in said


def test_real_faces_trains_with_the_steps_asked_for_and_names_each_variant(workplace, monkeypatch):
    script = ROOT / "experiments" / "real_faces.sh"
    commands, _ = run(
        script,
        workplace,
        STEPS="gan other-gan adversarial-gan diffusion one-step",
        GAN_STEPS="70",
        ADVERSARIAL_STEPS="20",
        DIFFUSION_STEPS="30",
        ONE_STEP_STEPS="40",
        GAN_BATCH="4",
        DIFFUSION_BATCH="5",
        ONE_STEP_BATCH="6",
    )
    found = [parse(argv, monkeypatch) for argv in commands]
    assert [(a.num_steps, a.batch_size) for a in found] == [(70, 4), (70, 4), (20, 4), (30, 5), (40, 6)]
    assert (
        [a.seed for a in found[:3]] == [0, 1, 0]
        and found[2].adversarial == "both"
        and found[0].result_dir != found[1].result_dir
    )
    commands, _ = run(script, workplace, STEPS="one-step-ablated")
    assert [train_defense.training_folder(parse(argv, monkeypatch)).name for argv in commands] == [
        f"pgd-eps0.11-{change}" for change in ("fake0", "photo0", "clean0", "noise0.45")
    ]


def test_real_faces_takes_the_newest_finished_training(workplace):
    parent = workplace / "results" / "one-step" / "real-faces" / "train" / "pgd-eps0.11"
    for number in ("000", "001", "002"):
        (parent / number).mkdir(parents=True)
    for number in ("000", "001"):
        (parent / number / "weights.safetensors").write_text("")
    commands, _ = run(ROOT / "experiments" / "real_faces.sh", workplace, STEPS="table", DEFENSES="one-step")
    words = target(commands[0])[1]
    assert (
        words[words.index("--defense_weights") + 1]
        == "results/one-step/real-faces/train/pgd-eps0.11/001/weights.safetensors"
    )


def test_dadfi_trains_against_all_and_each_and_measures_every_attack_on_all(workplace, monkeypatch):
    script = ROOT / "experiments" / "dadfi.sh"
    commands, _ = run(script, workplace, STEPS="train universal disruptions", VICTIMS="stargan=A stgan=B")
    parsed = [(target(argv)[0], parse(argv, monkeypatch)) for argv in commands]
    trained = [args for module, args in parsed if module == "models.dadfi.train"]
    both = ["stargan=A", "stgan=B"]
    assert [
        (args.victims, args.lambda_distance, args.lambda_y, args.without_finetuning) for args in trained
    ] == [
        (both, 30, 1, False),
        (both, 0, 1, False),
        (both, 30, 0, False),
        (both, 30, 1, True),
        (["stargan=A"], 30, 1, False),
        (["stgan=B"], 30, 1, False),
    ]
    measured = [
        (args.attack_type, args.crafted_on, args.attack_weights)
        for module, args in parsed
        if module == "evaluation.disruption"
    ]

    def weights(name):
        return f"results/drawn/dadfi/drawn-train/train/{name}/000/weights.safetensors"

    assert measured == [
        ("random-sign", "own", None),
        ("fgsm", "own", None),
        ("pgd", "own", None),
        ("mim", "own", None),
        ("pgd", "stargan", None),
        ("pgd", "stgan", None),
        ("pgd", "all", None),
        ("universal", "own", None),
        *[
            ("dadfi", "own", weights(n))
            for n in (
                "stargan+stgan",
                "stargan+stgan-distance0",
                "stargan+stgan-y0",
                "stargan+stgan-without-finetuning",
                "stargan",
                "stgan",
            )
        ],
    ]
    # the three that ship: their generator ships too
    shipped, _ = run(script, workplace, STEPS="train disruptions")
    assert sum(target(argv)[0] == "models.dadfi.train" for argv in shipped) == 3 + 3
    weights = [
        words[words.index("--attack_weights") + 1]
        for module, words in map(target, shipped)
        if "--attack_weights" in words
    ]
    assert weights[0].endswith("models/dadfi/demo.safetensors") and weights[1].endswith(
        "train/stargan+stgan+starganv2-distance0/000/weights.safetensors"
    )
    crafted = [args for module, args in parsed if module == "attacks.craft"]
    assert (
        len(crafted) == 1
        and str(crafted[0].save_perturbation) == "results/drawn/universal/drawn-stargan+stgan-n32-56.pt"
    )
    assert all(
        args.victims == both
        for module, args in parsed
        if module in ("attacks.craft", "evaluation.disruption")
    )
    alone, _ = run(script, workplace, STEPS="train disruptions", VICTIMS="stargan=A", ATTACKS="pgd")
    assert len(alone) == 4 + 1 + 1 + 4  # four trainings, pgd, the universal one, four generators
    dry, said = run(
        script, workplace, "--dry_run", STEPS="disruptions", VICTIMS="stargan=A stgan=B", ATTACKS="pgd"
    )
    assert len(dry) == 4 and "not made yet: results/drawn/universal" in said
    commands, _ = run(
        script, workplace, STEPS="purifiers", PURIFIERS="jpeg-75", DETECTOR_PURIFIERS="one-step"
    )
    tests = [words for module, words in map(target, commands) if module in ("test_defense", "train_detector")]
    assert all(words[words.index("--attack_type") + 1] == "dadfi" for words in tests) and conditions(
        commands
    )[-1] == ("purified", "one-step", "1")
    commands, said = run(script, workplace, code=2, STEPS="nonsense")
    assert commands == [] and "STEPS names nonsense" in said


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


def test_recorder_would_notice_an_unknown_flag(monkeypatch):
    with pytest.raises(cli.UserError, match="--jpeg_qualty"):
        parse(
            ["test_defense.py", "--defense_model_type", "jpeg", "--gan_weights", "G", "--jpeg_qualty", "3"],
            monkeypatch,
        )


def test_terd_script_has_steps_beside_the_zoo(workplace, monkeypatch):
    script = ROOT / "experiments" / "terd.sh"
    for step, modules in (
        ("larger", {"models.diffusion.train": 9}),
        ("published", {"purify.terd": 1}),
        ("detectors", {"evaluation.triggered_split": 1, "train_detector": 6}),
        ("purifier", {"models.diffusion.train": 2, "evaluation.triggered": 3, "purify.terd": 1}),
    ):
        commands, _ = run(script, workplace, "--seed", "5", STEPS=step)
        found = [target(argv)[0] for argv in commands]
        assert {m: found.count(m) for m in modules} == modules, step
        for argv in commands:
            parse(argv, monkeypatch)
    commands, said = run(script, workplace, code=2, STEPS="nonsense")
    assert commands == [] and "unknown step nonsense" in said
