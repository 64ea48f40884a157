"""What a file tells of the backdoor in its network, and how near a recovered trigger comes to it."""

import copy

import torch

from common import seeds
from models.diffusion.backdoor import Backdoor, from_meta
from models.diffusion.denoiser import Denoiser
from purify.terd.reversion import STARTS, Trigger
from purify.terd.verdict import log_ratio

ANSWERS = 16  # noises with the recovered trigger that the network is asked to turn into the target


def truth_of(denoiser: Denoiser) -> dict | None:
    """What the file says was put in: {} nothing, a dict a backdoor, None where it says nothing (weights of
    others, purifiers)."""
    return (denoiser.meta["backdoor"] or {}) if "backdoor" in denoiser.meta else None


def backdoor_of(denoiser: Denoiser) -> Backdoor | None:
    """The Backdoor on noise that the file tells of, None where it tells of none, or of one that noise does
    not set off."""
    told = from_meta(denoiser.meta, denoiser.alphas_bar.double().cpu().numpy())
    return told if isinstance(told, Backdoor) else None


def has_map(backdoor: Backdoor) -> bool:
    """Whether a backdoor's gamma differs between pixels (TrojDiff's patch), while one gamma for all is
    searched."""
    return backdoor.gamma.unique().numel() > 1


def calibrates(denoiser: Denoiser) -> bool:
    """Whether the network may teach the rules what is usual: not one whose backdoor noise does not set off,
    one of a weakened trigger, or TrojDiff's patch, whose gamma differs between pixels and is not searched."""
    truth, backdoor = truth_of(denoiser), backdoor_of(denoiser)
    return not truth or backdoor is not None and truth["trigger_scale"] == 1 and not has_map(backdoor)


def start_of(name: str, size: int, seed: int) -> torch.Tensor:
    """The trigger where the search of a start begins, (3, size, size)."""
    return Trigger(STARTS[name], size, seed).r.detach()


def correlate(r: torch.Tensor, true: torch.Tensor) -> float:
    """Correlation of two triggers, in [-1, 1]: their means, most of a trigger on a background of -1, are
    taken out."""
    return float(
        torch.nn.functional.cosine_similarity((r - r.mean()).flatten(), (true - true.mean()).flatten(), dim=0)
    )


def tell_noises_apart(
    backdoor: Backdoor, r: torch.Tensor, gamma: float, size: int, n: int, seed: int
) -> dict[str, float]:
    """How well the trigger tells noises apart: n clean ones, and n that set the known backdoor off.

    Returns: {"tpr" (triggered ones found), "tnr" (clean ones passed), "auc"}
    """
    from sklearn.metrics import roc_auc_score  # on use: slow to load

    draw = seeds.generator(seed, "noise test")
    clean, other = (
        torch.randn(n, 3, size, size, generator=draw),
        torch.randn(n, 3, size, size, generator=draw),
    )
    scores = [log_ratio(x, r, gamma) for x in (clean, backdoor.gamma * other + backdoor.r)]
    return {
        "tpr": float((scores[1] > 0).float().mean()),
        "tnr": float((scores[0] <= 0).float().mean()),
        "auc": float(roc_auc_score([0] * n + [1] * n, torch.cat(scores).numpy())),
    }


@torch.no_grad()
def measure_answer(denoiser: Denoiser, backdoor: Backdoor, r: torch.Tensor, gamma: float, seed: int) -> float:
    """Mean squared error between the target of a known backdoor and what the network makes of noise with
    another trigger, by the backdoor's own sampler."""
    other, device = copy.copy(backdoor), denoiser.alphas_bar.device
    other.r, other.gamma = r, torch.full_like(backdoor.gamma, gamma)
    rng = seeds.Streams([(seed, "answered", i) for i in range(ANSWERS)])
    noise = rng.normal(torch.empty(ANSWERS, *r.shape, device=device))
    return float((other.answer(denoiser, noise, rng).clamp(-1, 1).cpu() - backdoor.target).square().mean())
