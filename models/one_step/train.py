"""Train a purifier of one evaluation on disruptions (called by train_defense.py): one-step, fine-tuned from
the diffusion network, and one-step-robust, whose disruptions are made through the purifier as it is then.

The network is shown disrupted photos of every strength, a share of them undisturbed. It is told neither. The
loss is on the photo and on what the translator makes of it: a photo that looks clean may still carry what
breaks the fake.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from common import checkpoint, distributed, files, images, seeds, training
from common.runs import Run
from common.training import TrainingOptions
from faces.celeba import FaceFolder
from faces.loader import Batches
from models.conditions import condition
from models.translators import Translator

STEP = 9  # 0-based: the diffusion network is always told t = 10
REACH = 0.6  # of the largest radius, with which a rising one begins


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """What this training reads of its options."""

    batch_size: int
    seed: int
    precision: str
    data_augmentation: str
    photo_weight: float
    fake_weight: float


def photo_and_fake_loss(
    translator: Callable,
    purified: torch.Tensor,
    x: torch.Tensor,
    fake_of_x: torch.Tensor,
    c: torch.Tensor,
    photo_weight: float,
    fake_weight: float,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """photo_weight MSE(purified, x) + fake_weight MSE(G(purified, c), G(x, c)), per-batch means.  Returns
    (loss, dict to log)."""
    photo = (purified - x).square().mean()
    fake = (translator(purified, c).float() - fake_of_x).square().mean()
    return photo_weight * photo + fake_weight * fake, {"photo_mse": photo.detach(), "fake_mse": fake.detach()}


class Disrupter:
    """What one-step learns to undo: a radius per step, uniform in [0, eps_max]; of the photos a share stays
    undisturbed, a share gets Gaussian noise of that standard deviation, the others are attacked. Over the
    first `ramp` steps the range of the radius rises to eps_max.

    A network that saw the attacks on one translator alone learns their pattern and leaves those on another;
    noise helps against that. make_attack(eps) -> attacks.base.Attack, given by the script: models do not
    import attacks.
    """

    def __init__(
        self,
        make_attack: Callable[[float], Callable],
        eps_max: float,
        clean_share: float,
        noise_share: float,
        smallest: float,
        ramp: int = 0,
    ) -> None:
        self.make_attack, self.eps_max, self.smallest, self.ramp = make_attack, eps_max, smallest, ramp
        self.clean_share, self.noise_share = clean_share, noise_share

    def radius(self, seed: int, i: int) -> float:
        """The radius of step i, one for the whole batch, [-1, 1] units."""
        drawn = float(torch.rand((), generator=seeds.generator(seed, "radius", i))) * self.eps_max
        return drawn * (REACH + (1 - REACH) * i / self.ramp) if i < self.ramp else drawn

    def __call__(
        self, x: torch.Tensor, c: torch.Tensor, streams: seeds.Streams, seed: int, i: int
    ) -> torch.Tensor:
        """x (N, 3, H, W) in [-1, 1] with conditions c (N, C) -> the same, disrupted as step i has it."""
        eps = self.radius(seed, i)
        if eps < self.smallest:
            return x
        # on the CPU, where it decides how many are attacked
        drawn = streams.uniform(torch.empty(len(x), 1, 1, 1))
        noisy = images.quantise((x + eps * streams.normal(x)).clamp(-1, 1)) if self.noise_share else x
        rows = (drawn.flatten() >= self.clean_share + self.noise_share).nonzero()[:, 0]
        disrupted = torch.where(distributed.to_device(drawn < self.clean_share, x.device), x, noisy)
        if len(rows):
            chosen = distributed.to_device(rows, x.device)
            disrupted[chosen] = self.make_attack(eps)(x[chosen], c[chosen, None], streams.at(rows))
        return disrupted


def train(
    options: Options,
    run: Run,
    ctx: distributed.Context,
    faces: FaceFolder,
    held: FaceFolder,
    network: nn.Module,
    wrap: Callable[[nn.Module], Callable[[torch.Tensor], torch.Tensor]],
    translator: Translator,
    disrupter: Disrupter,
    through: Callable[[nn.Module, float], Callable] | None,
    meta: dict,
) -> None:
    """Train on `faces`, validate on `held` at three radii; EMA weights are what is released.

    Args: network    is trained;  wrap(network) -> purify, (N, 3, H, W) in [-1, 1] -> the same
          disrupter  what the photos of a step meet
          through    (network, eps) -> attacks.base.Attack.disrupt through that network, of the validation;
                     None: the disrupter's own attack, whose images are made once
    """
    network.requires_grad_(True)
    average = training.averaged(network)
    purify, smooth = wrap(network), wrap(average.module)
    training.compile_networks([network, translator], options, ctx)
    optimiser = torch.optim.AdamW(
        network.parameters(), options.lr, weight_decay=0.0, fused=ctx.device.type == "cuda"
    )
    batches = Batches(faces, options.batch_size, options.seed, ctx, options.data_augmentation == "flip")
    labels = faces.labels

    def conditions(own, streams):
        """What asks for the labels of other photos, drawn per photo."""
        asked = labels[streams.integers(len(labels))]
        return condition(translator, *(distributed.to_device(c, ctx.device) for c in (own, asked)))

    def step(i):
        x, own, positions = batches.get(i)
        streams = seeds.stepped(options.seed, i, positions, "one-step")
        c = conditions(own, streams)
        x_adv = disrupter(x, c, streams, options.seed, i)
        with distributed.autocast(ctx.device, options.precision):
            with torch.no_grad():
                fake_of_x = translator(x, c).float()
            purified = purify(x_adv).float()
            loss, scalars = photo_and_fake_loss(
                translator, purified, x, fake_of_x, c, options.photo_weight, options.fake_weight
            )
        training.descend(
            loss, network, optimiser, training.warm_then_linear(options.lr, i, options.num_steps), ctx
        )
        training.update_average(average, network, options.ema)
        return {"loss": loss.detach(), **scalars}

    n_val = min(32, len(held))
    x_val = held.floats(range(n_val)).to(ctx.device)

    def rng(purpose):
        return seeds.Streams([(options.seed, purpose, i) for i in range(n_val)])

    c_val = conditions(held.labels[:n_val], rng("validate labels"))

    def disrupt(make_attack):
        return {0.0: x_val} | {
            eps: make_attack(eps)(x_val, c_val[:, None], rng("validate attack")) for eps in (0.02, 0.05, 0.1)
        }

    fixed = None if through else disrupt(disrupter.make_attack)

    @torch.no_grad()
    def on_save(done):
        attacked = fixed or disrupt(partial(through, average.module))
        reference, values, rows = translator(x_val, c_val), {}, []
        for eps, x_adv in attacked.items():
            purified = images.quantise(smooth(x_adv).float().clamp(-1, 1))
            values[f"val_fake_l2_eps{eps:g}"] = float(
                (translator(purified, c_val) - reference).square().mean()
            )
            values[f"val_photo_l2_eps{eps:g}"] = float((purified - x_val).square().mean())
            rows += [x_adv, purified, translator(x_adv, c_val), translator(purified, c_val)]
        files.make_folder(run.folder / "samples")
        grid = images.make_grid(
            [[row[i].cpu() for row in [x_val, reference, *rows]] for i in range(min(6, n_val))]
        )
        images.save_png(run.folder / "samples" / f"{done:07d}.png", grid)
        return values

    training.loop(
        run,
        options,
        ctx,
        {"network": network, "average": average, "optimiser": optimiser},
        step,
        on_save,
        meta["kind"],
    )
    if ctx.is_main:
        checkpoint.save_weights(run.folder / "weights.safetensors", average.module.state_dict(), meta)
