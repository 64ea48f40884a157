"""Train De-Pois's mimic model on a small trusted set: first a GAN that enlarges the set, then the critic that
tells clean samples from others.

reads   the trusted part of --dataset: digits (part of scikit-learn), mnist (--data_root), folder (--trusted
        DIR, a folder for each class), or detector (photos of <data_dir>/images_a and fakes of them)
writes  <result_dir>/depois/<dataset>/train/<variant>/NNN/
        {options.yaml,log.jsonl,last.pt,samples/*.png,weights.safetensors}

  python -m models.depois.train --dataset digits
  python -m models.depois.train --dataset mnist --data_root /path/to/mnist --variant no-synthetic --seed 1
  python -m models.depois.train --dataset mnist --data_root /path/to/mnist --schedule published
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from common import checkpoint, cli, distributed, files, images, runs, seeds, training
from common.cli import RunOptions, UserError
from faces.labelled import Labelled
from models.depois.data import Task, content
from models.depois.network import KIND, LATENT
from models.depois.options import (
    VARIANTS,
    CriticOptions,
    DepoisOptions,
    TaskOptions,
    add_depois_flags,
    critic_options,
    resolve_schedule,
)
from models.depois.step import Step


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions, DepoisOptions):
    """What one training is told; `task` holds the flags that say what is trusted."""

    task: TaskOptions
    variant: str
    precision: str
    resume: str | None


def train(options: CriticOptions, run: runs.Run, trusted: Labelled, ctx: distributed.Context) -> None:
    """Train both stages on the trusted images that are not held out; weights.safetensors holds the mimic
    model's critic."""
    step = Step(options, trusted, ctx.device)

    def on_save(done):
        with torch.no_grad():
            network, what = (step.G, "gan") if done <= options.gan_steps else (step.mimic_G, "mimic")
            y = torch.arange(step.classes, device=ctx.device).repeat_interleave(8)
            z = torch.randn(len(y), LATENT, generator=seeds.generator(options.seed, "depois", "shown")).to(
                ctx.device
            )
            drawn = network(z, y).cpu()
        drawn = drawn.expand(-1, 3, -1, -1) if drawn.shape[1] == 1 else drawn
        files.make_folder(run.folder / "samples")
        images.save_png(
            run.folder / "samples" / f"{done:07d}-{what}.png",
            images.make_grid([list(drawn[k : k + 8]) for k in range(0, len(drawn), 8)], scale=2),
        )

    training.loop(run, options, ctx, step.parts(), step, on_save, "de-pois")
    meta = {
        "kind": KIND,
        "options": step.critic.options,
        "classes": list(trusted.classes),
        "trained_on": options.dataset,
        "variant": options.variant,
        "num_trusted": len(trusted),
        "trusted_sha256": content(trusted),
        "steps": options.num_steps,
        "seed": options.seed,
    }
    checkpoint.save_weights(run.folder / "weights.safetensors", step.average.module.state_dict(), meta)


def obtain_critic(
    options: CriticOptions, result_dir: Path | str, trusted: Labelled, ctx: distributed.Context
) -> Path:
    """The run folder of a finished training with these options, trained now where there is none.

    Args:   trusted  what the networks learn from, the images that options.trusted_sha256 names
    Raises: UserError for several processes
    """
    if ctx.world > 1:
        raise UserError(
            "De-Pois's networks are small and train in one process; start the command without torchrun"
            " (GPUS=1)"
        )
    parent = Path(result_dir) / "depois" / options.dataset_name / "train" / options.variant
    run = runs.open_run(parent, options, ctx, "weights.safetensors")
    if not run.finished:
        train(options, run, trusted, ctx)
    return run.folder


def parse_args(argv: list[str] | None, add_task_flags: Callable, resolve_task: Callable) -> Options:
    """The options of one training.

    Args:   add_task_flags  parser -> None;  resolve_task  parser, parsed flags -> TaskOptions, see main
    Raises: UserError
    """
    p = cli.ArgumentParser(prog="python -m models.depois.train", description=__doc__)
    add_task_flags(p)
    p.add_argument(
        "--variant",
        choices=VARIANTS,
        default="full",
        help=(
            "full; no-synthetic: trusted images alone; no-authenticator; published: the critic's loss without"
            " the terms that are ours"
        ),
    )
    add_depois_flags(p)
    cli.add_run_flags(p, resume=True, compiled=False)
    parsed = p.parse_args(argv)
    task = resolve_task(p, parsed)
    return cli.pick(Options, parsed, task=task, **resolve_schedule(parsed, task.dataset))


def main(
    argv: list[str] | None = None,
    add_task_flags: Callable[[argparse.ArgumentParser], None] | None = None,
    resolve_task: Callable[[argparse.ArgumentParser, argparse.Namespace], TaskOptions] | None = None,
    open_task: Callable[[TaskOptions, int, distributed.Context, bool], Task | None] | None = None,
) -> None:
    """Train one critic.

    Args: add_task_flags, resolve_task, open_task  the flags that say what is trusted, and who reads it: of
                                                   purify.depois.examined
    """
    options = parse_args(argv, add_task_flags, resolve_task)
    with distributed.session(options.device) as ctx:
        task = open_task(options.task, options.seed, ctx, not options.dry_run)
        own = {name: value for name, value in runs.options_of(options).items() if name != "task"}
        ctx.print(json.dumps({**runs.options_of(options.task), **own}, indent=2))
        if options.dry_run:
            return
        critic = critic_options(
            options,
            options.task,
            options.variant,
            options.seed,
            len(task.trusted),
            content(task.trusted),
            options.resume,
        )
        folder = obtain_critic(critic, options.task.result_dir, task.trusted, ctx)
        ctx.print(f"done: {folder / 'weights.safetensors'}")


if __name__ == "__main__":
    cli.run(
        main,
        add_task_flags="purify.depois.examined:add_task_flags",
        resolve_task="purify.depois.examined:resolve_task",
        open_task="purify.depois.examined:open_task",
    )
