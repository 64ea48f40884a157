"""A step of StarGAN's training, and the training itself; translators of the same losses share both."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from common import checkpoint, cli, distributed, files, images, runs, seeds, training
from common.cli import RunOptions
from common.training import TrainingOptions
from faces.celeba import FaceFolder, held_out
from faces.flags import DataOptions
from faces.loader import Batches
from models.conditions import create_labels
from models.stargan import losses

# (generator, x (N, 3, H, W), c (N, C), rng) -> x_adv, shape of x
Disrupt = Callable[[nn.Module, torch.Tensor, torch.Tensor, seeds.Streams], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions, DataOptions, TrainingOptions):
    """The values that every such training works with; decay_steps is resolved."""

    limit: int | None
    resume: str | None
    batch_size: int
    precision: str
    g_conv_dim: int
    d_conv_dim: int
    lambda_cls: float
    lambda_rec: float
    lambda_gp: float
    n_critic: int
    decay_steps: int


def add_schedule_flags(parser: cli.ArgumentParser, lr: float) -> None:
    """The flags of training.add_training_flags, and --decay_steps, whose None decay_steps resolves."""
    g = training.add_training_flags(parser, num_steps=200000, lr=lr)
    g.add_argument(
        "--decay_steps",
        type=cli.natural_int,
        default=None,
        help=(
            "last steps, over which the learning rate falls linearly to 0; default: half of num_steps; all of"
            " them where there are fewer"
        ),
    )


def decay_steps(parsed: argparse.Namespace) -> int:
    """--decay_steps, else half of --num_steps."""
    return parsed.num_steps // 2 if parsed.decay_steps is None else parsed.decay_steps


def learning_rate(lr: float, decay_steps: int, num_steps: int, i: int) -> float:
    """Of step i: constant, then linear to zero over the last decay_steps (the official code's decay has next
    to no effect)."""
    decay = min(decay_steps, num_steps)
    return lr * min(1.0, (num_steps - i) / decay) if decay else lr


class Step:
    """One training step.

    Translators of the same losses override what follows: how G is asked, and what is to come back unchanged.

    Args: disrupt  (generator, x, c, rng) -> x_adv, or None;  both  what both networks see is disrupted, else
                   what the generator sees alone; see Ruiz et al. 2020, Sec. 3.4
    """

    @staticmethod
    def condition(c: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """What asks G for the labels `target` of a photo of labels c, both (N, C)."""
        return target

    def reconstruct(self, x: torch.Tensor, fake: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """The image that is compared with x: here the way back from the fake."""
        return self.G(fake, c)

    @property
    def generator_cls(self) -> float:
        """Weight of the generator's attribute loss."""
        return self.options.lambda_cls

    @classmethod
    def grid(
        cls, generator: nn.Module, x: torch.Tensor, c: torch.Tensor, attributes: Sequence[str]
    ) -> np.ndarray:
        """Grid of photos, one per row, followed by their translation to each domain.  x (N,3,H,W) -> uint8
        picture."""
        with torch.no_grad():
            columns = [x] + [
                generator(x, cls.condition(c, target)) for target in create_labels(c, attributes)
            ]
        return images.make_grid(
            [[column[i].float().cpu() for column in columns] for i in range(len(x))], scale=2
        )

    def __init__(
        self,
        options: Options,
        ctx: distributed.Context,
        batches: Batches,
        labels: torch.Tensor,
        generator: nn.Module,
        discriminator: nn.Module,
        average: nn.Module | None,
        optimisers: Sequence[torch.optim.Optimizer],
        disrupt: Disrupt | None = None,
        both: bool = False,
    ):
        self.options, self.ctx, self.batches, self.labels = options, ctx, batches, labels
        self.G, self.D, self.average, self.disrupt = generator, discriminator, average, disrupt
        self.g_optimiser, self.d_optimiser = optimisers
        self.both = disrupt is not None and both

    def apply(self, optimiser: torch.optim.Optimizer, network: nn.Module, loss: torch.Tensor, i: int) -> None:
        o = self.options
        training.descend(
            loss, network, optimiser, learning_rate(o.lr, o.decay_steps, o.num_steps, i), self.ctx
        )

    def attacked(
        self, x: torch.Tensor, c: torch.Tensor, i: int, indices: torch.Tensor, role: str
    ) -> torch.Tensor:
        if self.disrupt is None:
            return x
        return self.disrupt(self.G, x, c, seeds.stepped(self.options.seed, i, indices, "attack", role))

    def __call__(self, i: int) -> dict[str, torch.Tensor]:
        options = self.options
        x, c, indices = self.batches.get(i)
        streams = seeds.stepped(options.seed, i, indices, "stargan")
        # Target labels are those of another photo of the data set, drawn per photo: independent of batch and
        # rank.
        target = distributed.to_device(self.labels[streams.integers(len(self.labels))], x.device)
        alpha = streams.uniform(x[:, :1, :1, :1])
        both = self.both
        x_in = self.attacked(x.detach(), target, i, indices, "input")
        real = self.attacked(x.detach(), c, i, indices, "real") if both else x
        generator_turn = (i + 1) % options.n_critic == 0

        with torch.set_grad_enabled(generator_turn), distributed.autocast(self.ctx.device, options.precision):
            fake = self.G(x_in, self.condition(c, target))
        fake = fake.float()
        seen = fake
        if self.disrupt and (both or generator_turn):
            # The attack's image is a constant offset of `fake`, so that the cycle loss reaches the first pass
            # of G.
            grid = images.quantise(fake.detach())
            seen = fake + (self.attacked(grid, c, i, indices, "fake") - grid)
        with distributed.autocast(self.ctx.device, options.precision):
            loss, scalars = losses.discriminator_loss(
                self.D,
                real,
                (seen if both else fake).detach(),
                c,
                alpha,
                options.lambda_cls,
                options.lambda_gp,
            )
        self.apply(self.d_optimiser, self.D, loss, i)
        if generator_turn:
            self.D.requires_grad_(False)
            with distributed.autocast(self.ctx.device, options.precision):
                reconstruction = self.reconstruct(x, seen, c)
                loss, more = losses.generator_loss(
                    self.D,
                    seen if both else fake,
                    reconstruction,
                    x,
                    target,
                    self.generator_cls,
                    options.lambda_rec,
                )
            self.apply(self.g_optimiser, self.G, loss, i)
            self.D.requires_grad_(True)
            if self.average is not None:
                training.update_average(self.average, self.G, options.ema)
            scalars |= more
        return scalars


def train(
    options: Options,
    run: runs.Run,
    ctx: distributed.Context,
    faces: FaceFolder,
    networks: tuple[nn.Module, nn.Module],
    meta: dict,
    step_type: type[Step] = Step,
    disrupt: Disrupt | None = None,
    both: bool = False,
) -> None:
    """Train on the faces of split A that are not held out.

    Args: networks  generator, discriminator;  meta  of the weights that come out
          step_type  Step or a subclass;  disrupt, both  see Step
    """
    kept, validation = held_out(faces.names, options.seed)
    held, faces = faces.subset(validation or kept), faces.subset(kept)
    generator, discriminator = (n.to(ctx.device) for n in networks)
    if ctx.device.type == "cuda":
        generator, discriminator = (
            n.to(memory_format=torch.channels_last) for n in (generator, discriminator)
        )
    average = training.averaged(generator) if options.ema else None
    # the discriminator is differentiated twice, which torch.compile does not do
    training.compile_networks([generator], options, ctx)
    optimisers = [
        torch.optim.Adam(n.parameters(), options.lr, betas=(0.5, 0.999), fused=ctx.device.type == "cuda")
        for n in (generator, discriminator)
    ]
    step = step_type(
        options,
        ctx,
        Batches(faces, options.batch_size, options.seed, ctx),
        faces.labels,
        generator,
        discriminator,
        average,
        optimisers,
        disrupt,
        both,
    )
    parts = {
        "generator": generator,
        "discriminator": discriminator,
        "g_optimiser": optimisers[0],
        "d_optimiser": optimisers[1],
    }
    if average is not None:
        parts["average"] = average
    final = average.module if average is not None else generator
    shown = min(8, len(held))
    x, c = held.floats(range(shown)).to(ctx.device), held.labels[:shown].to(ctx.device)

    def on_save(done):
        files.make_folder(run.folder / "samples")
        images.save_png(
            run.folder / "samples" / f"{done:07d}.png", step_type.grid(final, x, c, options.selected_attrs)
        )

    training.loop(run, options, ctx, parts, step, on_save, meta["kind"].removesuffix("-generator"))
    if ctx.is_main:
        meta = {
            **meta,
            "attributes": options.selected_attrs,
            "image_size": options.image_size,
            "trained_on": options.dataset,
            "steps": options.num_steps,
            "seed": options.seed,
            "ema": bool(options.ema),
        }
        checkpoint.save_weights(run.folder / "weights.safetensors", final.state_dict(), meta)
        ctx.print(f"done: {run.folder / 'weights.safetensors'}")
