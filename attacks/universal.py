"""One perturbation for all photos: a given file, or one crafted on a batch (as CMUA-Watermark does)."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from attacks.base import Attack
from common import checkpoint, files, filetypes, state_dicts
from common.cli import UserError
from common.declared import Look, Parameter
from common.seeds import Streams

FITS = ("resize", "tile")
LARGEST_SIDE = 1 << 14  # pixels


def load_perturbation(path: Path | str) -> torch.Tensor:
    """Read a (3, h, w) or (1, 3, h, w) tensor in [-1, 1] units from a .pt or .npy file, as data and never as
    code.

    Returns: (3, h, w) float32.
    Raises:  UserError for a file that is missing, damaged, hostile, of another shape, not finite, zero or in
             other units
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        if not path.exists():
            raise UserError(f"{path}: no such perturbation file")
        filetypes.check_regular(path)
        try:
            # mapped: a header that claims more than the file holds is told before any memory is taken
            loaded = np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
        except Exception as e:  # its header can be any text
            raise UserError(
                f"{path}: damaged or not an array of numbers ({' '.join(str(e).split())[:80]})"
            ) from e
        tensor = (
            torch.from_numpy(np.asarray(loaded, np.float32))
            if np.issubdtype(loaded.dtype, np.floating)
            else loaded
        )
    else:
        tensor = checkpoint.read_torch(path)
    if not torch.is_tensor(tensor) or not tensor.is_floating_point():
        raise UserError(
            f"{path}: expected one tensor of floats (3, h, w), found"
            f" {getattr(tensor, 'dtype', type(tensor).__name__)}"
        )
    state_dicts.check_stored(tensor, f"{path}: the tensor")
    shape = tuple(tensor.shape)
    if any(side > LARGEST_SIDE for side in shape):
        raise UserError(
            f"{path}: expected a perturbation of at most {LARGEST_SIDE} pixels a side, found {shape}"
        )
    p = tensor.detach().float().squeeze(0) if tensor.ndim == 4 else tensor.detach().float()
    if p.ndim != 3 or p.shape[0] != 3 or 0 in shape:
        raise UserError(f"{path}: expected a perturbation (3, h, w) or (1, 3, h, w), found {shape}")
    largest = float(p.abs().max())
    if not 0 < largest <= 2:  # also true of NaN
        raise UserError(
            f"{path}: expected finite values in [-1, 1] image units, not all zero; the largest is {largest:g}"
        )
    return p


def save_perturbation(path: Path | str, perturbation: torch.Tensor) -> None:
    """Write a (3, h, w) tensor as a .pt file, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(perturbation.detach().cpu().contiguous().clone(), buffer)
    files.make_folder(Path(path).parent)
    files.write_atomic(path, buffer.getvalue())


class Universal(Attack):
    """Add one given perturbation, fitted to the photo's size and clipped to eps.

    Args:   perturbation  file, or tensor (3, h, w) in [-1, 1] units
            fit           resize  bilinear to the photo's size (it was made for faces that fill the frame)
                          tile    repeated from the top left corner at its own scale
    """

    name = "universal"
    look = Look("universal", "#e8850c", 30)
    parameters = (
        Parameter(
            "perturbation",
            "--perturbation",
            str,
            None,
            "for universal: .pt or .npy, a tensor (3, h, w) in [-1,1] units",
            metavar="FILE",
        ),
        Parameter(
            "fit",
            "--perturbation_fit",
            str,
            "resize",
            "a perturbation of another size than the photo: bilinear, or repeated",
            choices=FITS,
        ),
    )
    uses_translator = False
    only_for_tests = "one perturbation for all photos can be learned by heart"

    def __init__(
        self,
        translator: Callable[..., torch.Tensor] | None,
        eps: float,
        perturbation: Path | str | torch.Tensor | None = None,
        fit: str = "resize",
    ):
        super().__init__(None, eps)
        if perturbation is None:
            raise UserError(
                "universal needs --perturbation FILE (.pt or .npy, a tensor (3, h, w) in [-1, 1] units)"
            )
        if fit not in FITS:
            raise ValueError(f"fit {fit!r}: one of {', '.join(FITS)}")
        self.perturbation = perturbation if torch.is_tensor(perturbation) else load_perturbation(perturbation)
        self.fit = fit

    def perturb(self, x: torch.Tensor, labels: torch.Tensor, rng: Streams) -> torch.Tensor:
        p = fitted(self.perturbation.to(x.device, x.dtype), *x.shape[-2:], self.fit)
        return self.project(x, p.expand_as(x))

    def definition(self) -> dict:
        data = self.perturbation.detach().cpu().float().contiguous()
        digest = hashlib.sha256(str(tuple(data.shape)).encode() + data.numpy().tobytes()).hexdigest()
        return {"attack": self.name, "eps": self.eps, "perturbation": digest, "fit": self.fit}


def fitted(p: torch.Tensor, h: int, w: int, fit: str) -> torch.Tensor:
    """(3, h0, w0) -> (3, h, w)."""
    if tuple(p.shape[-2:]) == (h, w):
        return p
    if fit == "tile":
        return p.repeat(1, -(-h // p.shape[1]), -(-w // p.shape[2]))[:, :h, :w]
    # Without antialiasing: averaging its fine pattern away would weaken the perturbation.
    return F.interpolate(p[None], size=(h, w), mode="bilinear", align_corners=False)[0]
