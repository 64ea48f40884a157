"""Train De-Pois's mimic model on a small trusted set: first a GAN that enlarges the set, then the critic that
tells clean samples from others.

reads   the trusted part of --dataset: digits (part of scikit-learn), mnist (--data_root), folder (--trusted
        DIR, a folder for each class), or detector (photos of <data_dir>/images_a and fakes of them)
writes  <result_dir>/depois/<dataset>/train/<variant>/NNN/{options.yaml,log.jsonl,last.pt,samples/*.png,weights.safetensors}

  python -m models.depois.train --dataset digits
  python -m models.depois.train --dataset mnist --data_root /path/to/mnist --variant no-synthetic --seed 1
  python -m models.depois.train --dataset mnist --data_root /path/to/mnist --schedule published
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from common import checkpoint, cli, distributed, files, images, runs, seeds, training
from common.cli import UserError
from models.depois.classifier import new_classifier
from models.depois.data import Labelled, content
from models.depois.memory import Memory
from models.depois.network import KIND, LATENT, Critic, Generator, seeded

VARIANTS = ("full", "no-synthetic", "no-authenticator", "published")
# Steps that suffice on a CPU; `published` is the schedule of the public code, whose epochs are steps.
SCHEDULES = {
    "digits": (300, 150),
    "mnist": (800, 400),
    "folder": (400, 300),
    "detector": (400, 300),
    "published": (2000, 10000),
}


def add_depois_flags(p):
    """The flags of both stages and of both losses."""
    g = p.add_argument_group("how to train")
    g.add_argument(
        "--schedule",
        choices=["reduced", "published"],
        default="reduced",
        help=(
            "reduced: a CPU's steps, by data set; published: 2,000 and 10,000 steps of 32 images, critic by"
            " RMSprop at 5e-5"
        ),
    )
    g.add_argument(
        "--gan_steps",
        type=cli.natural_int,
        default=None,
        help="steps of the GAN that enlarges the trusted set (default: see --schedule)",
    )
    g.add_argument(
        "--mimic_steps",
        type=cli.positive_int,
        default=None,
        help="generator steps of the mimic model (default: see --schedule)",
    )
    g.add_argument("--n_critic", type=cli.positive_int, default=5, help="critic steps per generator step")
    g.add_argument(
        "--train_batch_size",
        type=cli.positive_int,
        default=None,
        help="images per step (default: digits and mnist 64, else 32)",
    )
    g.add_argument(
        "--gan_lr",
        type=cli.positive_float,
        default=2e-4,
        help="Adam's learning rate of the GAN and of its authenticator",
    )
    g.add_argument(
        "--critic_lr",
        type=cli.positive_float,
        default=None,
        help="learning rate of the mimic model (default: 5e-4, published 5e-5)",
    )
    g.add_argument(
        "--synthetic",
        type=cli.natural_float,
        default=None,
        metavar="TIMES",
        help="generated images added to the trusted ones, as a multiple of these (default: 1; published 4)",
    )
    g.add_argument("--save_step", type=cli.positive_int, default=500, help="steps between saved states")
    g.add_argument("--log_step", type=cli.positive_int, default=50, help="steps between lines of log.jsonl")
    g = p.add_argument_group("losses")
    g.add_argument(
        "--lambda_auth",
        type=cli.natural_float,
        default=1.0,
        help="weight of the authenticator's loss on generated images, in the loss of the GAN's generator",
    )
    g.add_argument(
        "--lambda_modes",
        type=cli.natural_float,
        default=None,
        help=(
            "weight of a term that keeps the GAN's images of a class apart (default: digits and mnist 1, else"
            " 0; published 0)"
        ),
    )
    g.add_argument("--lambda_gp", type=cli.natural_float, default=10.0, help="weight of the gradient penalty")
    g.add_argument(
        "--lambda_label",
        type=cli.natural_float,
        default=2.0,
        help="weight of the margin between an image's own label and a wrong one",
    )
    g.add_argument(
        "--margin", type=cli.positive_float, default=5.0, help="that margin, in units of the critic"
    )
    g.add_argument(
        "--lambda_drift",
        type=cli.natural_float,
        default=0.3,
        help="weight of the clean samples' mean squared score, which keeps their scores together",
    )
    g.add_argument(
        "--replay",
        type=cli.fraction,
        default=0.5,
        help="share of the generated images in a critic step that come from earlier in the training",
    )
    g.add_argument(
        "--critic_ema",
        type=cli.fraction,
        default=0.999,
        help="decay of the moving average of the critic's weights; 0 = none",
    )
    return g


def resolve(args):
    """Fill in the defaults that depend on the schedule, the data set and the variant; `published` leaves out
    what is ours."""
    published = args.schedule == "published"
    gan_steps, mimic_steps = SCHEDULES["published" if published else args.dataset]
    batch = 32 if published or args.dataset in ("folder", "detector") else 64
    defaults = {
        "gan_steps": gan_steps,
        "mimic_steps": mimic_steps,
        "train_batch_size": batch,
        "critic_lr": 5e-5 if published else 5e-4,
        "synthetic": 4.0 if published else 1.0,
        "lambda_modes": 0.0 if published or args.dataset in ("folder", "detector") else 1.0,
    }
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def changed_losses(args):
    """{flag: value} of what decides a critic and is not at its default, the schedule aside; for records."""
    p = argparse.ArgumentParser()
    add_depois_flags(p)
    usual = resolve(
        argparse.Namespace(**vars(p.parse_args(["--schedule", args.schedule])), dataset=args.dataset)
    )
    return {
        k: getattr(args, k)
        for k, v in vars(usual).items()
        if getattr(args, k) != v and k not in ("gan_steps", "mimic_steps", "save_step", "log_step")
    }


def options_of(args, variant, seed, data):
    """The options of one training: what the flags say, less what its variant leaves out; `data` (JSON types)
    says what it learns from."""
    names = (
        "gan_steps",
        "mimic_steps",
        "n_critic",
        "train_batch_size",
        "gan_lr",
        "critic_lr",
        "synthetic",
        "save_step",
        "log_step",
        "lambda_auth",
        "lambda_modes",
        "lambda_gp",
        "lambda_label",
        "margin",
        "lambda_drift",
        "replay",
        "critic_ema",
        "schedule",
        "dataset",
    )
    found = argparse.Namespace(
        **{name: getattr(args, name) for name in names}, variant=variant, seed=seed, **data
    )
    if variant == "no-synthetic":
        found.synthetic, found.gan_steps = 0.0, 0
    if variant == "no-authenticator":
        found.lambda_auth = 0.0
    if variant == "published":
        found.lambda_modes = found.lambda_label = found.lambda_drift = found.replay = found.critic_ema = 0.0
    if not found.synthetic or not found.gan_steps:
        # nothing is generated without a GAN, and none is needed where nothing is
        found.synthetic, found.gan_steps = 0.0, 0
    found.num_steps = found.gan_steps + found.mimic_steps
    return found


class Step:
    """Both stages as one sequence of steps, so that one state resumes either.

    Steps below args.gan_steps are the GAN's: G against a discriminator, and against an authenticator A that
    learns classes from trusted images alone; A's loss on G's images is a term of G's loss, so its gradient
    reaches G (in the published code it is only added to the printed number). The dense generator would draw
    one image of a class: lambda_modes E |z - z'| / |G(z, y) - G(z', y)| keeps them apart (Mao et al. 2019,
    arXiv:1903.05628). The other steps are the mimic model's: a conditional WGAN-GP on trusted and synthetic
    images, n_critic critic steps and one generator step each.

      L_D = E D(x~, y) - E D(x, y) + lambda_gp E (||grad D(x^, y)|| - 1)^2 + lambda_drift E D(x, y)^2 +
      lambda_label E max(0, m - D(x, y) + D(x, y'))

    x~ is generated, half of it at earlier steps; x^ lies between x and x~; y' is a wrong label of x. The last
    two terms and the earlier images are ours (lambda_drift: Karras et al. 2018, arXiv:1710.10196, App. A;
    wrong labels as negatives: Reed et al. 2016, arXiv:1605.05396; earlier images: Shrivastava et al. 2017,
    arXiv:1612.07828): without them nothing ties a clean image's score to its label.

    Args:  args  of options_of;  trusted  models.depois.data.Labelled
    """

    def __init__(self, args, trusted, device):
        self.args, self.device, self.trusted = args, device, trusted
        self.classes, shape = len(trusted.classes), trusted.shape

        def new(make, name):
            return seeded(make, args.seed, "depois", name).to(device)

        self.G, self.D = (
            new(lambda: Generator(shape, self.classes), "generator"),
            new(lambda: Critic(shape, self.classes), "discriminator"),
        )
        self.A = new_classifier(shape, self.classes, args.seed).to(device)
        self.mimic_G, self.critic = (
            new(lambda: Generator(shape, self.classes), "mimic"),
            new(lambda: Critic(shape, self.classes), "critic"),
        )
        self.average, self.memory = training.averaged(self.critic), Memory(shape)
        optimiser = (
            (lambda network: torch.optim.RMSprop(network.parameters(), args.critic_lr))
            if args.schedule == "published"
            else (lambda network: torch.optim.Adam(network.parameters(), args.critic_lr, betas=(0.0, 0.9)))
        )
        self.gan_optimisers = {
            name: torch.optim.Adam(network.parameters(), args.gan_lr, betas=(0.5, 0.999))
            for name, network in (("G", self.G), ("D", self.D), ("A", self.A))
        }
        self.optimisers = {"mimic": optimiser(self.mimic_G), "critic": optimiser(self.critic)}
        self.augmented = None

    def parts(self):
        """What an exact resume needs."""
        return {
            "G": self.G,
            "D": self.D,
            "A": self.A,
            "mimic": self.mimic_G,
            "critic": self.critic,
            "average": self.average,
            "memory": self.memory,
            **{
                f"{name}_optimiser": o
                for name, o in {
                    **self.gan_optimisers,
                    **{f"{n}_w": o for n, o in self.optimisers.items()},
                }.items()
            },
        }

    def __call__(self, i):
        draw = seeds.generator(self.args.seed, "depois", i)
        return (
            self.gan_step(draw) if i < self.args.gan_steps else self.mimic_step(i - self.args.gan_steps, draw)
        )

    def noise(self, n, draw):
        return torch.randn(n, LATENT, generator=draw).to(self.device)

    def gan_step(self, draw):
        args, n = self.args, self.args.train_batch_size
        x, y = self._batch(self.trusted, n, draw)
        asked = torch.randint(self.classes, (n,), generator=draw).to(self.device)
        z = self.noise(n, draw)
        fake = self.G(z, asked)
        real, made = self.D(torch.cat([x, fake.detach()]), torch.cat([y, asked])).split(n)
        loss_d = F.softplus(-real).mean() + F.softplus(made).mean()
        training.step_of(self.gan_optimisers["D"], loss_d)
        loss_a = F.cross_entropy(self.A(x), y)
        training.step_of(self.gan_optimisers["A"], loss_a)
        self.D.requires_grad_(False), self.A.requires_grad_(False)
        faithful = F.cross_entropy(self.A(fake), asked)
        loss_g = F.softplus(-self.D(fake, asked)).mean() + args.lambda_auth * faithful
        if args.lambda_modes:
            other = self.noise(n, draw)
            moved = (self.G(other, asked) - fake).flatten(1).abs().mean(1) / (other - z).abs().mean(1)
            loss_g = loss_g + args.lambda_modes / (moved.mean() + 1e-5)
        training.step_of(self.gan_optimisers["G"], loss_g)
        self.D.requires_grad_(True), self.A.requires_grad_(True)
        return {
            "gan_d": loss_d.detach(),
            "gan_g": loss_g.detach(),
            "authenticator": loss_a.detach(),
            "authenticator_on_generated": faithful.detach(),
        }

    @torch.no_grad()
    def synthetic(self, count=None):
        """Labelled images of the GAN, as many of each class as the others; `count` of them, or as
        args.synthetic says.  Equal weights, equal images."""
        count = round(self.args.synthetic * len(self.trusted)) if count is None else count
        labels, draw = (
            torch.arange(count) % self.classes,
            seeds.generator(self.args.seed, "depois", "synthetic"),
        )
        z = torch.randn(count, LATENT, generator=draw)
        made = [
            images.to_uint8(self.G(z[k : k + 512].to(self.device), labels[k : k + 512].to(self.device)))
            for k in range(0, count, 512)
        ]
        height, width = self.trusted.shape[1:]
        pixels = (
            np.concatenate(made) if made else np.zeros((0, height, width, self.trusted.shape[0]), np.uint8)
        )
        return Labelled(
            tuple(f"synthetic/{i:06d}" for i in range(count)), labels, pixels, self.trusted.classes
        )

    def _batch(self, labelled, n, draw):
        """n images drawn with replacement, in [-1, 1], and their labels; a set stays in 8 bits."""
        rows = torch.randint(len(labelled), (n,), generator=draw)
        return labelled.floats(rows.numpy()).to(self.device), labelled.labels[rows].to(self.device)

    def _augment(self):
        """Trusted and synthetic images as one set; made again after a resume, from the GAN's saved
        weights."""
        if self.augmented is None:
            extra = self.synthetic()
            self.augmented = Labelled(
                self.trusted.names + extra.names,
                torch.cat([self.trusted.labels, extra.labels]),
                np.concatenate([self.trusted.pixels, extra.pixels]),
                self.trusted.classes,
            )
        return self.augmented

    def mimic_step(self, i, draw):
        args, n = self.args, self.args.train_batch_size
        augmented = self._augment()
        slower = (
            1.0 if args.schedule == "published" else min(1.0, 3 * (args.mimic_steps - i) / args.mimic_steps)
        )
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = args.critic_lr * slower
        for _ in range(args.n_critic):
            scalars = self._critic_step(*self._batch(augmented, n, draw), draw)
        asked = torch.randint(self.classes, (n,), generator=draw).to(self.device)
        self.critic.requires_grad_(False)
        loss = -self.critic(self.mimic_G(self.noise(n, draw), asked), asked).mean()
        training.step_of(self.optimisers["mimic"], loss)
        self.critic.requires_grad_(True)
        return {**scalars, "generator": loss.detach()}

    def _critic_step(self, x, y, draw):
        args, n = self.args, len(x)
        with torch.no_grad():
            fake, fake_y = self.mimic_G(self.noise(n, draw), y), y
        if args.replay:
            earlier = int(args.replay * n) if self.memory.seen else 0
            old, old_y = self.memory.draw(earlier, draw, self.device) if earlier else (fake[:0], y[:0])
            self.memory.add(fake[: max(1, n // 8)], y[: max(1, n // 8)], draw)
            fake, fake_y = torch.cat([old, fake[earlier:]]), torch.cat([old_y, y[earlier:]])
        wrong = (y + torch.randint(1, self.classes, (n,), generator=draw).to(self.device)) % self.classes
        alpha = torch.rand(n, 1, 1, 1, generator=draw).to(self.device)
        between = (alpha * x + (1 - alpha) * fake).requires_grad_(True)
        (grad,) = torch.autograd.grad(self.critic(between, y).sum(), between, create_graph=True)
        penalty = (grad.flatten(1).norm(dim=1) - 1).square().mean()
        clean, made, mislabelled = self.critic(torch.cat([x, fake, x]), torch.cat([y, fake_y, wrong])).split(
            n
        )
        loss = (
            made.mean()
            - clean.mean()
            + args.lambda_gp * penalty
            + args.lambda_drift * clean.square().mean()
            + args.lambda_label * F.relu(args.margin - clean + mislabelled).mean()
        )
        training.step_of(self.optimisers["critic"], loss)
        training.update_average(self.average, self.critic, args.critic_ema)
        return {
            "clean": clean.mean().detach(),
            "clean_std": clean.std(correction=0).detach(),
            "generated": made.mean().detach(),
            "wrong_label": mislabelled.mean().detach(),
            "penalty": penalty.detach(),
        }


def train(args, run, ctx, trusted):
    """Train both stages on the trusted images that are not held out; weights.safetensors holds the mimic
    model's critic.

    Args:  args  of options_of;  trusted  Labelled
    """
    step = Step(args, trusted, ctx.device)

    def on_save(done):
        with torch.no_grad():
            network, what = (step.G, "gan") if done <= args.gan_steps else (step.mimic_G, "mimic")
            y = torch.arange(step.classes, device=ctx.device).repeat_interleave(8)
            z = torch.randn(len(y), LATENT, generator=seeds.generator(args.seed, "depois", "shown")).to(
                ctx.device
            )
            made = network(z, y).cpu()
        made = made.expand(-1, 3, -1, -1) if made.shape[1] == 1 else made
        files.make_folder(run.folder / "samples")
        images.save_png(
            run.folder / "samples" / f"{done:07d}-{what}.png",
            images.make_grid([list(made[k : k + 8]) for k in range(0, len(made), 8)], scale=2),
        )

    training.loop(run, args, ctx, step.parts(), step, on_save, "de-pois")
    meta = {
        "kind": KIND,
        "options": step.critic.options,
        "classes": list(trusted.classes),
        "trained_on": args.dataset,
        "variant": args.variant,
        "num_trusted": len(trusted),
        "trusted_sha256": content(trusted),
        "steps": args.num_steps,
        "seed": args.seed,
    }
    checkpoint.save_weights(run.folder / "weights.safetensors", step.average.module.state_dict(), meta)


def finished(args, variant, seed, task, ctx, data, resume="auto"):
    """The run folder of a finished training of this variant and seed, trained now where there is none.  data:
    see options_of; resume: see runs.open_run.

    Raises: UserError for several processes
    """
    if ctx.world > 1:
        raise UserError(
            "De-Pois's networks are small and train in one process; start the command without torchrun"
            " (GPUS=1)"
        )
    options = options_of(args, variant, seed, data)
    options.resume = resume
    run = runs.open_run(
        Path(args.result_dir) / "depois" / args.dataset_name / "train" / variant,
        options,
        ctx,
        "weights.safetensors",
    )
    if not run.finished:
        train(options, run, ctx, task.trusted)
    return run.folder


def parse_args(argv=None):
    from purify.depois.examined import (  # a command may look upwards; what it trains does not
        add_task_flags,
        check_task_flags,
    )

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
    cli.add_run_flags(p, resume=True)
    args = p.parse_args(argv)
    check_task_flags(p, args)
    return resolve(args)


def main(argv=None):
    from purify.depois.examined import DetectorSet, data_of, task_of

    args = parse_args(argv)
    with distributed.session(args.device) as ctx:
        # its images are made where they are missing: a dry run checks the folders
        unmade = args.dry_run and args.dataset == "detector"
        task = DetectorSet(args, ctx) if unmade else task_of(args, args.seed, ctx)
        ctx.print(json.dumps(runs.options_of(args), indent=2))
        if args.dry_run:
            return
        folder = finished(args, args.variant, args.seed, task, ctx, data_of(args, task), args.resume)
        ctx.print(f"done: {folder / 'weights.safetensors'}")


if __name__ == "__main__":
    cli.run(main)
