"""train_detector.py where no translator makes the training fakes, and on the detectors beside meso4."""

import numpy as np
import torch

import detectors
from models.detector.network import load_detector
from models.detector.samples import REAL, join
from models.detector.self_blended import self_blended

few_resamples, pictures_where_asked = detectors.few_resamples, detectors.pictures_where_asked
stage, run, records, only, opened = (
    getattr(detectors, k) for k in ("stage", "run", "records", "only", "opened")
)
BLENDED = "--training_fakes self-blended"


def split(samples):
    """(photos, fakes), each in the order of names."""
    rows = samples.labels.tolist()
    return [samples.subset([i for i, label in enumerate(rows) if (label == REAL) == real]) for real in (1, 0)]


def test_self_blended_fakes_are_of_the_sets_own_photos_and_tests_stay(stage):
    flags, results = stage
    for condition in (
        "clean",
        "disrupted --poison_rate 0.5",
        "purified --poison_rate 0.5 --defense_model_type jpeg",
    ):
        blended = opened(flags, f"--condition {condition} {BLENDED}")
        sets = blended.training()
        assert not (results / "fakes").exists()  # no translator was asked
        usual = opened(flags, f"--condition {condition}")
        photos, fakes = split(join(sets))
        assert np.array_equal(photos.pixels, split(join(usual.training()))[0].pixels)
        assert photos.names == fakes.names == blended.b.names
        assert np.array_equal(fakes.pixels, self_blended(photos, blended.options.seed).pixels)
        assert not set(sets[0].names) & set(sets[1].names) and [len(s) for s in sets] == [36, 4]
        for name, mine in blended.tests().items():
            assert np.array_equal(mine.pixels, usual.tests()[name].pixels)
        for path in sorted((results / "fakes").rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        (results / "fakes").rmdir()


def test_a_run_on_self_blended_fakes_has_a_folder_and_a_record_of_its_own(stage):
    flags, results = stage
    run(flags, "--condition disrupted --poison_rate 0.5")
    run(flags, f"--condition disrupted --poison_rate 0.5 {BLENDED} --resume")
    usual, mine = sorted(records(results), key=lambda r: r["config"]["training_fakes"] != "translator")
    assert mine["config"]["training_fakes"] == "self-blended" and mine["name"] == usual["name"] == "disrupted"
    assert mine["config"]["num_train"] == usual["config"]["num_train"] == 36
    folder = results / "detector/toy/stargan/meso4/disrupted-self-blended/pgd-eps0.05-rate0.5/seed0/000"
    assert (folder / "record.json").is_file()
    assert load_detector(folder / "weights.safetensors").meta["training_fakes"] == "self-blended"


def test_the_residual_detector_is_trained_like_the_others(stage):
    flags, results = stage
    run(flags.replace("--detector meso4", "--detector residual"), "--condition clean")
    assert only(results)["config"]["base"] == "scratch" and only(results)["config"]["pretrained"] is None
    (path,) = results.glob("detector/toy/stargan/residual/clean/*/*/*/weights.safetensors")
    assert load_detector(path).name == "residual"


def test_a_transformer_with_weights_tunes_its_layernorms(stage, monkeypatch, tmp_path):
    import train_detector as script

    flags, _ = stage
    flags = flags.replace("--detector meso4", "--detector vit_b_32")
    torch.save({}, tmp_path / "v.pth")
    given = f"{flags} --condition clean --weights {tmp_path / 'v.pth'}"
    bases = {"": "layernorm", " --base frozen": "frozen", " --base finetuned": "finetuned"}
    for more, base in bases.items():
        options = script.parse_args((given + more).split())
        assert options.base == base and options.lr_schedule == "tutorial"
        condition = script.run_folder(options, opened(flags, "--condition clean --weights none"), 0).parents[
            2
        ]
        assert condition.name == "vit_b_32" + ("" if base == "frozen" else f"-{base}")
    assert script.parse_args(f"{flags} --condition clean --weights none".split()).base == "scratch"
