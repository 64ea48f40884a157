"""experiments/robustness.sh: what each step's attacker knows, and on how many photos."""

from recorded import ROOT, run, target


def flags_of(argv):
    """{flag: words after it} of a recorded command line, the last of each."""
    found, flag = {}, None
    for word in target(argv)[1]:
        if word.startswith("--"):
            flag, found[word] = word, []
        elif flag:
            found[flag].append(word)
    return found


def robustness(workplace, *words, code=0, **environment):
    """The flags of the tests and trainings of robustness.sh, and what it said."""
    commands, said = run(ROOT / "experiments" / "robustness.sh", workplace, *words, code=code, **environment)
    kept = [argv for argv in commands if target(argv)[0] in ("test_defense", "train_defense")]
    return [flags_of(argv) for argv in kept], said


def test_robustness_steps_say_what_the_attacker_knows(workplace):
    tests, _ = robustness(workplace, STEPS="ignored jpeg")
    assert [t["--seed"] for t in tests] == [["0"], ["1"], ["2"], ["0"]]
    assert not any("--attack_through" in t for t in tests) and tests[3]["--attack_jpeg"] == ["70-80"]
    assert len({tuple(t["--defense_model_type"]) for t in tests}) == 1
    assert tests[0]["--defense_model_type"][0] == "none" and len(tests[0]["--defense_model_type"]) == 8
    files = [word.partition("=")[0] for word in tests[0]["--defense_weights"]]
    assert files == ["defensive-model-2-fixed", "ddpm-10", "gridpure", "one-step", "one-step-robust"]
    few = {"DEFENSES": "none jpeg-75 ddpm-10", "SLOW_FLAGS": "--eot 4"}
    tests, _ = robustness(workplace, STEPS="worst", **few)
    assert all(t["--attack_type"] == ["worst"] and t["--attack_through"] == ["self"] for t in tests)
    assert [
        (
            t["--test_noise_var"][0],
            t["--defense_model_type"][0],
            t["--limit"][0],
            t["--seed"][0],
            "--eot" in t,
        )
        for t in tests
    ] == [
        *(("0.05", name, "128", seed, False) for name in ("none", "jpeg-75") for seed in "012"),
        ("0.05", "ddpm-10", "16", "0", True),
        *((e, n, "128", "0", False) for e in ("0.03",) for n in ("none", "jpeg-75")),
        ("0.03", "ddpm-10", "16", "0", True),
        *((e, n, "128", "0", False) for e in ("0.08",) for n in ("none", "jpeg-75")),
        ("0.08", "ddpm-10", "16", "0", True),
    ]
    tests, _ = robustness(workplace, STEPS="low-frequency", **few)
    assert ["--eot" in t for t in tests] == [False, False, True]
    tests, _ = robustness(workplace, STEPS="steps unbounded", **few)
    assert [t.get("--apgd_steps") for t in tests] == 2 * [["10"], ["20"], ["50"], ["100"]] + 2 * [None]
    assert [t["--test_noise_var"] for t in tests] == 8 * [["0.05"]] + 2 * [["0.5"]]


def test_robustness_takes_other_translators_and_other_weights_where_they_are_given(workplace):
    tests, _ = robustness(workplace, STEPS="transfer retrained", LORA="lora.safetensors")
    assert [t["--gan_type"] for t in tests] == [["stgan"], ["starganv2"]]
    assert not any("lora-patch" in t["--defense_model_type"] for t in tests)
    tests, _ = robustness(
        workplace,
        STEPS="transfer retrained worst",
        STGAN="",
        OTHER_GAN="seed1.safetensors",
        RETRAINED="one-step-robust=other.safetensors",
        DEFENSES="one-step-robust lora-patch",
        LORA="lora.safetensors",
        EPSILONS="0.05",
        SEEDS="4",
    )
    # the empty STGAN is the one that ships
    assert [t.get("--gan_name") for t in tests[:3]] == [None, None, ["stargan-seed1"]]
    assert tests[3]["--through_weights"] == ["other.safetensors"]
    assert tests[3]["--attack_through"] == tests[3]["--defense_model_type"] == ["one-step-robust"]
    assert [t.get("--attack_on") for t in tests[4:]] == [None, ["self"]]
    assert all(t["--adv_gan_weights"] == ["lora.safetensors"] for t in tests)


def test_robustness_on_real_faces_tests_what_was_trained_there(workplace):
    real = {"DATA": "dataset/real-faces", "GAN": "G.ckpt", "RESULTS": "real"}
    commands, _ = run(ROOT / "experiments" / "robustness.sh", workplace, STEPS="ignored", **real)
    assert {target(argv)[0] for argv in commands} == {"test_defense"}  # no faces are drawn
    words = target(commands[0])[1]
    assert (
        "one-step-robust=real/one-step-robust/real-faces/train/pgd-eps0.085/000/weights.safetensors" in words
    )
    tests, _ = robustness(workplace, STEPS="transfer", **real)
    assert tests == []
    trainings, _ = robustness(workplace, "--seed", "1", STEPS="train", **real)
    assert [t["--num_res_blocks"] for t in trainings] == [["0"], ["3"]]  # it grows
    # apart, so that a second run finds the small network again and not the grown one
    assert [t["--result_dir"] for t in trainings] == [["real/small"], ["real"]]
    small = "real/small/one-step-robust/real-faces/train/pgd-eps0.085/000/weights.safetensors"
    assert trainings[1]["--defense_weights"] == [small]
    for training in trainings:
        assert training["--defense_model_type"] == ["one-step-robust"] and training["--seed"] == ["1"]
        assert training["--data_dir"] == ["dataset/real-faces"] and training["--gan_weights"] == ["G.ckpt"]
    tests, said = robustness(workplace, code=2, STEPS="nonsense", **real)
    assert tests == [] and "STEPS names nonsense" in said
