"""How strong is the perturbation on a photo? Found from the photo itself: a defender does not know the
attack's eps."""

import torch
import torch.nn.functional as F

from models.diffusion.denoiser import Denoiser

# 0-based step at which the network is asked for its noise: t = 10, where the schedule's std is near 0.05
STEP = 9


def high_pass(x: torch.Tensor) -> torch.Tensor:
    """x minus its 3x3 mean, reflected borders: photos are smooth there, perturbations are not."""
    return x - F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, stride=1)


def amplitude(x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """Least-squares k in Hx ~ k He per photo, H = high_pass: std of the noise on x, in [-1, 1] image units;
    never below 0.

    k is the factor that makes e the noise on x, and its std where e has unit variance. Where there is less
    noise than the network was told, e is weaker and k stays above the noise's own std: it leans towards
    purifying.

    Shape:  x photos, e predicted noise of unit variance, both (N, 3, H, W) -> (N,), differentiable in both
    """
    hx, he = high_pass(x).flatten(1), high_pass(e).flatten(1)
    return ((hx * he).sum(1) / he.square().sum(1).clamp_min(1e-12)).clamp_min(0)


def start_of(k: torch.Tensor, stds: torch.Tensor, max_timestep: int) -> torch.Tensor:
    """t* per photo, LongTensor (N,): the first t whose std reaches k; 0 (leave the photo alone) where k is
    below half of std(1).

    Args:  k (N,) noise std;  stds (T,) increasing, std after t = 1..T noising steps;  max_timestep  the
           largest answer
    """
    start = torch.searchsorted(stds.to(k.dtype), k.detach().contiguous()) + 1
    return torch.where(k.detach() < stds[0] / 2, torch.zeros_like(start), start.clamp(max=max_timestep))


class Level:
    """The level finder of one denoiser: one network evaluation per photo. Keeps the sums that records
    want."""

    def __init__(self, denoiser: Denoiser):
        self.denoiser = denoiser
        self.reset()

    def reset(self) -> None:
        """Forget the levels found so far."""
        self._n = self._sum = self._squares = 0.0

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(k (N,), e (N, 3, H, W))."""
        e = self.denoiser.eps(x, STEP)
        k = amplitude(x, e)
        with torch.no_grad():
            self._n += len(k)
            # summed on the device: reading them here would wait for it
            self._sum = self._sum + k.double().sum()
            self._squares = self._squares + k.double().square().sum()
        return k, e

    def found(self) -> list[float]:
        """Number, sum and sum of squares of the levels found so far."""
        return [self._n, float(self._sum), float(self._squares)]

    def measured(self, found: list[float] | None = None) -> dict[str, float]:
        """Mean and standard deviation of the levels found so far, or of such sums, [-1, 1] image units."""
        found = self.found() if found is None else found
        if not found or not found[0]:
            return {}
        n, total, squares = found
        mean, square = total / n, squares / n
        return {"level_mean": mean, "level_std": max(0.0, square - mean * mean) ** 0.5}
