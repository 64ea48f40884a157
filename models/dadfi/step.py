"""A step of DADFI's training: both recognisers, then the generator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from common import distributed, seeds, training
from common.cli import RunOptions
from common.training import TrainingOptions
from faces.flags import DataOptions
from faces.loader import Batches
from models.dadfi import losses
from models.victims import Victim

# others are told in the run folder's name
LAMBDAS = {"lambda_x": 1.0, "lambda_y": 1.0, "lambda_hinge": 0.5, "lambda_distance": 30.0}


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions, DataOptions, TrainingOptions):
    """The values of models.dadfi.train.parse_args."""

    limit: int | None
    resume: str | None
    batch_size: int
    precision: str
    victims: list[str]
    lim: float
    bound: str
    conv_dim: int
    pgd_steps: int
    pgd_step_size: float
    gan_loss: str
    lambda_x: float
    lambda_y: float
    lambda_hinge: float
    lambda_distance: float
    without_finetuning: bool
    optimiser: str


class Step:
    """One step of both recognisers, then one of the generator.

    Args:  networks, optimisers  dicts of initial_networks' names;  victims  of load_victims
           broken  per victim, names of photos -> (N, 3, H, W), their PGD-broken form x'_adv (E5-E6);  names
                   of the batches' photos
    """

    def __init__(
        self,
        options: Options,
        ctx: distributed.Context,
        batches: Batches,
        networks: dict[str, nn.Module],
        optimisers: dict[str, torch.optim.Optimizer],
        victims: Sequence[Victim],
        broken: Sequence[Callable[[Sequence[str]], torch.Tensor]],
        names: Sequence[str],
        average: nn.Module | None = None,
    ):
        self.options, self.ctx, self.batches, self.networks, self.optimisers = (
            options,
            ctx,
            batches,
            networks,
            optimisers,
        )
        self.victims, self.broken, self.names, self.average = victims, broken, names, average

    def apply(self, name: str, loss: torch.Tensor, i: int) -> None:
        training.descend(
            loss,
            self.networks[name],
            self.optimisers[name],
            training.warm_then_linear(self.options.lr, i, self.options.num_steps),
            self.ctx,
        )

    def judge(self, name: str, x: torch.Tensor) -> torch.Tensor:
        with distributed.autocast(self.ctx.device, self.options.precision):
            return self.networks[name](x).float()

    def recognise(self, name: str, real: torch.Tensor, fake: torch.Tensor, i: int) -> torch.Tensor:
        """One step of a recogniser; its loss."""
        with distributed.autocast(self.ctx.device, self.options.precision):
            both = self.networks[name](torch.cat([real, fake]).detach()).float()
        loss = losses.recogniser_loss(*both.split([len(real), len(fake)]))
        self.apply(name, loss, i)
        return loss.detach()

    def __call__(self, i: int) -> dict[str, torch.Tensor]:
        options, generator = self.options, self.networks["generator"].train()
        x, labels, positions = self.batches.get(i)
        with distributed.autocast(self.ctx.device, options.precision):
            p = generator.perturbation(x)
        x_adv = (x + p).clamp(-1, 1)
        clean, aims, fakes, names = [], [], [], [self.names[r] for r in self.batches.rows(i).tolist()]
        for victim, broken in (
            [] if options.without_finetuning else zip(self.victims, self.broken, strict=True)
        ):
            c = victim.random_conditions(
                labels, seeds.stepped(options.seed, i, positions, "dadfi", victim.name)
            )
            with torch.no_grad():
                clean.append(victim(x, c))
                aims.append(victim(distributed.to_device(broken(names), x.device), c))
            fakes.append(victim(x_adv, c))

        scalars = {"ide_x": self.recognise("ide_x", x, x_adv, i)}
        if aims:  # one Ide_y for all victims: E9's sum but for a factor
            scalars["ide_y"] = self.recognise("ide_y", torch.cat(aims), torch.cat(fakes), i)
        scalars |= self.update_generator(x_adv, p, fakes, clean, aims, i)
        if self.average is not None:
            training.update_average(self.average, generator, options.ema)
        return scalars

    def update_generator(
        self,
        x_adv: torch.Tensor,
        p: torch.Tensor,
        fakes: Sequence[torch.Tensor],
        clean: Sequence[torch.Tensor],
        aims: Sequence[torch.Tensor],
        i: int,
    ) -> dict[str, torch.Tensor]:
        """The step of Gen with frozen recognisers; dict of scalars to log."""
        options = self.options
        judges = [self.networks[n].requires_grad_(False) for n in ("ide_x", "ide_y") if n in self.networks]
        x_loss = losses.generator_loss(self.judge("ide_x", x_adv), options.gan_loss)
        y_losses = [losses.generator_loss(self.judge("ide_y", fake), options.gan_loss) for fake in fakes]
        hinge = losses.hinge_loss(p, options.lim)
        told = [
            losses.distance_loss(*each, self.ctx.mean_of) for each in zip(fakes, clean, aims, strict=True)
        ]
        distances = [loss for loss, _ in told]
        self.apply(
            "generator",
            losses.total_loss(
                x_loss, y_losses, hinge, distances, **{k: getattr(options, k) for k in LAMBDAS}
            ),
            i,
        )
        for judge in judges:
            judge.requires_grad_(True)
        scalars = {"g_x": x_loss, "g_hinge": hinge, "mean_p": p.abs().mean()}
        if y_losses:
            scalars["g_y"] = torch.stack(y_losses).sum()
            scalars |= {f"{v.name}_share": share for v, (_, share) in zip(self.victims, told, strict=True)}
        return {k: v.detach() for k, v in scalars.items()}
