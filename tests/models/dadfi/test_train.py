import contextlib
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from common import checkpoint
from common.cli import RunError, UserError
from models.dadfi import train
from models.dadfi.network import load_perturber
from models.dadfi.validation import Validation
from models.stargan.frozen import StarGAN
from models.stargan.network import Generator
from models.victims import Victim, load_victims

ROOT = Path(train.__file__).parents[2]
WEIGHTS = runpy.run_path(Path(__file__).parents[2] / "weights.py")
TRAININGS = runpy.run_path(str(Path(__file__).parents[2] / "trainings.py"))
log, parts, same, killed_at = (TRAININGS[name] for name in ("log", "parts", "same", "killed_at"))
TINY = [
    "--image_size",
    "32",
    "--celeba_crop_size",
    "32",
    "--conv_dim",
    "4",
    "--pgd_steps",
    "2",
    "--batch_size",
    "4",
    "--num_steps",
    "4",
    "--log_step",
    "1",
    "--save_step",
    "2",
    "--num_workers",
    "0",
    "--device",
    "cpu",
]


@pytest.fixture
def command(face_folder, tmp_path):
    """command(*flags) -> the argv of a tiny training on 8 photos below `data`, results below `results`."""
    face_folder(8, tmp_path / "data" / "images_a")
    gan = WEIGHTS["translator"](tmp_path / "gan.safetensors")
    return lambda *flags: [
        "--data_dir",
        str(tmp_path / "data"),
        "--result_dir",
        str(tmp_path / "results"),
        "--victims",
        f"stargan={gan}",
        *TINY,
        *flags,
    ]


def folder(tmp_path, kind="stargan", number="000"):
    return tmp_path / "results" / "dadfi" / "data" / "train" / f"{kind}-pgd_steps-2" / number


@pytest.fixture
def never_collapsed(monkeypatch):
    """Four steps are no training: what they leave is not judged."""
    monkeypatch.setattr(Validation, "finding", lambda self, network: None)


def collapsed(monkeypatch, what="no effect: a test says so"):
    monkeypatch.setattr(Validation, "finding", lambda self, network: what)


def test_a_training_leaves_its_files_and_is_not_done_twice(command, tmp_path, capsys, never_collapsed):
    train.main(command())
    run = folder(tmp_path)
    assert {p.name for p in run.iterdir()} == {
        "options.yaml",
        "log.jsonl",
        "last.pt",
        "samples",
        "weights.safetensors",
    }
    # photo, protected, change, two fakes
    assert Image.open(run / "samples" / "0000004.png").size == ((5 * 34 + 2) * 2, (34 + 2) * 2)
    lines = log(run)
    assert [line["step"] for line in lines] == [1, 2, 2, 3, 4, 4] and set(lines[0]) >= {
        "ide_x",
        "ide_y",
        "g_x",
        "g_y",
        "g_hinge",
        "mean_p",
        "stargan_share",
    }
    assert set(lines[2]) == {
        "step",
        "val_mean_p",
        "val_psnr",
        "val_stargan_l2",
        "val_stargan_l2_noise",
        "val_stargan_l2_pgd",
    }
    network = load_perturber(run / "weights.safetensors")
    assert (network.lim, network.image_size, network.meta["finetuning"], network.meta["finding"]) == (
        0.05,
        32,
        True,
        None,
    )
    victim = network.meta["victims"][0]
    assert (
        victim["gan"] == "stargan"
        and victim["attributes"] == WEIGHTS["ATTRIBUTES"]
        and len(victim["sha256"]) == 64
    )
    before = (run / "weights.safetensors").read_bytes()
    train.main(command("--resume"))
    assert "nothing to do" in capsys.readouterr().out and (run / "weights.safetensors").read_bytes() == before


def test_basic_perturbations_are_made_once_and_shared(command, tmp_path, never_collapsed):
    train.main(command("--num_steps", "1"))
    (cache,) = (tmp_path / "results" / "attacked" / "data").iterdir()
    assert cache.name.startswith("pgd-eps0.05-clean-iterative-") and len(list(cache.glob("*.png"))) == 8
    made = {p.name: p.stat().st_mtime_ns for p in cache.glob("*.png")}
    train.main(command("--num_steps", "1", "--lambda_distance", "5", "--seed", "0"))
    assert folder(tmp_path, "stargan-distance5").exists()
    assert made == {p.name: p.stat().st_mtime_ns for p in cache.glob("*.png")}


@pytest.mark.parametrize(
    "flags", [[], ["--optimiser", "paper", "--bound", "hinge", "--gan_loss", "saturating", "--ema", "0.9"]]
)
def test_a_resumed_training_is_bit_equal_to_an_uninterrupted_one(
    command, tmp_path, monkeypatch, never_collapsed, flags
):
    flags = [*flags, "--save_step", "1"]
    train.main(command(*flags))
    killed_at(3, monkeypatch, train, command(*flags))
    # what differs is told
    kind = "stargan" + ("-bound-hinge-gan_loss-saturating-optimiser-paper" if "--bound" in flags else "")
    whole, resumed = folder(tmp_path, kind), folder(tmp_path, kind, "001")
    assert checkpoint.load_state(resumed / "last.pt")["step"] == 3
    train.main(command(*flags, "--resume"))
    assert same(parts(whole), parts(resumed))
    assert (whole / "weights.safetensors").read_bytes() == (resumed / "weights.safetensors").read_bytes()
    assert [{k: v for k, v in line.items() if k != "seconds"} for line in log(whole)] == [
        {k: v for k, v in line.items() if k != "seconds"} for line in log(resumed)
    ]


def test_the_distance_loss_drives_fakes_apart(command, tmp_path, never_collapsed):
    reached = []
    for weight in ("0", "30"):
        train.main(
            command(
                "--num_steps",
                "30",
                "--lr",
                "5e-3",
                "--conv_dim",
                "16",
                "--lambda_y",
                "0",
                "--lambda_distance",
                weight,
                "--save_step",
                "30",
            )
        )
        name = "stargan-y0" + ("-distance0" if weight == "0" else "")
        reached.append(log(folder(tmp_path, name))[-1]["val_stargan_l2"])
    assert reached[1] > 2 * reached[0]


def test_the_ablation_has_no_second_recogniser_and_breaks_no_training_photos(command, tmp_path, monkeypatch):
    collapsed(monkeypatch, "no effect: 0.1 of a grey level")
    train.main(command("--without_finetuning"))
    run = folder(tmp_path, "stargan-without-finetuning")
    assert set(parts(run)) == {"generator", "ide_x", "generator_optimiser", "ide_x_optimiser"} and not {
        "ide_y",
        "g_y",
        "stargan_share",
    } & set(log(run)[0])
    # kept, and told
    assert load_perturber(run / "weights.safetensors").meta["finding"] == "no effect: 0.1 of a grey level"
    (cache,) = (tmp_path / "results" / "attacked" / "data").iterdir()
    assert len(list(cache.glob("*.png"))) == 1  # the held-out photo, which the result is measured against


def test_a_collapse_is_an_error_that_leaves_the_state_and_no_weights(command, tmp_path, monkeypatch):
    collapsed(monkeypatch)
    with pytest.raises(RunError, match="has collapsed, no effect: a test says so"):
        train.main(command())
    assert (folder(tmp_path) / "last.pt").exists() and not (folder(tmp_path) / "weights.safetensors").exists()
    with pytest.raises(RunError, match="has collapsed"):  # and continuing finds it again
        train.main(command("--resume"))


class Gives:
    """A network whose perturbation is this one, whatever the photo."""

    def __init__(self, p):
        self.p = p

    def perturbation(self, x):
        return self.p.expand_as(x)


def test_what_counts_as_collapsed(faces, tiny_generator):
    from attacks import build

    x, c = faces(4)
    victim = Victim("stargan", "", StarGAN(tiny_generator), WEIGHTS["ATTRIBUTES"], WEIGHTS["ATTRIBUTES"])
    attack = build("pgd", tiny_generator, 0.05, steps=10, step_size=0.01, target="clean", label="iterative")
    from common import seeds
    from models.conditions import attack_labels

    pgd = attack(x, attack_labels("iterative", c, victim.attributes), seeds.Streams(range(4)))
    validation = Validation(x, c, [victim], attack.release, [pgd], 0.05, seed=0)
    assert validation.pgd[0] > 2 * validation.noise[0] > 0
    assert "0.00 of a grey level" in validation.finding(Gives(torch.full((1, 3, 1, 1), 0.4 / 127.5)))
    flat = torch.full((1, 3, 1, 1), 0.049)
    assert "no effect" in validation.finding(Gives(flat)) or "saturated constant" in validation.finding(
        Gives(flat)
    )
    validation.noise = [0.0]
    assert validation.finding(Gives(flat)).startswith(
        "saturated constant pattern: 0.049 of 0.05 everywhere, 0.00 of a grey level"
    )
    assert validation.finding(Gives((pgd - x)[:1])) is None
    validation.noise = [1.0]
    assert validation.finding(Gives((pgd - x)[:1])).startswith("no effect: its fakes are no further")


def test_several_victims_keep_their_own_labels(command, tmp_path, monkeypatch, never_collapsed):
    """Two translators of other attributes, under two names; the batches carry the union of their columns."""
    monkeypatch.setitem(
        train.load_victims.__globals__["TRANSLATORS"], "stgan", "models.stargan.frozen:StarGAN"
    )
    other = tmp_path / "other.safetensors"
    checkpoint.save_weights(
        other,
        Generator(4, 2, 1).state_dict(),
        {"kind": "stargan-generator", "attributes": ["Young", "Blond_Hair"], "image_size": 32},
    )
    argv = command("--victims", f"stargan={tmp_path / 'gan.safetensors'}", f"stgan={other}")
    victims, columns = load_victims(train.parse_args(argv), "cpu")
    assert columns == WEIGHTS["ATTRIBUTES"] and victims[1].rows == [4, 1]
    labels = torch.tensor([[1.0, 0, 0, 1, 0]])
    assert victims[1].conditions(labels).tolist() == [[[1, 0]], [[0, 1]]]  # flip Young; make blond
    train.main(argv)
    run = folder(tmp_path, "stargan+stgan")
    assert {"stargan_share", "stgan_share"} <= set(log(run)[0]) and {
        "val_stgan_l2",
        "val_stargan_l2_pgd",
    } <= set(log(run)[-1])
    assert [v["attributes"] for v in load_perturber(run / "weights.safetensors").meta["victims"]] == [
        WEIGHTS["ATTRIBUTES"],
        ["Young", "Blond_Hair"],
    ]


def test_a_photos_target_domain_depends_on_neither_its_neighbours_nor_the_process(faces, tiny_generator):
    from common import seeds

    victim = Victim("stargan", "", StarGAN(tiny_generator), WEIGHTS["ATTRIBUTES"], WEIGHTS["ATTRIBUTES"])
    c = faces(8)[1]
    whole = victim.random_conditions(c, seeds.stepped(0, 3, range(8), "dadfi", "stargan"))
    part = victim.random_conditions(c[4:], seeds.stepped(0, 3, range(4, 8), "dadfi", "stargan"))
    assert torch.equal(whole[4:], part) and len(set(map(tuple, (whole - c).tolist()))) > 1


def test_seeds_decide(command, tmp_path, never_collapsed):
    for flags in ([], [], ["--seed", "1"]):
        train.main(command("--num_steps", "1", *flags))
    first, again, other = (parts(folder(tmp_path, number=f"00{k}"))["generator"] for k in range(3))
    assert same(first, again) and not same(first, other)


def test_frozen_networks_learn_nothing_and_the_others_do(command, tmp_path, monkeypatch, never_collapsed):
    seen = {}
    make = train.Step.__init__

    def watch(self, args, ctx, batches, networks, *rest):
        make(self, args, ctx, batches, networks, *rest)
        seen.update(
            networks=networks,
            before={k: [p.clone() for p in n.parameters()] for k, n in networks.items()},
            victims=self.victims,
        )

    monkeypatch.setattr(train.Step, "__init__", watch)
    train.main(command("--num_steps", "1"))
    for name, network in seen["networks"].items():
        assert all(p.requires_grad for p in network.parameters())
        assert any(
            not torch.equal(a, b) for a, b in zip(seen["before"][name], network.parameters(), strict=True)
        ), name
    assert all(
        p.grad is None and not p.requires_grad for v in seen["victims"] for p in v.translator.parameters()
    )


def test_nan_in_a_victim_is_told_with_the_step(command, tmp_path):
    with torch.no_grad():
        network = Generator(4, 5, 1)
        network.main[0].weight[0, 0, 0, 0] = float("nan")
    checkpoint.save_weights(
        tmp_path / "gan.safetensors",
        network.state_dict(),
        {"kind": "stargan-generator", "attributes": WEIGHTS["ATTRIBUTES"], "image_size": 32},
    )
    with pytest.raises(RunError, match="step 1: a loss is not finite"):
        train.main(command())
    assert not (folder(tmp_path) / "weights.safetensors").exists()


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--victims", "stargna=x"], "unknown translator 'stargna' .did you mean stargan"),
        (["--victims", "x.ckpt"], "expected NAME=FILE"),
        (["--victims", "stargan="], "expected NAME=FILE"),
        (["--victims", "stargan=none.ckpt"], "none.ckpt: no such weight file"),
        (["--victims", "stargan=a.ckpt", "stargan=b.ckpt"], "stargan is there 2 times"),
        (
            ["--image_size", "16"],
            "gan.safetensors: stargan was trained at 32 pixels, --image_size is 16: give --image_size 32",
        ),
        (["--image_size", "8"], "--image_size 8: expected at least 16"),
        (["--lim", "0.001"], "--lim"),
        (["--lim", "nan"], "--lim"),
        (["--bound", "soft"], "unknown value 'soft'"),
        (["--lambda_y", "-1"], "--lambda_y"),
        (["--optimiser", "sgd"], "unknown value 'sgd'"),
        (["--pgd_steps", "0"], "--pgd_steps"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(command, tmp_path, flags, words):
    with pytest.raises(UserError, match=words) as e:
        train.main(command(*flags))
    assert "\n" not in str(e.value) and not (tmp_path / "results").exists()


def test_victims_of_different_sizes_and_of_unsaid_attributes_are_told(command, tmp_path, monkeypatch):
    monkeypatch.setitem(
        train.load_victims.__globals__["TRANSLATORS"], "stgan", "models.stargan.frozen:StarGAN"
    )
    for name, meta in (("larger", {"attributes": WEIGHTS["ATTRIBUTES"], "image_size": 64}), ("silent", {})):
        checkpoint.save_weights(tmp_path / f"{name}.safetensors", Generator(4, 5, 1).state_dict(), meta)
    gan = f"stargan={tmp_path / 'gan.safetensors'}"
    with pytest.raises(UserError, match="different ones .stargan 32, stgan 64.") as e:
        train.main(command("--victims", gan, f"stgan={tmp_path / 'larger.safetensors'}"))
    assert "\n" not in str(e.value)
    with pytest.raises(
        UserError, match="--selected_attrs: 1 names .Male., .*silent.safetensors knows 5 attributes"
    ):
        train.main(
            command("--victims", f"stargan={tmp_path / 'silent.safetensors'}", "--selected_attrs", "Male")
        )
    assert not (tmp_path / "results").exists()


def test_a_dry_run_writes_nothing(command, tmp_path, capsys):
    train.main(command("--dry_run"))
    assert '"lambda_distance"' in capsys.readouterr().out and not (tmp_path / "results").exists()


def test_one_photo_is_enough_to_start_from(command, tmp_path, never_collapsed):
    train.main(command("--limit", "1", "--num_steps", "1"))
    assert (folder(tmp_path) / "samples" / "0000001.png").exists()


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(command, tmp_path):
    flags = ["--ema", "0.9"]
    # four steps are no training: whether what they leave counts as collapsed is not asked
    with contextlib.suppress(RunError):
        train.main(command(*flags))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            "-m",
            "models.dadfi.train",
            *command(*flags),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    one, two = log(folder(tmp_path)), log(folder(tmp_path, number="001"))
    assert one[-1]["step"] == 4
    for a, b in zip(one, two, strict=True):
        a.pop("seconds", None), b.pop("seconds", None)
        assert b == pytest.approx(a, rel=1e-4, abs=1e-6)
