"""What the flags of De-Pois's networks stand for, by data set, schedule and variant."""

from argparse import ArgumentParser

from common import cli
from models.depois.options import (
    DepoisOptions,
    TaskOptions,
    add_depois_flags,
    changed_losses,
    critic_options,
    resolve_schedule,
    usual_options,
)

TASK = TaskOptions(dataset="digits", dataset_name="digits", result_dir="results")


def flags(*words, dataset="digits"):
    p = ArgumentParser()
    add_depois_flags(p)
    parsed = p.parse_args(words)
    return cli.resolve(DepoisOptions, parsed, **resolve_schedule(parsed, dataset))


def options(*words, variant="full"):
    return critic_options(flags("--gan_steps", "3", *words), TASK, variant, 0, 0, "")


def test_flags_that_are_left_alone_are_what_is_usual():
    for dataset in ("digits", "mnist", "folder", "detector"):
        for schedule in ("reduced", "published"):
            usual = usual_options(schedule, dataset)
            assert flags("--schedule", schedule, dataset=dataset) == usual
            assert changed_losses(usual, dataset) == {}


def test_what_decides_a_critic_and_was_changed_is_told_and_the_pace_is_not():
    changed = flags("--margin", "3", "--gan_steps", "7", "--save_step", "2", "--n_critic", "1")
    assert changed_losses(changed, "digits") == {"n_critic": 1, "margin": 3.0}
    photos = flags("--lambda_modes", "0", dataset="folder")
    assert changed_losses(photos, "folder") == {} and changed_losses(photos, "digits") != {}


def test_variants_leave_out_what_they_say():
    assert options(variant="no-synthetic").gan_steps == 0 and options(variant="no-synthetic").synthetic == 0
    assert (
        options(variant="no-authenticator").lambda_auth == 0
        and options(variant="no-authenticator").gan_steps == 3
    )
    published = options(variant="published")
    assert (
        published.lambda_modes == 0
        and published.lambda_label == published.lambda_drift == published.replay == published.critic_ema == 0
        and published.lambda_gp == 10
    )
    assert options("--synthetic", "0").gan_steps == 0


def test_the_published_schedule():
    long = flags("--schedule", "published", dataset="mnist")
    assert (long.gan_steps, long.mimic_steps, long.train_batch_size, long.critic_lr, long.synthetic) == (
        2000,
        10000,
        32,
        5e-5,
        4.0,
    )
