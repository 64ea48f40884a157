"""The registry: every name builds, and mistakes get one line."""

import pytest
import torch

from common import checkpoint, seeds
from common.cli import ArgumentParser, UserError
from models.dae.network import NETWORKS, create
from purify import PURIFIERS, build
from purify.defences import DEFENCES, trained_by
from purify.flags import add_purifier_flags, purifier_from_flags
from tiny import robust_file, weights_file


@pytest.fixture
def weights(tmp_path):
    """name -> a weight file that fits it, or None."""
    files = {
        "one-step": weights_file(tmp_path / "one.safetensors", "one-step"),
        "ddpm": weights_file(tmp_path / "ddpm.safetensors"),
    }
    for name in NETWORKS:
        files[name] = tmp_path / f"{name}.safetensors"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            checkpoint.save_weights(
                files[name], create(name).state_dict(), {"kind": "dae", "name": name, "options": {}}
            )
    files["one-step-robust"] = robust_file(tmp_path / "robust.safetensors")
    return lambda name: None if name in ("none", "jpeg", "blur") else files.get(name, files["ddpm"])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "gridpure")) for name in PURIFIERS]
)
def test_every_purifier_keeps_shape_and_range_and_passes_a_gradient(name, weights, faces):
    purifier = build(name, weights(name), start=3 if name in ("ddpm", "diffpure") else None)
    assert purifier.name == name and (purifier.sha256 is None) == (name in ("none", "jpeg", "blur"))
    assert name == "none" or purifier.folder_name.startswith(name)
    x = faces(2, 16)[0].requires_grad_(True)
    y = purifier(x, seeds.named(0, ["a", "b"]))
    assert y.shape == x.shape and y.abs().max() <= 1
    assert torch.autograd.grad(y.sum(), x)[0].abs().sum() > 0
    again = purifier(x, seeds.named(0, ["a", "b"]))
    assert torch.equal(y, again)
    alone = torch.cat([purifier(x[i : i + 1], seeds.named(0, [n])) for i, n in enumerate("ab")])
    torch.testing.assert_close(alone, y, atol=1e-5, rtol=1e-5)


def test_defaults_and_folder_names(weights):
    names = {
        name: build(name, weights(name)).folder_name
        for name in ("jpeg", "blur", "ddpm", "diffpure", "one-step", "one-step-plain")
    }
    assert names == {
        "jpeg": "jpeg-q75",
        "blur": "blur-s1.5",
        "ddpm": "ddpm-t10",
        "diffpure": "diffpure-t300",
        "one-step": "one-step",
        "one-step-plain": "one-step-plain-auto",
    }
    assert build("ddpm", weights("ddpm"), start="auto").folder_name == "ddpm-auto"


def test_published_autoencoders_give_no_dark_pixel_and_fixed_ones_can(weights, faces):
    x = -faces(2)[0].abs()
    assert build("defensive-model-1", weights("defensive-model-1"))(x).min() >= 0
    assert build("defensive-model-1-fixed", weights("defensive-model-1-fixed"))(x).min() < 0


def test_mistakes_get_one_line(weights):
    for name, options, found in [
        ("ddpm", {}, "train_defense.py --defense_model_type ddpm"),
        ("one-step", {}, "train_defense.py --defense_model_type one-step"),
        ("one-step", {"weights": weights("ddpm")}, "one-step-plain"),
        ("ddpm", {"weights": weights("one-step")}, "as --defense_model_type one-step only"),
        ("ddpm", {"weights": weights("ddpm"), "start": 301}, "from 1 to 300"),
        ("jpeg", {"weights": "x.pt"}, "has no weights"),
        ("one-step", {"weights": weights("one-step"), "start": 5}, "has no start"),
        ("blur", {"respacing": "30"}, "does not step"),
        ("diffpure", {"weights": weights("ddpm"), "start": "auto"}, "use ddpm"),
        ("ddpm", {"weights": weights("defensive-model-1")}, "denoising autoencoder"),
        ("defensive-model-1", {"weights": weights("ddpm")}, "found diffusion"),
        (
            "defensive-model-1",
            {"weights": weights("defensive-model-2")},
            "give --defense_model_type defensive-model-2",
        ),
        ("ddpm", {"weights": weights("ddpm"), "respacing": "ddim37"}, "--respacing ddim37"),
    ]:
        with pytest.raises(UserError, match=found):
            build(name, **options)


def test_every_defence_names_a_purifier_and_how_it_is_trained():
    assert set(PURIFIERS) < set(DEFENCES) and {d.purifier for d in DEFENCES.values()} == set(PURIFIERS)
    assert [name for name in DEFENCES if trained_by(name) is None] == ["none", "jpeg", "blur"]
    assert (DEFENCES["both"].purifier, DEFENCES["both"].translator) == ("ddpm", "adversarial")


def test_flags(weights):
    p = ArgumentParser()
    add_purifier_flags(p, DEFENCES)
    args = p.parse_args(["--defense_model_type", "both", "--ddpm_start_num", "7", "--respacing", "ddim100"])
    assert purifier_from_flags(args, weights("ddpm")).params == {
        "start": 7,
        "respacing": "ddim100",
        "max_timestep": 300,
    }
    args = p.parse_args(["--defense_model_type", "jpeg", "--ddpm_start_num", "7"])
    with pytest.raises(UserError, match="has no start"):
        purifier_from_flags(args)
    args.attack_through = "ddpm"  # the start is the other purifier's, then
    assert (
        purifier_from_flags(args).name == "jpeg"
        and purifier_from_flags(args, weights("ddpm"), "ddpm").params["start"] == 7
    )
    args.defense_model_type = "one-step-plain"
    assert purifier_from_flags(args, weights("ddpm"), "ddpm").params["start"] == 10
    assert p.parse_args(["--defense_model_type", "ddpm", "--ddpm_start_num", "auto"]).ddpm_start_num == "auto"
    for words, found in [
        (["--defense_model_type", "dpm"], "did you mean ddpm"),
        (["--defense_model_type", "jpeg", "--jpeg_quality", "0"], "1 to 100"),
        (["--defense_model_type", "ddpm", "--ddpm_start_num", "0"], "or auto"),
    ]:
        with pytest.raises(UserError, match=found):
            p.parse_args(words)
