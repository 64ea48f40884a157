"""--scan: a purifier's weights are scanned before a photo is given to them; of a flagged one, photos may be
screened for the trigger instead.

A photo that carries a recovered trigger r is found by a matched filter: both are whitened by a Laplacian,
which makes neighbouring pixels of a photo nearly independent, and correlated,

  s(x) = <Wx, Wr> / (|Wx| |Wr|)

and a photo is flagged where s lies more than SPREAD standard deviations above the mean of NUM drawn faces.
All but r is ours here: TERD screens noise.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from common import distributed, images
from faces import procedural
from models.diffusion.denoiser import Denoiser
from purify.base import Purifier
from purify.flags import PurifierOptions
from purify.terd import verdict
from purify.terd.options import ScanOptions, name_of
from purify.terd.scan import scan

MODES = ("refuse", "screen")
NUM = 200  # drawn faces that set the threshold
SPREAD = 3.1  # one in a thousand of a Gaussian


def add_scan_flags(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the group "scan"."""
    g = parser.add_argument_group("scan of the purifier")
    g.add_argument(
        "--scan",
        nargs="?",
        choices=MODES,
        const="refuse",
        default=None,
        help=(
            "scan diffusion weights for a backdoor first (python -m purify.terd; once per file): refuse a"
            " flagged one with exit 3, or go on and screen the photos for its trigger"
        ),
    )
    return g


def whiten(x: torch.Tensor) -> torch.Tensor:
    """(..., 3, H, W) -> its Laplacian, mean of each channel taken out."""
    kernel = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]], device=x.device).expand(3, 1, 3, 3)
    flat = x.reshape(-1, *x.shape[-3:])
    return F.conv2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), kernel, groups=3).view_as(x)


class Screen:
    """Which photos carry a trigger.

    Args:   r  (3, S, S), recovered by a scan;  seed  of the drawn faces that set the threshold
    """

    def __init__(self, r: torch.Tensor, seed: int = 0):
        self.r, self.size = r, r.shape[-1]
        self._w = F.normalize(whiten(r).flatten(), dim=0)
        faces = torch.stack([images.to_float(_drawn(seed, i, self.size)[None])[0] for i in range(NUM)])
        known = self.scores(faces)
        self.threshold = float(known.mean() + SPREAD * known.std())

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """(N,) correlations in [-1, 1] of photos x (N, 3, H, W); photos of another size are brought to the
        trigger's."""
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(
                x, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False
            )
        return F.normalize(whiten(x).flatten(1), dim=1) @ self._w.to(x.device)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(N,) bool: which of the photos x carry the trigger."""
        return self.scores(x) > self.threshold


def _drawn(seed, i, size):
    """A drawn face as uint8 (size, size, 3)."""
    image, _ = procedural.draw_face(seed, i)
    return np.asarray(images.center_crop_resize(image, 0, size))


def scan_of(
    options: PurifierOptions, purifier: Purifier, ctx: distributed.Context
) -> tuple[verdict.Verdict | None, Screen | None]:
    """Scan the network of a purifier, as --scan asks.

    Args:    options  with scan, defense_weights and seed; result_dir where the command has one
    Returns: (Verdict or None where it has no diffusion network, Screen or None)
    Raises:  Backdoored (exit 3) for a flagged network under --scan refuse
    """
    denoiser = getattr(purifier, "denoiser", None)
    if options.scan is None:
        return None, None
    if denoiser is None:
        ctx.print(f"--scan: {purifier.name} has no diffusion network; nothing to scan")
        return None, None
    weights = options.defense_weights
    said = verdict_for(weights, getattr(options, "result_dir", "results"), denoiser, ctx)
    ctx.print(f"scan of {weights}: {said}")
    if said.verdict != verdict.BACKDOORED:
        return said, None
    if options.scan == "refuse":
        raise verdict.Backdoored(
            f"{weights}: this purifier is backdoored ({said.reason}; record: {said.record});"
            " get its weights from somewhere else, or --scan screen to go on and look for the trigger in the"
            " photos"
        )
    return said, Screen(said.r, options.seed)


def verdict_for(
    weights: str | Path, result_dir: str | Path, denoiser: Denoiser, ctx: distributed.Context
) -> verdict.Verdict:
    """The kept verdict of a network, or that of a scan made now with the defaults of python -m purify.terd;
    the first process scans for all."""
    options = ScanOptions(
        checkpoint=str(weights),
        name=name_of(weights),
        result_dir=str(result_dir),
        device=str(ctx.device),
        resume="auto",
    )
    said, error = None, None
    if ctx.is_main:
        try:
            said = verdict.kept(weights, result_dir, denoiser.sha256, options.schedule)
            said = said or scan(options, denoiser, distributed.Context(0, 1, ctx.device))
        except Exception as e:
            if ctx.world == 1:
                raise
            error = e  # the others wait for the verdict
    said, error = ctx.broadcast((said, error))
    if error is not None:
        raise error
    return said
