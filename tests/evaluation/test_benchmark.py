"""The benchmark: both orders of work do the same job, and ratios are what they say. Nothing is timed here."""

import pytest
import torch
from PIL import Image

import weights
from common import checkpoint, distributed, seeds
from common.cli import UserError
from evaluation import benchmark, reference, sides
from evaluation.speed import flags
from faces.celeba import FaceFolder
from models.stargan.network import Generator
from models.translators import Translator
from report import record
from tiny import weights_file

ATTRIBUTES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]
CPU = distributed.Context(0, 1, torch.device("cpu"))


@pytest.fixture
def attacks(tiny_generator, face_folder, tmp_path):
    faces = FaceFolder(face_folder(6), ATTRIBUTES, 40, 16, cache_dir=tmp_path / "crops")
    return sides.Attacks(faces, ATTRIBUTES, Translator(tiny_generator), CPU, tmp_path / "attacked")


def test_both_orders_of_work_give_attacks_of_equal_quality(attacks):
    ours, theirs = attacks.quality([attacks.ours()] * 5), attacks.quality(attacks.reference())
    undisturbed = attacks.quality([attacks.x] * 5)
    assert ours["linf"] == pytest.approx(6 / 127.5, abs=1e-6) and theirs["linf"] == pytest.approx(
        ours["linf"], abs=1e-6
    )
    assert (
        ours["l2"] == pytest.approx(theirs["l2"], rel=0.25)
        and ours["l2"] > 0
        and undisturbed == {"linf": 0, "l2": 0}
    )


def test_from_the_same_start_both_orders_of_work_give_the_same_photos(attacks, monkeypatch):
    named = seeds.named
    monkeypatch.setattr(sides.seeds, "named", lambda seed, names, *purpose: named(seed, names, "attack"))
    ours = attacks.ours()
    for theirs in attacks.reference():
        # a sign of a gradient at rounding's reach may flip
        assert ((ours - theirs).abs() > 1e-6).float().mean() < 0.01


def test_the_reference_attacks_anew_for_each_domain_and_leaves_the_translator_frozen(attacks):
    gradients = []
    hook = (
        attacks.translator.network.main[0]
        .weight.requires_grad_(True)
        .register_hook(lambda g: gradients.append(float(g.abs().sum())))
    )
    attacks.translator.requires_grad_(False)
    made = attacks.reference()
    hook.remove()
    assert len(made) == 5 and all(not torch.equal(made[0], other) for other in made[1:])
    # 5 domains x 10 steps, each with a gradient of the parameters
    assert len(gradients) == 50 and min(gradients) > 0
    assert not any(p.requires_grad or p.grad is not None for p in attacks.translator.parameters())


def test_ours_attacks_once_with_frozen_parameters_and_each_turn_works(attacks):
    calls = []
    forward = attacks.translator.forward
    attacks.translator.forward = lambda x, c: (
        calls.append(any(p.requires_grad for p in attacks.translator.parameters())) or forward(x, c)
    )
    first, second = attacks.ours(), attacks.ours()
    # 10 steps a turn; the second turn does not find the first one's cache
    assert torch.equal(first, second) and calls == [False] * 20
    assert (attacks.ours("bf16") - attacks.x).abs().max() <= 6 / 127.5 + 1e-6


def test_cached_and_decoded_epochs_are_the_same_images(face_folder, tmp_path):
    folder = face_folder(7)
    faces = FaceFolder(folder, ATTRIBUTES, 40, 16, cache_dir=tmp_path / "crops")
    decoded = torch.cat(list(reference.decode_epoch([folder / n for n in faces.names], 40, 16, 3)))
    assert torch.allclose(decoded, faces.floats(range(7)), atol=1e-6)
    # so both had something to crop and resize
    assert Image.open(folder / faces.names[0]).size == (40, 48)


def test_ratio_is_taken_turn_by_turn():
    found = sides.compare([1.0, 2.0, 10.0], [10.0, 30.0, 80.0], units=4)  # turn by turn 10, 15, 8
    assert found == {
        "seconds": 0.5,
        "reference_seconds": 7.5,
        "ratio": 10.0,
        "ratio_low": 8.0,
        "ratio_high": 15.0,
    }
    with pytest.raises(ValueError):
        sides.compare([1.0], [1.0, 2.0])


def test_sides_take_turns():
    order, clock = [], iter(range(100))
    found = sides.take_turns(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")},
        3,
        lambda work: (work(), next(clock))[1],
    )
    assert order == list("ababab") and found == {"a": [0, 2, 4], "b": [1, 3, 5]}


def test_whole_run_on_tiny_networks_writes_a_valid_record(tmp_path, face_folder, capsys, monkeypatch):
    monkeypatch.setattr(sides, "STEPS", 1)
    face_folder(4, tmp_path / "faces" / "images_b")
    checkpoint.save_weights(
        tmp_path / "g.safetensors",
        Generator(4, 5, 1).state_dict(),
        {"kind": "stargan-generator", "attributes": ATTRIBUTES},
    )
    words = [
        "--gan_weights",
        tmp_path / "g.safetensors",
        "--diffusion_weights",
        weights_file(tmp_path / "d.safetensors", image_size=16),
        "--one_step_weights",
        weights_file(tmp_path / "o.safetensors", "one-step", image_size=16),
        "--attack_weights",
        weights.dadfi(tmp_path / "a.safetensors", image_size=16),
        "--data_dir",
        tmp_path / "faces",
        "--image_size",
        16,
        "--celeba_crop_size",
        40,
        "--num_images",
        2,
        "--num_decoded",
        4,
        "--repeats",
        1,
        "--diffpure_start",
        12,
        "--device",
        "cpu",
        "--result_dir",
        tmp_path / "results",
        "--rows",
        *(name for name in benchmark.AIMS if name != "processes"),
    ]
    words = [str(w) for w in words]
    assert benchmark.main([*words, "--dry_run"]) is None and not (tmp_path / "results").exists()
    benchmark.main(words)
    found = record.read(tmp_path / "results" / "benchmark" / "faces" / "000" / "record.json")
    assert (
        found.kind == "benchmark"
        and set(found.metrics) == set(benchmark.AIMS) - {"processes"}
        and (found.name, found.config["architecture"], found.config["num_images"]) == ("benchmark", "demo", 2)
    )
    # one turn
    assert all(
        m["ratio"] == pytest.approx(m["reference_seconds"] / m["seconds"]) for m in found.metrics.values()
    )
    printed = capsys.readouterr().out
    assert all(name in printed for name in found.metrics) and "l2 of the fakes" in printed
    with pytest.raises(UserError, match="holds 4 photos"):
        benchmark.main([*words, "--num_images", "5"])
    with pytest.raises(UserError, match="--rows defender: no such row"):
        benchmark.main([*words[: words.index("--rows")], "--rows", "defender"])


@pytest.mark.slow
def test_two_processes_are_a_row_of_the_demo(tmp_path, capsys):
    words = "--rows processes --num_images 2 --num_decoded 2 --repeats 1 --num_workers 1 --device cpu"
    benchmark.main([*words.split(), "--result_dir", str(tmp_path)])
    found = record.read(tmp_path / "benchmark" / "drawn" / "000" / "record.json")
    assert list(found.metrics) == ["processes"] and found.metrics["processes"]["ratio"] > 0
    assert "processes" in capsys.readouterr().out


def test_missing_shipped_weights_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(flags, "MODELS", tmp_path)
    with pytest.raises(
        UserError, match=r"models/stargan/demo.safetensors is not there.*demo_weights.sh.*--gan_weights"
    ):
        benchmark.main([])
    assert not list(tmp_path.iterdir())
