"""What a perturbation generator reaches on held-out photos, beside random signs and PGD, and whether it has
collapsed."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from common import images, seeds
from models.dadfi.network import Perturber
from models.victims import Victim

STEP = 1 / 127.5  # one grey level


class Validation:
    """Held-out photos with everything about them that does not change in training.

    Args:  x, labels  (N, 3, H, W) on the 8-bit grid, (N, all columns);  victims  of models.victims
           release    (x, p) -> the 8-bit image that leaves the owner's hands, see attacks.base.Attack.release
           pgd        per victim, its PGD-disrupted photos (N, 3, H, W): what one pass is measured against
    """

    def __init__(
        self,
        x: torch.Tensor,
        labels: torch.Tensor,
        victims: Sequence[Victim],
        release: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        pgd: Sequence[torch.Tensor],
        lim: float,
        seed: int,
    ):
        self.x, self.victims, self.release, self.lim = x, victims, release, lim
        self.conditions = [v.conditions(labels) for v in victims]
        with torch.no_grad():
            self.clean = [self._fakes(i, x) for i in range(len(victims))]
            signs = seeds.Streams([(seed, "validate signs", i) for i in range(len(x))]).normal(x).sign()
            self.noise = self.l2(self.release(x, lim * signs))
            self.pgd = [self._l2(i, disrupted) for i, disrupted in enumerate(pgd)]

    def _fakes(self, i, x):
        return torch.stack([self.victims[i](x, c) for c in self.conditions[i]])  # (K, N, 3, H, W)

    def _l2(self, i, x_adv):
        return float((self._fakes(i, x_adv) - self.clean[i]).square().mean())

    def l2(self, x_adv: torch.Tensor) -> list[float]:
        """Per victim, the mean squared distance of the fakes of x_adv and of x, over photos and domains."""
        return [self._l2(i, x_adv) for i in range(len(self.victims))]

    @torch.no_grad()
    def measure(self, network: Perturber) -> dict[str, float]:
        """network.perturbation on the photos -> dict of floats to log; released photos, mean_p in [-1, 1]
        units, psnr in dB."""
        x_adv, change = self._protected(network)
        mse = change.square().mean(dim=(1, 2, 3)).clamp_min(1e-12)
        values = {
            "val_mean_p": float(change.abs().mean()),
            "val_psnr": float((10 * torch.log10(4 / mse)).mean()),
        }
        for victim, *l2 in zip(self.victims, self.l2(x_adv), self.noise, self.pgd, strict=True):
            values |= {
                f"val_{victim.name}_l2{of}": v for of, v in zip(("", "_noise", "_pgd"), l2, strict=True)
            }
        return values

    def _protected(self, network):
        x_adv = self.release(self.x, network.perturbation(self.x))
        return x_adv, x_adv - self.x

    @torch.no_grad()
    def finding(self, network: Perturber) -> str | None:
        """In what way the network has collapsed, one line, or None."""
        values, p = self.measure(network), network.perturbation(self.x)
        if values["val_mean_p"] < STEP / 2:
            return (
                f"no effect: its perturbation is {values['val_mean_p'] / STEP:.2f} of a grey level on average"
            )
        if all(values[f"val_{v.name}_l2"] <= values[f"val_{v.name}_l2_noise"] for v in self.victims):
            told = ", ".join(
                f"{v.name} {values[f'val_{v.name}_l2']:.2g} against {values[f'val_{v.name}_l2_noise']:.2g}"
                for v in self.victims
            )
            return (
                f"no effect: its fakes are no further from the clean ones than those of random signs ({told})"
            )
        if float(p.std(dim=(2, 3)).mean()) < STEP and float(p.abs().mean()) >= 0.9 * self.lim:
            return (
                f"saturated constant pattern: {float(p.abs().mean()):.3f} of {self.lim:g} everywhere, "
                f"{float(p.std(dim=(2, 3)).mean()) / STEP:.2f} of a grey level of variation within a channel"
            )
        return None

    @torch.no_grad()
    def grid(self, network: Perturber, shown: int = 6) -> np.ndarray:
        """Picture: photo, protected photo, ten times the perturbation, then for each victim the fake of the
        photo and of the protected one."""
        x_adv, change = self._protected(network)
        rows = []
        for n in range(min(shown, len(self.x))):
            row = [self.x[n], x_adv[n], 10 * change[n]]
            for i, victim in enumerate(self.victims):
                k = n % len(self.conditions[i])  # one domain after the other
                row += [self.clean[i][k, n], victim(x_adv[n : n + 1], self.conditions[i][k, n : n + 1])[0]]
            rows.append([cell.cpu() for cell in row])
        return images.make_grid(rows, scale=2)
