"""experiments/detectors.sh: who guesses which cure, and who uses which."""

from recorded import ROOT, run, target


def trainings(workplace, **environment):
    """[(condition, cure, purifier that the attacker knows, detector, words)] of detectors.sh."""
    commands, _ = run(ROOT / "experiments" / "detectors.sh", workplace, **environment)
    found = []
    for argv in commands:
        script, words = target(argv)
        if script == "train_detector":
            of = {flag: words[i + 1] for i, flag in enumerate(words) if flag.startswith("--")}
            names = ("--condition", "--defense_model_type", "--attack_through", "--detector")
            found.append((*map(of.get, names), words))
    return found


FEW = {"CURES": "jpeg-75 ddpm-20", "ATTACKERS": "none surviving jpeg-75 ddpm-20", "RATES": "1"}


def test_every_guess_meets_every_cure(workplace):
    found = trainings(workplace, STEPS="cross", DETECTORS="meso4", **FEW)
    conditions = [("clean", None), ("disrupted", None), ("purified", "jpeg-75"), ("purified", "ddpm-20")]
    assert [one[:2] for one in found] == 4 * conditions
    assert [one[2] for one in found] == 8 * [None] + 4 * ["jpeg-75"] + 4 * ["ddpm-20"]
    for *_, words in found[4:8]:
        assert words[words.index("--attack_jpeg") + 1] == "70-80"
    for *_, words in found[12:]:  # twenty evaluations a step
        assert words[words.index("--gradient") + 1] == "bpda" and "--through_weights" in words
    for *_, words in found:
        assert words[words.index("--recompress") + 1 :][:3] == ["96", "75", "50"]
        assert words[words.index("--test_gan") + 1].startswith("stgan=")
        assert words[words.index("--seeds") + 1 :][:5] == list("01234")


def test_detectors_without_fakes_and_with_jpeg(workplace):
    found = trainings(workplace, STEPS="self-blended recompressed", DETECTORS="meso4 residual", **FEW)
    assert [one[0] for one in found] == 2 * ["clean", "disrupted"] + 2 * [
        "clean",
        "disrupted",
        "purified",
        "purified",
    ]
    assert all("self-blended" in one[4] for one in found[:4]) and not any(
        "self-blended" in one[4] for one in found[4:]
    )
    assert [one[3] for one in found[:4]] == ["meso4", "meso4", "residual", "residual"]
    assert all("--recompress_training" in one[4] for one in found[4:])


def test_real_faces_use_what_was_trained_there(workplace):
    found = trainings(
        workplace, STEPS="cross", DATA="dataset/real-faces", RESULTS="real", CURES="one-step-robust"
    )
    assert {one[4][one[4].index("--data_dir") + 1] for one in found} == {"dataset/real-faces"}
    robust = "real/one-step-robust/real-faces/train/pgd-eps0.085/000/weights.safetensors"
    assert all(robust in one[4] for one in found if one[1] == "one-step-robust")
    assert not any("--test_gan" in one[4] for one in found)
