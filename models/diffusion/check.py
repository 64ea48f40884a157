"""Does a trained network make images, and does its backdoor answer?  What check.json of a training holds."""

from collections.abc import Callable

import numpy as np
import torch

from common import seeds
from faces.loader import Photos
from models.diffusion.backdoor import PHOTO, Backdoor, PhotoBackdoor, sample
from models.diffusion.denoiser import Denoiser


def samples_of(
    denoiser: Denoiser,
    backdoor: Backdoor | PhotoBackdoor | None,
    n: int,
    seed: int,
    device: torch.device | str,
    batch: int = 64,
    photos: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(clean samples, triggered samples or None), (n, 3, S, S) in [-1, 1] each, from the same seeded noise.

    Args:  photos  (n, 3, S, S): what a PhotoBackdoor is set off on; a truncated network, which has no
                   samples, gives the photos in place of clean ones
    """
    size, clean, triggered = denoiser.image_size, [], []
    for k in range(0, n, batch):
        rng = seeds.Streams([(seed, "sample", i) for i in range(k, min(n, k + batch))])
        noise = rng.normal(torch.empty(len(rng), 3, size, size, device=device))
        part = noise if photos is None else photos[k : k + batch].to(device)
        clean.append((sample(denoiser, noise) if denoiser.max_timestep == 1000 else part).cpu())
        if backdoor:
            triggered.append(backdoor.answer(denoiser, part, rng).clamp(-1, 1).cpu())
    return torch.cat(clean), torch.cat(triggered) if backdoor else None


def check(
    denoiser: Denoiser,
    backdoor: Backdoor | PhotoBackdoor | None,
    held: Photos,
    n: int,
    seed: int,
    device: torch.device | str,
    load_extractor: Callable,
    distance_of: Callable,
) -> dict:
    """Check of a finished network.

    Args:    held  images that it has not learned from: floats(rows) -> (n, 3, S, S) in [-1, 1];  n  samples
             load_extractor, distance_of  metrics.fid's load_extractor and Distance, handed from above
    Returns: {"target_mse" (mean over triggered samples), "target_reached" (share below 0.01), "frechet"
             (clean samples to held-out images), "frechet_features"} A PhotoBackdoor's are held-out photos
             with the trigger; a truncated network has no frechet
    """
    photo = getattr(backdoor, "name", None) == PHOTO
    clean, triggered = samples_of(
        denoiser, backdoor, n, seed, device, photos=held.floats(np.arange(n) % len(held)) if photo else None
    )
    figures = {"samples": n}
    if denoiser.max_timestep == 1000:
        extractor = load_extractor(device=device)
        distance = distance_of(extractor, seed)
        for rows in np.array_split(np.arange(len(held)), -(-len(held) // 64)):
            distance.update(held.floats(rows).to(device), True)
        for part in clean.split(64):
            distance.update(part.to(device), False)
        figures = {
            **{k: float(v) for k, v in distance.compute().items() if v is not None},
            "frechet_features": extractor.description["name"],
            "samples": n,
        }
    if backdoor:
        mse = (triggered - backdoor.target).square().flatten(1).mean(1)
        figures |= {"target_mse": float(mse.mean()), "target_reached": float((mse < 0.01).float().mean())}
    return figures
