"""Training of the mimic model: resumes exactly, each ingredient has an effect, the authenticator reaches the
generator."""

import copy
from argparse import ArgumentParser
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import trainings
from attacks.poison.base import poisoned_rows
from attacks.poison.plain import LabelFlip
from common import cli, training
from common.cli import UserError
from common.distributed import Context
from metrics import finding
from models.depois import data, train
from models.depois.classifier import in_batches
from models.depois.network import load_mimic
from models.depois.options import (
    DepoisOptions,
    TaskOptions,
    add_depois_flags,
    critic_options,
    resolve_schedule,
)
from models.depois.step import Step
from purify.depois import examined

SMALL = [
    "--gan_steps",
    "3",
    "--mimic_steps",
    "3",
    "--n_critic",
    "2",
    "--train_batch_size",
    "8",
    "--save_step",
    "2",
    "--log_step",
    "1",
]


TASK = TaskOptions(dataset="digits", dataset_name="digits", result_dir="results")
main = partial(
    train.main,
    add_task_flags=examined.add_task_flags,
    resolve_task=examined.resolve_task,
    open_task=examined.open_task,
)
TRAINER = SimpleNamespace(Step=Step, main=main)


def flags(*words, dataset="digits"):
    p = ArgumentParser()
    add_depois_flags(p)
    parsed = p.parse_args(words)
    return cli.resolve(DepoisOptions, parsed, **resolve_schedule(parsed, dataset))


def options(*words):
    return critic_options(flags(*SMALL, *words), TASK, "full", 0, 0, "")


@pytest.fixture(scope="module")
def trusted():
    training, test = data.digits()
    return data.divide("digits", training, test, 0.1, 0).trusted


def command(tmp_path, *words):
    return [
        "--dataset",
        "digits",
        "--result_dir",
        str(tmp_path / "results"),
        "--device",
        "cpu",
        *SMALL,
        *words,
    ]


def folder(tmp_path, variant="full", number=0):
    return tmp_path / "results" / "depois" / "digits" / "train" / variant / f"{number:03d}"


@pytest.mark.parametrize("killed", (1, 4))  # in the first stage, in the second
def test_a_killed_training_ends_as_an_uninterrupted_one(tmp_path, monkeypatch, killed):
    main(command(tmp_path / "whole"))
    trainings.killed_at(killed, monkeypatch, TRAINER, command(tmp_path / "killed"))
    main(command(tmp_path / "killed", "--resume"))
    whole, resumed = folder(tmp_path / "whole"), folder(tmp_path / "killed")
    assert trainings.same(trainings.parts(whole), trainings.parts(resumed))
    assert (whole / "weights.safetensors").read_bytes() == (resumed / "weights.safetensors").read_bytes()
    assert [line["step"] for line in trainings.log(resumed)] == [1, 2, 3, 4, 5, 6]


def test_a_finished_training_is_found_again_and_other_options_are_another(tmp_path):
    main(command(tmp_path))
    before = (folder(tmp_path) / "log.jsonl").stat().st_mtime_ns
    main(command(tmp_path, "--resume"))
    assert (folder(tmp_path) / "log.jsonl").stat().st_mtime_ns == before and not folder(
        tmp_path, number=1
    ).exists()
    main(command(tmp_path, "--margin", "3"))
    main(command(tmp_path, "--variant", "no-synthetic"))
    assert folder(tmp_path, number=1).exists() and folder(tmp_path, "no-synthetic").exists()
    assert sorted(p.name for p in (folder(tmp_path) / "samples").iterdir()) == [
        "0000002-gan.png",
        "0000004-mimic.png",
        "0000006-mimic.png",
    ]


def test_weights_are_a_critic_of_the_data(tmp_path):
    main(command(tmp_path))
    critic, meta = load_mimic(folder(tmp_path) / "weights.safetensors", shape=(1, 8, 8), classes=data.DIGITS)
    assert meta["variant"] == "full" and meta["seed"] == 0 and meta["steps"] == 6


def test_dry_run_writes_nothing(tmp_path, capsys):
    main(command(tmp_path, "--dry_run"))
    assert '"mimic_steps": 3' in capsys.readouterr().out and not (tmp_path / "results").exists()


@pytest.mark.parametrize("flag", ("--lambda_auth", "--lambda_modes"))
def test_the_authenticators_loss_and_that_of_modes_reach_the_generator_alone(trusted, flag):
    """The published code adds the authenticator's to a printed number; here one step with a term and one
    without give other generators, all else equal."""
    found = []
    for words in ((), (flag, "0")):
        step = Step(options(*words), trusted, "cpu")
        step(0)
        found.append(
            {
                name: [p.clone() for p in network.parameters()]
                for name, network in (("G", step.G), ("D", step.D), ("A", step.A))
            }
        )
    assert not trainings.same(found[0]["G"], found[1]["G"])
    assert trainings.same(found[0]["D"], found[1]["D"]) and trainings.same(found[0]["A"], found[1]["A"])


def test_the_penalty_of_a_linear_critic_is_known(trusted):
    """D(x, y) = w.x has the gradient w everywhere: the penalty is (|w| - 1)^2, and D(x) - D(x, y') is 0, so
    that the margin costs m."""

    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.full((64,), 0.5))

        def forward(self, x, y):
            return x.flatten(1) @ self.w

    step = Step(options("--gan_steps", "0", "--n_critic", "1"), trusted, "cpu")
    step.critic = Linear()
    step.optimisers["critic"] = torch.optim.SGD(step.critic.parameters(), lr=0.0)
    step.average = training.averaged(step.critic)
    found = step(0)
    assert float(found["penalty"]) == pytest.approx((4.0 - 1) ** 2) and float(
        found["clean"]
    ) == pytest.approx(float(found["wrong_label"]))


def test_what_is_kept_is_the_average_of_the_critics_weights(trusted):
    for decay, equal in (("0", True), ("0.999", False)):
        step = Step(options("--gan_steps", "0", "--critic_ema", decay), trusted, "cpu")
        step(0)
        assert trainings.same(step.average.module.state_dict(), step.critic.state_dict()) == equal


def test_photos_of_64_pixels_resume_too(tmp_path):
    """The generator of larger images is another network."""
    rng = np.random.default_rng(0)
    faces = data.Labelled(
        tuple(f"{i}" for i in range(8)),
        torch.arange(8) % 2,
        rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8),
        ("real", "fake"),
    )
    whole, first, second = (
        Step(options("--gan_steps", "1", "--mimic_steps", "2"), faces, "cpu") for _ in range(3)
    )
    for i in range(3):
        whole(i)
    for i in range(2):
        first(i)
    for name, part in second.parts().items():
        part.load_state_dict(copy.deepcopy(first.parts()[name].state_dict()))
    second(2)
    assert trainings.same(whole.average.module.state_dict(), second.average.module.state_dict())


@pytest.mark.slow
def test_label_flips_are_found_and_the_boundary_holds():
    """At the default schedule, half of the digits trusted: the promises of the README on a set that needs no
    download."""
    training_part, test = data.digits()
    task = data.divide("digits", training_part, test, 0.5, 0)
    step = Step(critic_options(flags(), TASK, "full", 0, 0, ""), task.trusted, "cpu")
    for i in range(step.options.num_steps):
        step(i)
    poison, rows = LabelFlip(), poisoned_rows(task.examined, 0.3, 0)
    scores = [
        in_batches(step.average.module, part).numpy() for part in (task.held, poison(task.examined, rows, 0))
    ]
    found = finding.measure(
        np.isin(np.arange(len(task.examined)), rows),
        scores[1],
        finding.boundary(scores[0], "quantile", 0.05),
        0,
    )
    assert found["auc"] > 0.97 and found["f1"] > 0.9 and found["fpr"] == pytest.approx(0.05, abs=0.04)


@pytest.mark.parametrize(
    "term",
    (
        ("--lambda_label", "0"),
        ("--lambda_drift", "0"),
        ("--lambda_gp", "0"),
        ("--margin", "50"),
        ("--replay", "0"),
    ),
)
def test_every_term_of_the_critics_loss_has_an_effect(trusted, term):
    step, other = (
        Step(options("--gan_steps", "0"), trusted, "cpu"),
        Step(options("--gan_steps", "0", *term), trusted, "cpu"),
    )
    for i in range(2):
        step(i), other(i)
    assert not trainings.same(step.critic.state_dict(), other.critic.state_dict())


def test_the_dense_generator_draws_more_than_one_image_of_a_class(trusted):
    """Pixels of a class spread as widely as a third of the trusted ones' at least; without the term they
    hardly do."""
    found = []
    for words in ((), ("--lambda_modes", "0")):
        step = Step(options("--gan_steps", "120", "--train_batch_size", "32", *words), trusted, "cpu")
        for i in range(120):
            step(i)
        made = step.synthetic(500)
        found.append(np.mean([made.pixels[made.labels.numpy() == k].std(0).mean() for k in range(10)]))
    real = np.mean([trusted.pixels[trusted.labels.numpy() == k].std(0).mean() for k in range(10)])
    assert found[0] > real / 3 and found[0] > 1.5 * found[1]


def test_synthetic_images_are_balanced_repeatable_and_as_many_as_asked(trusted):
    step = Step(options("--synthetic", "2"), trusted, "cpu")
    made, again = step.synthetic(), step.synthetic()
    assert (
        len(made) == 2 * len(trusted) and made.shape == trusted.shape and (made.pixels == again.pixels).all()
    )
    counts = torch.bincount(made.labels)
    assert counts.max() - counts.min() <= 1


def test_the_critic_comes_to_tell_wrong_labels_from_right_ones(trusted):
    """Held-out digits under their own label score higher than under the next one."""
    training, test = data.digits()
    step = Step(
        options("--gan_steps", "0", "--mimic_steps", "40", "--n_critic", "3", "--train_batch_size", "32"),
        trusted,
        "cpu",
    )
    for i in range(40):
        step(i)
    x, y = test.floats(), test.labels
    with torch.no_grad():
        better = step.average.module(x, y) > step.average.module(x, (y + 1) % 10)
    assert better.float().mean() > 0.9


def test_several_processes_are_refused(trusted, tmp_path):
    with pytest.raises(UserError, match="train in one process"):
        train.obtain_critic(options(), tmp_path, trusted, Context(0, 2, torch.device("cpu")))
