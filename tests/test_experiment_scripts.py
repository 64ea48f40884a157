"""The scripts of experiments/: which steps they run, in which order, with which parameters."""

import train_defense
from recorded import ROOT, conditions, parse, run, target


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


def test_terd_purifies_scraped_photos_by_fifty_of_two_hundred_steps(workplace, monkeypatch):
    commands, _ = run(ROOT / "experiments" / "terd.sh", workplace, STEPS="detectors")
    trained = [parse(argv, monkeypatch) for argv in commands if target(argv)[0] == "train_detector"]
    purified = [o for o in trained if o.condition == "purified"]
    assert {(o.defense_model_type, o.ddpm_start_num, o.respacing) for o in purified} == {("ddpm", 50, "200")}
    assert len({o.defense_weights for o in purified}) == 2


def test_real_faces_finds_weights_of_ablations_and_variants(workplace, monkeypatch):
    names = "ddpm-20 diffpure-20-1000 one-step one-step-plain one-step-noise0.45 adv-train both-10"
    variants = "defensive-model-2-fixed defensive-model-2-fixed-pgd jpeg-75"
    commands, _ = run(
        ROOT / "experiments" / "real_faces.sh",
        workplace,
        STEPS="transfer",
        TRANSFER_DEFENSES=f"{names} {variants}",
    )

    def folder(path):
        return path and path.removeprefix("results/").removesuffix("/000/weights.safetensors")

    every = [parse(argv, monkeypatch) for argv in commands]
    assert [(o.defense_model_type, o.ddpm_start_num, folder(o.defense_weights)) for o in every] == [
        ("ddpm", 20, "ddpm/real-faces/train/none-eps0"),
        ("diffpure", 20, "ddpm/real-faces/train/none-eps0"),
        ("one-step", None, "one-step/real-faces/train/pgd-eps0.11"),
        ("one-step-plain", None, "ddpm/real-faces/train/none-eps0"),
        ("one-step", None, "one-step/real-faces/train/pgd-eps0.11-noise0.45"),
        ("adv-train", None, None),
        ("both", 10, "ddpm/real-faces/train/none-eps0"),
        ("defensive-model-2-fixed", None, "defensive-model-2-fixed/real-faces/train/gaussian-eps0.05"),
        ("defensive-model-2-fixed", None, "defensive-model-2-fixed/real-faces/train/pgd-eps0.05"),
        ("jpeg", None, None),
    ]
    adversarial = [o.defense_model_type for o in every if o.adv_gan_weights]
    assert adversarial == ["adv-train", "both"]


def test_gpu_benchmarks_measure_every_step_keep_what_they_have_and_take_words(workplace, monkeypatch):
    script = ROOT / "experiments" / "gpu_benchmarks.sh"
    (workplace / "results" / "record.json").write_text("{}")
    commands, _ = run(
        script,
        workplace,
        "--device",
        "cpu",
        "--dry_run",
        OUT="kept",
        COMPILES="on",
        STEPS="official trainings demo scale plan",
    )
    found = [parse(argv, monkeypatch) for argv in commands]
    assert {target(argv)[0] for argv in commands} == {"evaluation.benchmark"}
    assert [(o.architecture, o.image_size, o.scale, o.plan) for o in found] == [
        ("official", 128, False, False),
        ("official", 64, False, False),
        ("demo", 64, False, False),
        ("demo", 64, True, False),
        ("official", 128, False, True),
    ]
    assert all(o.dry_run and o.device == "cpu" and o.result_dir == "results" for o in found)
    assert (found[1].stargan_batch, found[1].diffusion_batch, found[1].one_step_batch) == (64, 64, 64)
    assert (workplace / "kept" / "results" / "record.json").is_file()
    assert [o.compile for o in found[:2]] == ["on", "on"]
    commands, _ = run(script, workplace)
    assert [" ".join(argv).count("--compile") for argv in commands] == [1, 1, 1, 1, 0]  # off and on
    commands, said = run(script, workplace, code=2, STEPS="official nonsense")
    assert commands == [] and "STEPS names nonsense" in said


def test_gpu_benchmarks_go_on_after_a_step_that_was_stopped(workplace):
    script = ROOT / "experiments" / "gpu_benchmarks.sh"
    commands, said = run(script, workplace, "--dry_run", DRY_RUN_CODE="130")
    assert len(commands) == 5 and said.count("stopped after") == 5
    commands, said = run(script, workplace, "--dry_run", code=1, DRY_RUN_CODE="1")
    assert len(commands) == 5 and "failed with exit code 1" in said
    commands, _ = run(script, workplace, "--dry_run", code=2, DRY_RUN_CODE="2")
    assert len(commands) == 1
