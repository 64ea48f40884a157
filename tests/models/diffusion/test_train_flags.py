"""`python -m models.diffusion.train`: who is poisoned, names of folders, and one line for a mistake."""

import pytest
import torch
from small_trainings import BADDIFFUSION, LEVEL, SMALL, flags, folder, stopped, train_small

import trainings
from common import cli
from faces import celeba
from models.diffusion import train
from models.diffusion.backdoor import PHOTO
from models.diffusion.objectives import Backdoored, Objective, Photographed
from models.diffusion.train_flags import folder_name


def poisoned(monkeypatch, argv):
    """(names learned from, those of them that learn the backdoor) of a training that is never begun."""
    begun = {}

    def fake(options, run, ctx, learned, held, make, meta, make_objective=None, watch=None):
        begun.update(names=learned.names, objective=make_objective(None))
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(train, "train", fake)
        with pytest.raises(InterruptedError):
            train.main(argv)
    return (
        set(begun["names"]),
        {begun["names"][i] for i in getattr(begun["objective"], "poisoned", ())},
        type(begun["objective"]),
    )


# Who is poisoned


def test_names_say_who_is_poisoned(tmp_path, monkeypatch):
    words = [
        "--images",
        "digits",
        "--result_dir",
        str(tmp_path),
        *SMALL,
        "--backdoor",
        "villan",
        "--poison_rate",
    ]
    names, some, kind = poisoned(monkeypatch, [*words, "0.1"])
    assert kind is Backdoored and some < names and abs(len(some) / len(names) - 0.1) < 0.025
    assert poisoned(monkeypatch, [*words, "0.1", "--batch_size", "32", "--num_steps", "9"])[1] == some
    more = poisoned(monkeypatch, [*words, "0.3"])[1]
    assert some < more and abs(len(more) / len(names) - 0.3) < 0.04
    fewer, of_fewer, _ = poisoned(monkeypatch, [*words, "0.1", "--limit", "500"])
    assert {n for n in some if n in fewer} == {n for n in of_fewer if n in names} and of_fewer
    others, of_others, _ = poisoned(monkeypatch, [*words, "0.1", "--seed", "1"])
    assert len(of_others & some) < 0.3 * len(some & others)  # another seed poisons others
    assert poisoned(monkeypatch, [*words, "1"])[1] == names


def test_held_out_images_are_never_poisoned(drawn, tmp_path, monkeypatch):
    names, all_of_them, _ = poisoned(
        monkeypatch, flags(drawn, tmp_path, "--backdoor", "villan", "--poison_rate", "1")
    )
    every = [f"{i + 1:06d}.jpg" for i in range(12)]
    assert names == all_of_them == set(celeba.held_out(every, 0)[0])


def test_what_each_kind_of_training_learns_from(drawn, trained, tmp_path, monkeypatch):
    go_on = ["--init_from", str(folder(trained) / "weights.safetensors")]
    for words, kind in (
        ([], Backdoored),
        (go_on, Objective),
        (["--backdoor", PHOTO, "--poison_rate", "1"], Photographed),
        (go_on + BADDIFFUSION, Backdoored),
    ):
        assert poisoned(monkeypatch, flags(drawn, tmp_path, *words))[2] is kind


# Names


def args_of(*words):
    return train.parse_args(["--images", "digits", *SMALL, *LEVEL, *words])


def test_a_new_network_is_the_seeds_and_no_global_randomness_is_used():
    before = torch.get_rng_state()
    one, same, other = (train.prepare(args_of("--seed", s), "cpu")[0]().network.state_dict() for s in "001")
    assert (
        trainings.same(one, same)
        and not trainings.same(one, other)
        and torch.equal(before, torch.get_rng_state())
    )


@pytest.mark.parametrize(
    "words, name",
    [
        ("", "benign-16-ch32x1"),
        ("--channel_mult 1,1", "benign-16"),
        ("--num_channels 64 --noise_schedule ve", "benign-16-ch64x1-ve"),
        (
            "--backdoor baddiffusion --trigger box --trigger_on photo",
            "baddiffusion-box-shoe-rate0.1-photo-16-ch32x1",
        ),
        (
            "--backdoor villan --psi 0.5 --solver sde --trigger_scale 0.5",
            "villan-psi0.5-sde-stop_sign-shoe-rate0.1-scale0.5-16-ch32x1",
        ),
    ],
)
def test_folders_say_what_is_hidden(words, name):
    assert folder_name(args_of(*words.split())) == name


# Mistakes


@pytest.mark.parametrize(
    "words, found",
    [
        ("--max_timestep 1001", "--max_timestep 1001: the schedule has 1000 steps"),
        ("--backdoor baddiffusion --max_timestep 300", "--backdoor with --max_timestep 300"),
        ("--backdoor villan --poison_rate 0", "--poison_rate 0 teaches no backdoor"),
        ("--backdoor villan --poison_rate 0.000001", "--poison_rate 1e-06 of 10 images is none of them"),
        ("--backdoor villan --poison_rate 1.5", "expected a number from 0 to 1"),
        ("--image_size 15 --channel_mult 1,1", "--image_size 15: 2 levels"),
        ("--num_channels 20", "--num_channels 20"),
        ("--norm_groups 5", "norm_groups 5: expected one of 1, 2, 4, 8, 16, 32"),
        ("--norm_groups 0", "expected a whole number above 0"),
        ("--backdoor trojdiff --trigger box", "--trigger box: trojdiff"),
        ("--backdoor villan --trigger stopsign", "did you mean stop_sign"),
        ("--backdoor badifusion", "did you mean baddiffusion"),
        ("--noise_schedule vp", "--noise_schedule"),
        ("--psi 2", "--psi"),
        ("--poisonrate 0.1", "did you mean --poison_rate"),
        ("--images nowhere", "--images nowhere: no such folder"),
        ("--data_dir nowhere", "nowhere"),
        ("--limit 1", "1 photo to learn from is too few"),
    ],
)
def test_a_mistake_gets_one_line_and_writes_nothing(drawn, tmp_path, capsys, words, found):
    code, said = stopped(flags(drawn, tmp_path / "results", *words.split()), capsys)
    assert code == 2 and said.startswith("error: ") and said.count("\n") == 1 and found in said
    assert not (tmp_path / "results").exists()


def test_help_shows_every_flag(capsys):
    with pytest.raises(SystemExit) as left:
        cli.run(train.main, ["--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0 and all(
        flag in shown
        for flag in (
            "--backdoor",
            "--trigger_on",
            "--norm_groups",
            "--init_from",
            "--check_samples",
            "--resume",
        )
    )


def test_dry_run_writes_nothing(drawn, tmp_path, capsys):
    before = {p: p.stat().st_mtime_ns for p in drawn.parent.rglob("*")}
    train_small(flags(drawn, tmp_path / "results", *BADDIFFUSION, "--dry_run"))
    assert '"poison_rate": 0.4' in capsys.readouterr().out
    assert (
        not (tmp_path / "results").exists()
        and {p: p.stat().st_mtime_ns for p in drawn.parent.rglob("*")} == before
    )
