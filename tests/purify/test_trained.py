"""Without --defense_weights the newest finished training is taken; where there is none, the command that
trains it is named."""

import os
import shutil
from argparse import Namespace

import pytest
import torch
import yaml

from common import checkpoint, cli
from common.cli import UserError
from common.distributed import Context
from faces.flags import add_data_flags
from purify.defences import DEFENCES
from purify.flags import add_purifier_flags
from purify.trained import (
    default_translator,
    load_defence,
    newest_training,
    newest_translator,
    own_translator_of,
    trained_noise,
    training_name,
    weights_of,
)
from tiny import weights_file
from weights import translator

CPU = Context(0, 1, torch.device("cpu"))


def finish(tmp_path, *parts, age=0, translator=None, **options):
    """weights.safetensors of a finished training in this folder, of these options, started `age` seconds
    before the newest; the file's own time says the contrary."""
    path = tmp_path.joinpath(*parts) / "weights.safetensors"
    path.parent.mkdir(parents=True)
    meta = {"kind": f"{translator}-generator"} if translator else {}
    checkpoint.save_weights(path, {"a": torch.zeros(1)}, meta)
    header = {"options": {"dataset": "toy", **options}, "started": f"2026-01-01T10:{59 - age // 60:02d}:00"}
    (path.parent / "options.yaml").write_text(yaml.safe_dump(header))
    os.utime(path, (1e9 + age, 1e9 + age))
    return path


def purifier(defense, attack="none", eps=0.05, **more):
    """The options of a training of train_defense.py."""
    return {"defense_model_type": defense, "attack_type": attack, "train_noise_var": eps, **more}


def args(tmp_path, **more):
    return Namespace(
        result_dir=tmp_path,
        dataset="toy",
        data_dir="dataset/toy",
        image_size=64,
        gan_weights="G.ckpt",
        gan_type="stargan",
        gan_style=None,
        defense_noise=None,
        adv_gan_weights=None,
        defense_model_type="adv-train",
        **more,
    )


def test_the_newest_finished_run_wins_and_unfinished_ones_do_not_count(tmp_path):
    older = finish(tmp_path, "ddpm/toy/train/none-eps0/000", age=300, **purifier("ddpm"))
    newer = finish(tmp_path, "ddpm/toy/train/pgd-eps0.05/000", age=60, **purifier("ddpm", "pgd"))
    finish(tmp_path, "ddpm/toy/train/none-eps0/001", **purifier("ddpm")).unlink()
    assert newest_training(tmp_path, "ddpm", "toy") == newer
    assert newest_training(tmp_path, "ddpm", "toy", "none") == older
    assert newest_training(tmp_path, "ddpm", "other") is None


def test_of_trainings_of_one_second_the_number_of_the_folder_decides(tmp_path):
    for number in ("999", "1000", "998"):
        finish(tmp_path, "ddpm/toy/train/none-eps0", number, **purifier("ddpm"))
    assert newest_training(tmp_path, "ddpm", "toy").parent.name == "1000"


def test_a_training_is_what_its_options_say_wherever_it_lies(tmp_path):
    moved = finish(tmp_path, "mine/photos/train/best/kept", **purifier("ddpm", "pgd", dataset="toy"))
    for noise in (None, "pgd", "pgd-eps0.05"):
        assert newest_training(tmp_path, "ddpm", "toy", noise) == moved
    assert newest_training(tmp_path, "ddpm", "toy", "best") is None
    assert newest_training(tmp_path, "ddpm", "photos") is None
    assert newest_training(tmp_path, "mine", "toy") is None
    gan = finish(tmp_path, "mine/photos/train/adv-both/kept", translator="stargan", adversarial="none")
    assert newest_translator(tmp_path, "toy") == gan


def test_results_inside_results_are_others(tmp_path):
    finish(tmp_path, "other/ddpm/toy/train/none-eps0/000", **purifier("ddpm"))
    assert newest_training(tmp_path, "ddpm", "toy") is None


def test_a_copy_is_as_old_as_what_it_was_copied_from(tmp_path):
    older = finish(tmp_path, "ddpm/toy/train/none-eps0/000", age=300, **purifier("ddpm"))
    newer = finish(tmp_path, "ddpm/toy/train/none-eps0/001", age=60, **purifier("ddpm"))
    copy = older.parent.with_name("002")
    shutil.copytree(older.parent, copy, copy_function=shutil.copyfile)
    assert (copy / "weights.safetensors").stat().st_mtime > newer.stat().st_mtime
    assert newest_training(tmp_path, "ddpm", "toy") == newer


@pytest.mark.parametrize("text", [None, "options: [", "options: 3", "", "\0"])
def test_without_readable_options_there_is_no_training(tmp_path, text):
    whole = finish(tmp_path, "ddpm/toy/train/none-eps0/000", age=60, **purifier("ddpm"))
    broken = finish(tmp_path, "ddpm/toy/train/none-eps0/001", **purifier("ddpm")).with_name("options.yaml")
    if text is None:
        broken.unlink()
    else:
        broken.write_text(text)
    assert newest_training(tmp_path, "ddpm", "toy") == whole


def test_a_training_that_does_not_say_when_it_was_started_is_the_oldest(tmp_path):
    silent = finish(tmp_path, "ddpm/toy/train/none-eps0/001", **purifier("ddpm"))
    header = {"options": {"dataset": "toy", **purifier("ddpm")}}
    silent.with_name("options.yaml").write_text(yaml.safe_dump(header))
    assert newest_training(tmp_path, "ddpm", "toy") == silent
    dated = finish(tmp_path, "ddpm/toy/train/none-eps0/000", **purifier("ddpm"))
    assert newest_training(tmp_path, "ddpm", "toy") == dated


def test_a_variant_is_found_by_its_full_name_alone(tmp_path):
    one_step = purifier("one-step", "pgd", 0.11)
    whole = finish(tmp_path, "one-step/toy/train/pgd-eps0.11/000", age=300, **one_step, fake_weight=1.0)
    variant = finish(tmp_path, "one-step/toy/train/pgd-eps0.11/001", age=60, **one_step, fake_weight=0.0)
    other = finish(tmp_path, "one-step/toy/train/pgd-eps0.11/002", **one_step, gan_type="stgan")
    for noise in (None, "pgd", "pgd-eps0.11"):
        assert newest_training(tmp_path, "one-step", "toy", noise) == whole
    assert newest_training(tmp_path, "one-step", "toy", "pgd-eps0.11-fake0") == variant
    assert newest_training(tmp_path, "one-step", "toy", "pgd-eps0.11-stgan") == other


def test_an_option_that_an_older_run_lacks_is_the_usual_one(tmp_path):
    old = finish(tmp_path, "one-step/toy/train/pgd-eps0.11/000", **purifier("one-step", "pgd", 0.11))
    assert newest_training(tmp_path, "one-step", "toy", "pgd-eps0.11") == old
    gan = finish(tmp_path, "stargan/toy/train/standard/000", translator="stargan")
    assert newest_translator(tmp_path, "toy") == gan
    assert newest_translator(tmp_path, "toy", "adversarial") is None


def test_ingredients_are_of_one_step_alone():
    assert training_name(purifier("ddpm", clean_share=0.0, gan_type="stgan")) == "none-eps0"
    assert training_name(purifier("one-step", "pgd", 0.11, noise_share=0.4)) == "pgd-eps0.11-noise0.4"


def test_diffpure_and_one_step_plain_use_the_ddpm_network(tmp_path):
    path = finish(tmp_path, "ddpm/toy/train/none-eps0/000", **purifier("ddpm"))
    assert {weights_of(d, args(tmp_path)) for d in ("ddpm", "diffpure", "one-step-plain")} == {str(path)}
    assert weights_of("jpeg", args(tmp_path)) is None


def test_what_other_commands_train_is_no_purifier(tmp_path):
    finish(tmp_path, "diffusion/toy/train/benign/000", backdoor=None, num_steps=3)
    detector = {"defense_model_type": "ddpm", "attack_type": "pgd", "test_noise_var": 0.05}
    finish(tmp_path, "detector/toy/train/ddpm/000", **detector)
    assert newest_training(tmp_path, "ddpm", "toy") is None


def test_ordinary_and_adversarial_translators_are_told_apart(tmp_path):
    standard = finish(tmp_path, "stargan/toy/train/standard/000", translator="stargan", adversarial="none")
    assert newest_translator(tmp_path, "toy") == standard
    with pytest.raises(UserError, match="--adversarial both"):
        own_translator_of(args(tmp_path))
    adversarial = finish(tmp_path, "stargan/toy/train/adv-both/000", translator="stargan", adversarial="both")
    assert own_translator_of(args(tmp_path)) == str(adversarial)
    assert newest_translator(tmp_path, "toy") == standard


def test_patched_translators_are_told_from_both_others(tmp_path):
    patched = args(tmp_path)
    patched.defense_model_type = "lora-patch"
    finish(tmp_path, "stargan/toy/train/adv-both/000", translator="stargan", adversarial="both")
    with pytest.raises(UserError, match="lora-patch needs .* models.stargan.lora_train --gan_weights G.ckpt"):
        own_translator_of(patched)
    lora = finish(tmp_path, "stargan/toy/train/lora/000", translator="stargan", adversarial="lora")
    assert own_translator_of(patched) == str(lora) and newest_translator(tmp_path, "toy") is None
    assert own_translator_of(args(tmp_path)) != str(lora)


def test_named_weights_of_the_other_kind_are_refused(tmp_path):
    files = {}
    for kind in ("both", "lora"):
        files[kind] = str(tmp_path / f"{kind}.safetensors")
        checkpoint.save_weights(files[kind], {"a": torch.zeros(1)}, {"adversarial": kind})
    for name, right, wrong in (("lora-patch", "lora", "both"), ("adv-train", "both", "lora")):
        options = args(tmp_path)
        options.defense_model_type, options.adv_gan_weights = name, files[right]
        assert own_translator_of(options) == files[right]
        options.adv_gan_weights = files[wrong]
        with pytest.raises(UserError, match=f"not the translator of {name}, made by"):
            own_translator_of(options)


def test_translators_are_told_apart_by_what_their_weights_say(tmp_path):
    finish(tmp_path, "stargan/toy/train/standard/000", translator="stargan")
    other = finish(tmp_path, "stgan/toy/train/standard/000", translator="stgan")
    assert newest_translator(tmp_path, "toy", gan_type="stgan") == other
    assert newest_translator(tmp_path, "toy", gan_type="starganv2") is None


def test_missing_weights_name_the_command(tmp_path):
    with pytest.raises(
        UserError,
        match=(
            "train_defense.py --defense_model_type one-step --gan_weights G.ckpt --data_dir dataset/toy"
            " --image_size 64"
        ),
    ):
        weights_of("one-step", args(tmp_path))


def test_the_default_translator_is_the_newest_ordinary_one(tmp_path):
    asked = (tmp_path, "toy", "stargan", "dataset/toy", 64)
    with pytest.raises(
        UserError,
        match=(
            "--gan_weights FILE is needed: .*python -m models.stargan.train --data_dir dataset/toy"
            " --image_size 64"
        ),
    ):
        default_translator(*asked)
    finish(tmp_path, "stargan/toy/train/standard/000", age=300, translator="stargan")
    newer = finish(tmp_path, "stargan/toy/train/standard/001", age=60, translator="stargan")
    finish(tmp_path, "stargan/toy/train/adv-both/000", translator="stargan", adversarial="both")
    finish(tmp_path, "stargan/other/train/standard/000", translator="stargan", dataset="other")
    assert default_translator(*asked) == str(newer)


@pytest.fixture
def parsed(tmp_path):
    """parse(words) -> flags as a script has them, over results that hold two translators and a ddpm."""
    gan = translator(tmp_path / "gan.safetensors")
    results = tmp_path / "results"
    translator(finish(results, "stargan/toy/train/adv-both/000", adversarial="both"), conv_dim=8)
    weights_file(finish(results, "ddpm/toy/train/pgd-eps0.05/000", **purifier("ddpm", "pgd")), image_size=32)

    def parse(*words):
        p = cli.ArgumentParser(prog="x")
        add_data_flags(p, image_size=32)
        add_purifier_flags(p, DEFENCES, default="none")
        p.set_defaults(
            dataset="toy",
            result_dir=str(tmp_path / "results"),
            gan_weights=str(gan),
            gan_type="stargan",
            gan_style=None,
            adv_gan_weights=None,
            defense_noise=None,
        )
        return p.parse_args(list(words))

    return parse


def test_a_defence_without_weights_uses_the_standard_translator(parsed):
    jpeg, weights, standard, used = load_defence(
        parsed("--defense_model_type", "jpeg", "--jpeg_quality", "40"), CPU
    )
    assert (
        (jpeg.name, jpeg.params, weights) == ("jpeg", {"quality": 40}, None)
        and used is standard
        and standard.network.conv_dim == 4
    )


def test_a_patched_translator_makes_the_fakes_of_its_defence(parsed, tmp_path):
    translator(finish(tmp_path / "results", "stargan/toy/train/lora/000", adversarial="lora"), conv_dim=8)
    found, weights, standard, used = load_defence(parsed("--defense_model_type", "lora-patch"), CPU)
    assert (found.name, weights) == ("none", None)
    assert (standard.network.conv_dim, used.network.conv_dim) == (4, 8)


def test_a_defence_uses_the_newest_training_or_the_weights_that_are_named(parsed, tmp_path):
    newest, weights, _, _ = load_defence(parsed("--defense_model_type", "ddpm", "--ddpm_start_num", "3"), CPU)
    assert (
        weights == str(tmp_path / "results/ddpm/toy/train/pgd-eps0.05/000/weights.safetensors")
        and newest.params["start"] == 3
    )
    mine = weights_file(tmp_path / "mine.safetensors", image_size=32, note="another file")
    named, weights, _, _ = load_defence(
        parsed("--defense_model_type", "ddpm", "--defense_weights", str(mine)), CPU
    )
    assert weights == str(mine) and named.sha256 != newest.sha256


@pytest.mark.parametrize(
    "name, used_purifier", [("adv-train", "none"), ("adv-train-blur", "blur"), ("both", "ddpm")]
)
def test_adversarial_defences_have_a_translator_of_their_own(parsed, name, used_purifier):
    found, weights, standard, used = load_defence(parsed("--defense_model_type", name), CPU)
    assert found.name == used_purifier and (weights is None) == (used_purifier != "ddpm")
    assert (standard.network.conv_dim, used.network.conv_dim) == (4, 8) and standard.sha256 != used.sha256


@pytest.mark.parametrize(
    "words, message",
    [
        (["--image_size", "30"], "--image_size 30: these networks take multiples of 4, 28 for example"),
        (["--image_size", "3"], "multiples of 4, 4 for example"),
        (["--selected_attrs", "Male", "Young"], "knows 5 attributes, --selected_attrs names 2"),
        (["--defense_model_type", "one-step"], "one-step has no finished training"),
        (["--defense_model_type", "jpeg", "--defense_weights", "x"], "jpeg has no weights"),
    ],
)
def test_what_does_not_fit_together_is_one_line(parsed, words, message):
    with pytest.raises(UserError, match=message):
        load_defence(parsed(*words), CPU)


def test_the_disruption_that_weights_were_trained_on(tmp_path):
    """The options of the run say it, whatever the file; a file that was moved says it itself, or is known by
    its name."""
    assert trained_noise(None) == "none"
    one_step = purifier("one-step", "pgd", 0.11, fake_weight=0.0)
    for folder, options, noise in (
        ("ddpm/toy/train/here/000", purifier("ddpm", "pgd"), "pgd-eps0.05"),
        ("ddpm/toy/train/pgd-eps0.05/000", purifier("ddpm"), "none-eps0"),
        ("anywhere", one_step, "pgd-eps0.11-fake0"),
    ):
        path = finish(tmp_path, folder, **options)
        assert trained_noise(path) == noise
        assert trained_noise(str(path.with_name("last.pt"))) == noise
    checkpoint.save_weights(
        tmp_path / "mine.safetensors", {"a": torch.zeros(1)}, {"attack": "pgd", "eps": 0.0500}
    )
    checkpoint.save_weights(tmp_path / "official.safetensors", {"a": torch.zeros(1)}, {})
    assert (
        trained_noise(tmp_path / "mine.safetensors") == "pgd-eps0.05"
        and trained_noise(tmp_path / "official.safetensors") == "official"
    )
    with pytest.raises(UserError, match="no such weight file"):
        trained_noise(tmp_path / "gone.safetensors")


def test_the_name_of_a_diffusion_network_trained_for_scans(tmp_path):
    hidden = {"trigger": "box", "target": "hat", "poison_rate": 0.2}
    for folder, backdoor, name in (
        ("a", None, "benign-16"),
        ("b", "baddiffusion", "baddiffusion-box-hat-rate0.2-16"),
    ):
        path = finish(tmp_path, folder, backdoor=backdoor, image_size=16, **hidden)
        assert trained_noise(path) == name
