"""Harder protocols of train_detector.py, on tiny splits: who makes the fakes, what is saved as JPEG, which
samples are left."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

import detectors
from common.cli import UserError
from evaluation.detector_protocol import balance, chosen, kind_of, load_others
from models.detector.samples import FAKE, REAL
from weights import translator

few_resamples, pictures_where_asked, drawn = (
    detectors.few_resamples,
    detectors.pictures_where_asked,
    detectors.drawn,
)
stage, run, only, opened = detectors.stage, detectors.run, detectors.only, detectors.opened


@pytest.fixture
def other(tmp_path):
    """A translator of another width, and so of other fakes."""
    return translator(tmp_path / "other.safetensors", conv_dim=6)


def classes(samples):
    return {
        label: {n for n, own in zip(samples.names, samples.labels.tolist(), strict=True) if own == label}
        for label in (REAL, FAKE)
    }


def test_fakes_of_another_translator_are_a_test_set_of_the_same_photos_and_domains(stage, other):
    tests = opened(stage[0], f"--condition clean --test_gan stargan-wide={other}").tests()
    clean, its = tests["clean"], tests["stargan-wide"]
    real, fake = clean.labels.numpy() == REAL, clean.labels.numpy() == FAKE
    assert its.names == clean.names and its.domains == clean.domains
    assert (its.pixels[real] == clean.pixels[real]).all()
    assert all((a != b).any() for a, b in zip(its.pixels[fake], clean.pixels[fake], strict=True))


def test_a_translator_that_knows_fewer_attributes_makes_fakes_in_its_domains(stage, tmp_path):
    few = translator(tmp_path / "few.safetensors", c_dim=4)
    its = opened(stage[0], f"--condition clean --test_gan stargan-few={few}").tests()["stargan-few"]
    assert "Young" not in its.domains and set(its.domains) - {None} <= {
        "Black_Hair",
        "Blond_Hair",
        "Brown_Hair",
        "Male",
    }


def test_jpeg_is_pillows_of_every_image_of_both_classes(stage, other):
    flags = f"--condition disrupted --test_gan stargan-wide={other} --recompress 50 96"
    tests = opened(stage[0], flags).tests()
    assert list(tests) == [
        "clean",
        "disrupted",
        "stargan-wide",
        "jpeg50",
        "stargan-wide jpeg50",
        "jpeg96",
        "stargan-wide jpeg96",
    ]
    for name, of in (("jpeg50", "clean"), ("stargan-wide jpeg50", "stargan-wide")):
        for image, plain in zip(tests[name].pixels, tests[of].pixels, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(plain).save(buffer, "JPEG", quality=50, subsampling="4:2:0")
            assert (image == np.asarray(Image.open(buffer))).all()


def test_training_photos_may_be_jpeg_and_the_test_is_not(stage):
    plain, saved = (
        opened(stage[0], f"--condition clean{more}") for more in ("", " --recompress_training 60")
    )
    for a, b in zip(plain.training(), saved.training(), strict=True):
        assert a.ids == b.ids and all((x != y).any() for x, y in zip(a.pixels, b.pixels, strict=True))
    assert (plain.tests()["clean"].pixels == saved.tests()["clean"].pixels).all()


def test_each_training_fake_is_by_one_of_the_translators(stage, other):
    alone = [
        opened(f"{stage[0]}{gan}", "--condition clean").training()[0]
        for gan in ("", f" --gan_weights {other} --gan_name wide")
    ]
    mixed = opened(stage[0], f"--condition clean --train_gan stargan-wide={other}").training()[0]
    assert mixed.ids == alone[0].ids == alone[1].ids
    by = [[bool((m == p).all()) for m, p in zip(mixed.pixels, a.pixels, strict=True)] for a in alone]
    fake = mixed.labels.numpy() == FAKE
    assert all(np.logical_xor(*by)[fake]) and 0.2 < np.mean(np.array(by[1])[fake]) < 0.8
    assert all(np.logical_and(*by)[~fake])  # real photos are the same whoever makes the fakes


def test_unpaired_photos_stand_on_one_side_alone(stage):
    parts = opened(stage[0], "--condition clean --unpaired").training()
    for part in parts:
        of = classes(part)
        assert of[REAL] and of[FAKE] and not of[REAL] & of[FAKE]
    whole = classes(parts[0])
    assert len(whole[REAL]) == len(whole[FAKE]) == 9  # of 18


def test_balance_leaves_that_share_of_the_smaller_class():
    names = [f"{i:03}.jpg" for i in range(100)]

    class Asked:
        unpaired, balance = False, "1:5"

    left = chosen(Asked, names, 0)
    assert sum(i.startswith("real/") for i in left) == 20 and sum(i.startswith("fake/") for i in left) == 100
    Asked.balance, Asked.unpaired = "2:1", True
    left = chosen(Asked, names, 0)
    assert sum(i.startswith("real/") for i in left) == 50 and sum(i.startswith("fake/") for i in left) == 25


def test_the_record_holds_every_test_set_and_the_folder_tells_the_training_set(stage, other):
    flags, results = stage
    run(
        flags,
        f"--condition disrupted --test_gan stargan-wide={other} --recompress 75 --recompress_training 90"
        " --unpaired --balance 1:2",
    )
    found = only(results)
    assert list(found["metrics"]["other"]) == ["stargan-wide", "jpeg75", "stargan-wide jpeg75"]
    assert all(0 <= v["accuracy"] <= 1 and v["accuracy_ci"] for v in found["metrics"]["other"].values())
    config = found["config"]
    assert config["test_gan"] == ["stargan-wide"] and config["balance"] == "1:2" and config["unpaired"]
    assert (results / "detector/toy/stargan/meso4-jpeg90-unpaired-1to2/disrupted").is_dir()


def test_poison_through_a_cure_is_one_whoever_uses_what(stage):
    attack = "--attack_type apgd --apgd_steps 2 --apgd_restarts 1"
    own = opened(
        stage[0], f"--condition purified --defense_model_type jpeg-75 {attack} --attack_through self"
    )
    guessed = opened(stage[0], f"--condition disrupted {attack} --attack_through jpeg-75")
    ignoring = opened(stage[0], f"--condition disrupted {attack}")
    images = [s.judged.samples(1.0).pixels for s in (own, guessed, ignoring)]
    assert (images[0] == images[1]).all() and (images[0] != images[2]).any()
    assert own.attacked_through == guessed.attacked_through == "jpeg-q75"
    assert own.attacked_key == guessed.attacked_key != ignoring.attacked_key


def test_a_record_names_the_cure_that_the_attacker_knew(stage):
    flags, results = stage
    run(
        flags, "--condition purified --defense_model_type jpeg-75 --attack_through self --attack_target clean"
    )
    config = only(results)["config"]
    assert config["attack_through"] == "jpeg-q75" and config["attack_gradient"] == "full"
    (folder,) = results.glob("detector/toy/stargan/meso4/jpeg-q75/*")
    assert folder.name == "pgd-eps0.05-clean-through-jpeg-q75"


@pytest.mark.parametrize(
    "more, message",
    [
        ("--test_gan stgan", "expected NAME=FILE"),
        ("--test_gan gan=x.safetensors", "begins with what the translator is"),
        ("--recompress 0", "from 1 to 100"),
        ("--recompress_training 101", "from 1 to 100"),
        ("--balance 1:0", "expected REAL:FAKE"),
        ("--balance half", "expected REAL:FAKE"),
        ("--attack_through self", "name one"),
        ("--attack_through bleach", "purifier"),
    ],
)
def test_flags_that_mean_nothing_are_one_line(stage, more, message):
    with pytest.raises(UserError, match=message):
        opened(stage[0], f"--condition disrupted {more}")


def test_translators_that_do_not_fit_are_one_line(stage, tmp_path, other):
    few = translator(tmp_path / "few.safetensors", c_dim=4)
    for more, message in (
        (f"--test_gan stargan={other}", "names two translators"),
        (f"--test_gan stargan-a={other} stargan-a={other}", "names two translators"),
        (f"--train_gan stargan-few={few}", "may know fewer"),
        (f"--test_gan stgan={other}", "stargan"),
        (f"--test_gan stargan-few={few} --selected_attrs Black_Hair Blond_Hair", "knows 4 attributes"),
    ):
        base = stage[0]
        if "selected_attrs" in more:
            shutil.copy(translator(tmp_path / "two.safetensors", c_dim=2), tmp_path / "gan.safetensors")
        with pytest.raises(UserError, match=message):
            opened(base, f"--condition clean {more}")


def test_a_translator_of_another_size_is_one_line(stage, other):
    options = opened(stage[0], "--condition clean").options

    class Larger:
        image_size, selected_attrs, gan_type, gan_name = 64, options.selected_attrs, "stargan", None

    with pytest.raises(UserError, match="was trained at 32 pixels, --image_size is 64"):
        load_others("--test_gan", [f"stargan-wide={other}"], Larger, "cpu")


def test_too_few_photos_to_be_unpaired_are_one_line():
    class Asked:
        unpaired, balance = True, None

    with pytest.raises(UserError, match="--unpaired: of 1 photos no fake sample is left"):
        chosen(Asked, ["000001.jpg"], 0)


def test_words():
    assert (
        kind_of("stargan-seed1") == "stargan" and kind_of("starganv2") == "starganv2" and not kind_of("gan")
    )
    assert balance("01:5") == "1:5"
