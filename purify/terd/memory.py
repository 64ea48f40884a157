"""Will a gradient through a network fit in memory?  Counted on one image before anything long begins."""

import gc

import torch

from models.diffusion.denoiser import Denoiser


def needed(denoiser: Denoiser, batch: int) -> int:
    """Bytes that one forward and backward pass of `batch` images holds for its gradient, counted on one
    image."""
    seen = {}

    def pack(t):
        seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    weights = {p.untyped_storage().data_ptr() for p in denoiser.parameters()}
    x = torch.zeros(
        1, 3, denoiser.image_size, denoiser.image_size, device=denoiser.alphas_bar.device, requires_grad=True
    )
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = denoiser.eps(x, denoiser.num_timesteps - 1)
    held = sum(size for pointer, size in seen.items() if pointer not in weights)
    del out
    gc.collect()
    return held * batch


def free(device: torch.device | str) -> int | None:
    """Bytes that are free on a device; None where the system does not say."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
