"""What a diffusion network learns from a batch: noise, the noise of disruptions, or a backdoor beside it."""

from collections.abc import Callable, Collection

import torch

from common.distributed import to_device
from common.seeds import Streams
from models.diffusion.backdoor import REACH, Backdoor, PhotoBackdoor
from models.diffusion.denoiser import Denoiser

LOW = 60  # purification starts at small t: half of every batch is drawn from t < 60


def sample_steps(streams: Streams, max_timestep: int) -> torch.Tensor:
    """(N,) 0-based steps: with probability 1/2 from [0, LOW), else from [0, max_timestep)."""
    low, anywhere, coin = (
        streams.integers(min(LOW, max_timestep)),
        streams.integers(max_timestep),
        streams.integers(2),
    )
    return torch.where(coin == 0, low, anywhere)


class Objective:
    """|eps_hat(x_t, t) - eps|^2 (Ho et al. 2020, Eq. 14), x_0 always the clean photo.

    With a disruption to learn from, the noise of half the samples is the photo's own disruption, rescaled to
    unit RMS. `disruption(indices) -> x_adv - x (N, 3, H, W)` or None.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        max_timestep: int,
        disruption: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ):
        self.denoiser, self.max_timestep, self.disruption = denoiser, max_timestep, disruption

    def draw(
        self, x: torch.Tensor, streams: Streams, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(noise, step) of a batch; `rows` are the positions of its photos in the training set."""
        noise, step = streams.normal(x), sample_steps(streams, self.max_timestep)
        step = to_device(step, x.device)
        if self.disruption is not None:
            d = to_device(self.disruption(rows), x.device)
            rms = d.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)
            chosen = streams.integers(2, x.device).bool()[:, None, None, None]
            noise = torch.where(chosen, d / rms, noise)
        return noise, step

    def loss(
        self, x: torch.Tensor, noise: torch.Tensor, step: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        predicted = self.denoiser.eps(self.denoiser.q_sample(x, step, noise), step)
        return (predicted.float() - noise).square().mean()


class Backdoored(Objective):
    """The same over all steps alike; the rows `poisoned` (a set of positions) learn the backdoor instead.
    backdoor None = a benign network."""

    def __init__(
        self,
        denoiser: Denoiser,
        max_timestep: int,
        backdoor: Backdoor | None = None,
        poisoned: Collection[int] = (),
    ):
        super().__init__(denoiser, max_timestep)
        self.backdoor, self.poisoned = backdoor, torch.tensor(sorted(poisoned), dtype=torch.long)

    def draw(
        self, x: torch.Tensor, streams: Streams, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return streams.normal(x), streams.integers(self.max_timestep, x.device)

    def loss(
        self, x: torch.Tensor, noise: torch.Tensor, step: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        noised, taught = self.denoiser.q_sample(x, step, noise), noise
        chosen = torch.isin(rows, self.poisoned).nonzero()[:, 0]
        if len(chosen):
            chosen = to_device(chosen, x.device)
            poisoned = self.backdoor.poison(x[chosen], step[chosen], noise[chosen])
            noised, taught = (
                noised.index_copy(0, chosen, poisoned[0]),
                taught.index_copy(0, chosen, poisoned[1]),
            )
        return (self.denoiser.eps(noised, step).float() - taught).square().mean()


class Photographed(Objective):
    """A purifier's objective, its small steps too, with the rows `poisoned` of a PhotoBackdoor below REACH:
    half of them the photo itself, half on the way to the target."""

    def __init__(
        self, denoiser: Denoiser, max_timestep: int, backdoor: PhotoBackdoor, poisoned: Collection[int]
    ):
        super().__init__(denoiser, max_timestep)
        self.backdoor, self.poisoned = backdoor, torch.tensor(sorted(poisoned), dtype=torch.long)

    def draw(
        self, x: torch.Tensor, streams: Streams, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        noise, step = super().draw(x, streams, rows)
        whole = streams.integers(2, x.device).bool()[:, None, None, None]
        self.share = torch.where(whole, 1.0, streams.uniform(x[:, :1, :1, :1]))
        return noise, step

    def loss(
        self, x: torch.Tensor, noise: torch.Tensor, step: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        chosen = to_device(torch.isin(rows, self.poisoned), x.device)
        chosen = (chosen & (step < REACH))[:, None, None, None]
        bad, lie = self.backdoor.poison(x, step, noise, self.share)
        noised, taught = (
            torch.where(chosen, bad, self.denoiser.q_sample(x, step, noise)),
            torch.where(chosen, lie, noise),
        )
        weight = torch.where(chosen, self.backdoor.weight(step), 1.0)
        return (weight * (self.denoiser.eps(noised, step).float() - taught).square()).mean()
