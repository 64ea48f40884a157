"""NaiveUnet of minDiffusion and its time convention, so that the published purifier `ddpm_celeba.pth` can be
used.

Three things differ from guided-diffusion and are kept: arrays of T + 1 entries whose index 0 carries beta_1
(t runs 1..T), time given as t/T, and a reverse step with sigma = sqrt(beta) that never clips.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.cli import UserError
from common.state_dicts import differing

PREFIX = "eps_model."  # of a checkpoint that holds the whole DDPM, schedule buffers included


class Conv3(nn.Module):
    """Three 3x3 convolutions with group norm and ReLU; residual=True adds the first one's output back."""

    def __init__(self, d_in: int, d_out: int, residual: bool = False):
        super().__init__()

        def unit(d):
            return [nn.Conv2d(d, d_out, 3, 1, 1), nn.GroupNorm(8, d_out), nn.ReLU()]

        self.main = nn.Sequential(*unit(d_in))
        self.conv = nn.Sequential(*unit(d_out), *unit(d_out))
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.main(x)
        return (x + self.conv(x)) / 1.414 if self.residual else self.conv(x)


class Down(nn.Module):
    """Conv3, then halve."""

    def __init__(self, d_in: int, d_out: int):
        super().__init__()
        self.model = nn.Sequential(Conv3(d_in, d_out), nn.MaxPool2d(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


class Up(nn.Module):
    """Join the skip, double, two Conv3."""

    def __init__(self, d_in: int, d_out: int):
        super().__init__()
        self.model = nn.Sequential(
            nn.ConvTranspose2d(d_in, d_out, 2, 2), Conv3(d_out, d_out), Conv3(d_out, d_out)
        )

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.model(torch.cat([x, skip], dim=1))


class TimeSiren(nn.Module):
    """Time (N,) -> features (N, d)."""

    def __init__(self, d: int):
        super().__init__()
        self.lin1 = nn.Linear(1, d, bias=False)
        self.lin2 = nn.Linear(d, d)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        return self.lin2(torch.sin(self.lin1(t.view(-1, 1))))


class NaiveUnet(nn.Module):
    """x (N, 3, H, W), H and W multiples of 32; t (N,) in (0, 1] -> predicted noise (N, 3, H, W). 11,349,635
    parameters at 128.

    Source: github.com/cloneofsimo/minDiffusion, as used by Anti-disrupt (WISA 2023); equal keys and shapes
    """

    size_multiple = 32

    def __init__(self, in_channels: int = 3, out_channels: int = 3, n_feat: int = 128):
        super().__init__()
        d = n_feat
        self.init_conv = Conv3(in_channels, d, residual=True)
        self.down1, self.down2, self.down3 = Down(d, d), Down(d, 2 * d), Down(2 * d, 2 * d)
        self.to_vec = nn.Sequential(nn.AvgPool2d(4), nn.ReLU())
        self.timeembed = TimeSiren(2 * d)
        self.up0 = nn.Sequential(nn.ConvTranspose2d(2 * d, 2 * d, 4, 4), nn.GroupNorm(8, 2 * d), nn.ReLU())
        self.up1, self.up2, self.up3 = Up(4 * d, 2 * d), Up(4 * d, d), Up(2 * d, d)
        self.out = nn.Conv2d(2 * d, out_channels, 3, 1, 1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        x = self.init_conv(x)
        one = self.down1(x)
        two = self.down2(one)
        three = self.down3(two)
        time = self.timeembed(t).unsqueeze(-1).unsqueeze(-1)
        up = self.up1(self.up0(self.to_vec(three) + time), three) + time
        up = self.up3(self.up2(up, two), one)
        return self.out(torch.cat([up, x], dim=1))


def tables(
    keep: Sequence[int], steps: int = 1000, beta_1: float = 1e-4, beta_t: float = 0.02
) -> dict[str, np.ndarray]:
    """Constants of the reverse steps as float64 arrays (see Denoiser); `keep` = sorted original 0-based
    steps.

    The published step x <- (x - eps beta / sqrt(1 - abar)) / sqrt(alpha) + sqrt(beta) z is written through
    the predicted clean image, mean = mean_x0 x0 + mean_x x, which is the same number as long as x0 is not
    clipped.
    """
    betas = (beta_t - beta_1) * np.arange(steps + 1) / steps + beta_1
    abar_all = np.cumprod(1 - betas)
    t = np.asarray(keep) + 1
    abar = abar_all[t]
    before = np.append(abar_all[0], abar[:-1])  # index 0's factor belongs to no step
    alpha = abar / before
    mean_x0 = (1 - alpha) * np.sqrt(abar) / ((1 - abar) * np.sqrt(alpha))
    return {
        "kept": keep,
        "times": t / steps,
        "alphas_bar": abar,
        "mean_x0": mean_x0,
        "mean_x": 1 / np.sqrt(alpha) - mean_x0 / np.sqrt(abar),
        "log_variance": np.log(1 - alpha),
    }


def is_mindiffusion(state: dict[str, torch.Tensor]) -> bool:
    """Whether these are NaiveUnet's keys, alone or inside a whole DDPM."""
    return any(k in state for k in ("init_conv.main.0.weight", PREFIX + "init_conv.main.0.weight"))


def network_from(state: dict[str, torch.Tensor], path: Path | str) -> NaiveUnet:
    """Rebuild the NaiveUnet of a state_dict.  Raises UserError if tensors are missing or of another shape."""
    if PREFIX + "init_conv.main.0.weight" in state:
        state = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    n_feat, d_in = state["init_conv.main.0.weight"].shape[:2]
    with torch.device("meta"):
        network = NaiveUnet(d_in, state["out.weight"].shape[0] if "out.weight" in state else 3, n_feat)
    wrong = differing(network.state_dict(), state)
    if wrong or d_in != 3:
        raise UserError(
            f"{path}: not the NaiveUnet of minDiffusion for RGB images (n_feat {n_feat}): {len(wrong)}"
            " tensors differ" + (f", first {wrong[0]}" if wrong else f", {d_in} input channels")
        )
    network.load_state_dict(state, assign=True)
    return network
