"""The scripts that train detectors: what a filter has kept, alone and before a purifier, at which poison
rates."""

import os
import subprocess
import time
from pathlib import Path

from recorded import ROOT, SHELL, conditions, parse, run, target

SCRIPT = ROOT / "train_detector_CelebA.sh"
BELOW_1 = ["0.25", "0.5", "0.75", "0.9"]
KEPT = "results/de pois/%r/kept-rate%r.txt"


def kept(commands):
    words = [argv for argv in commands if target(argv)[0] == "train_detector"]
    return [argv[argv.index("--kept_names") + 1] if "--kept_names" in argv else None for argv in words]


def test_a_list_for_each_rate_is_filtered_by_at_each(workplace, monkeypatch):
    commands, _ = run(
        SCRIPT, workplace, CONDITIONS="filtered both", KEPT=KEPT, GAN="G.ckpt", SWEEP="one-step jpeg-75"
    )
    assert conditions(commands) == [("filtered", None, r) for r in BELOW_1] + [
        ("purified", name, r) for name in ("one-step", "jpeg-75") for r in BELOW_1
    ]
    assert kept(commands) == 3 * [f"results/de pois/{r}/kept-rate{r}.txt" for r in BELOW_1]
    assert target(commands[-1])[0] == "compare_results"
    for argv in commands:
        parse(argv, monkeypatch)


def test_one_list_is_that_of_the_last_rate(workplace):
    commands, _ = run(
        SCRIPT,
        workplace,
        "--dry_run",
        CONDITIONS="clean filtered both",
        KEPT="kept.txt",
        GAN="G.ckpt",
        RATES="0.1 0.3",
    )
    assert conditions(commands) == [
        ("clean", None, None),
        ("filtered", None, "0.3"),
        ("purified", "one-step", "0.3"),
    ]
    assert kept(commands) == [None, "kept.txt", "kept.txt"] and all(
        argv[-1] == "--dry_run" for argv in commands
    )


def test_without_a_list_de_pois_makes_one_for_each_rate_first(workplace, monkeypatch):
    for rate in ("0.1", "0.3"):
        (workplace / "results" / "depois").mkdir(parents=True, exist_ok=True)
        (workplace / "results" / "depois" / f"kept-rate{rate}.txt").write_text("")
    words = (
        "--data_dir elsewhere --epochs 3 --limit 50 --skip_damaged --lr=1 --image_size=64 --detector=meso4"
        " --selected_attrs Male Young --dataset mine"
    )
    commands, _ = run(
        SCRIPT, workplace, *words.split(), CONDITIONS="filtered", GAN="G.ckpt", FILTER_RATES="0.1 0.3"
    )
    made, trained = (
        [a for a in commands if target(a)[0] == "purify.depois"],
        [a for a in commands if target(a)[0] == "train_detector"],
    )
    assert commands[:2] == made and [parse(argv, monkeypatch).poison_rate for argv in made] == [0.1, 0.3]
    args, others = parse(made[0], monkeypatch), parse(trained[0], monkeypatch)
    assert (args.data_dir, args.limit, args.skip_damaged, args.image_size, args.seeds) == (
        "elsewhere",
        50,
        True,
        64,
        [0],
    )
    assert args.dataset_name == others.dataset == "mine" and args.dataset == "detector"
    for name in (
        "data_dir",
        "limit",
        "image_size",
        "selected_attrs",
        "celeba_crop_size",
        "gan_weights",
        "test_noise_var",
        "attack_target",
        "attack_label",
        "seed",
    ):
        assert getattr(args, name) == getattr(others, name)  # the same samples as the detector's
    assert (
        [argv[argv.index("--kept_names") + 1] for argv in made]
        == kept(commands)
        == [f"results/depois/kept-rate{r}.txt" for r in ("0.1", "0.3")]
    )


def test_a_dry_run_without_a_list_checks_the_filter_and_says_what_it_cannot_check(workplace):
    commands, _ = run(
        SCRIPT,
        workplace,
        "--data_dir",
        "dataset/CelebA",
        "--dry_run",
        CONDITIONS="filtered",
        GAN="G.ckpt",
        FILTER_RATES="0.1",
    )
    assert [target(argv)[0] for argv in commands] == ["purify.depois"] and "--dry_run" in commands[0]


def test_flags_in_a_file_cannot_be_shared_with_the_filter(workplace):
    commands, said = run(
        SCRIPT, workplace, "--config", "flags.yaml", code=2, CONDITIONS="filtered", GAN="G.ckpt"
    )
    assert commands == [] and "give them one by one" in said


def test_an_unknown_condition_is_told_before_any_training(workplace):
    commands, said = run(SCRIPT, workplace, "--dry_run", code=2, GAN="G.ckpt", CONDITIONS="clean nonsense")
    assert (
        commands == []
        and "CONDITIONS names nonsense; one of: clean disrupted purified filtered both" in said
        and len(said.splitlines()) == 1
    )


def test_real_faces_filters_and_trains_with_what_is_left(workplace, monkeypatch):
    script = ROOT / "experiments" / "real_faces.sh"
    plain, _ = run(script, workplace, STEPS="detectors", DETECTORS="meso4")
    assert not any("--kept_names" in argv for argv in plain)
    made, _ = run(script, workplace, STEPS="filters", FILTER_RATES="0.1 0.9", SEEDS="3 4")
    assert [(parse(argv, monkeypatch).seeds, parse(argv, monkeypatch).kept_names) for argv in made] == [
        found
        for r in ("0.1", "0.9")
        for found in (([3, 4], None), ([3], f"results/depois/kept-real-faces-rate{r}.txt"))
    ]
    for name, rates in ((KEPT, ["0.1", "0.9"]), ("kept.txt", ["1"])):
        commands, _ = run(
            script, workplace, STEPS="detectors", DETECTORS="meso4", KEPT=name, FILTER_RATES="0.1 0.9"
        )
        assert commands[: len(plain)] == plain
        more = commands[len(plain) :]
        assert conditions(more) == [
            found for r in rates for found in (("filtered", None, r), ("purified", "one-step", r))
        ]
        assert kept(more) == [name.replace("%r", r) for r in rates for _ in range(2)]
        for argv in more:
            parse(argv, monkeypatch)


def test_mnist_runs_every_seed_at_every_rate_and_further_radii_once(workplace, monkeypatch):
    commands, _ = run(
        ROOT / "experiments" / "depois_MNIST.sh",
        workplace,
        "--data_root",
        "mnist",
        SEEDS="0 1",
        RATES="0.1 0.3",
        EPSILONS="0.6 1",
    )
    found = [parse(argv, monkeypatch) for argv in commands if target(argv)[0] == "purify.depois"]
    assert found[0].dry_run and not any(a.dry_run for a in found[1:])
    assert sorted((a.seeds[0], a.poison_rate, a.bypass_eps, len(a.poison)) for a in found[1:]) == sorted(
        (seed, *rest)
        for seed in (0, 1)
        for rest in ((0.1, 0.3, 7), (0.3, 0.3, 7), (0.1, 0.6, 2), (0.1, 1.0, 2))
    )
    assert target(commands[-1])[0] == "compare_results"


def test_mnist_tells_a_mistake_once_and_before_anything(workplace):
    commands, _ = run(
        ROOT / "experiments" / "depois_MNIST.sh", workplace, code=2, SEEDS="0 1", DRY_RUN_CODE="2"
    )
    assert len(commands) == 1 and "--dry_run" in commands[0]


def test_mnist_ends_its_trainings_when_it_is_ended(workplace):
    """A terminated script leaves no training behind: the recorder of this test sleeps until it is killed."""
    recorder = workplace / "python"
    recorder.write_text(
        '#!/bin/sh\ncase " $* " in *" --dry_run "*) exit 0 ;; esac\necho $$ >> "$RECORD"; exec sleep 60\n'
    )
    record = workplace / "record"
    record.write_text("")
    script = subprocess.Popen(
        [SHELL, str(ROOT / "experiments" / "depois_MNIST.sh")],
        cwd=workplace,
        env={"PATH": os.environ["PATH"], "PYTHON": str(recorder), "RECORD": str(record), "SEEDS": "0 1"},
    )
    try:
        until = time.monotonic() + 20
        while len(record.read_text().split()) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        script.terminate()
        assert script.wait(20) == 143
        alive = record.read_text().split()
        while alive and time.monotonic() < until:
            alive = [pid for pid in alive if Path(f"/proc/{pid}").exists()]
            time.sleep(0.05)
        assert not alive
    finally:
        script.kill()
