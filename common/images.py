"""The one place where images change form: files, 8-bit arrays, float32 (N, 3, H, W) in [-1, 1]."""

import io
import json
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin

from common.errors import RunError, UserError
from common.files import write_atomic

RUNS = 3  # zlib's strategy Z_RLE
NOTE = "note"  # keyword of the PNG text chunk
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def list_images(folder: Path | str) -> list[Path]:
    """Image files of a folder (or the one file given), sorted by name.  Raises UserError if missing or
    empty."""
    folder = Path(folder)
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a folder of {', '.join(EXTENSIONS)} images")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS)
    if not files:
        raise UserError(f"{folder}: holds no images ({', '.join(EXTENSIONS)})")
    return files


@contextmanager
def _naming(path):
    """What Pillow raises inside becomes a UserError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such image") from None
    except Exception as e:  # PIL raises many kinds for a damaged file
        raise UserError(
            f"{path}: damaged or not an image ({' '.join(str(e).split())[:120]}); "
            "remove it, or go on without it with --skip_damaged"
        ) from e


def read_rgb(path: Path | str) -> Image.Image:
    """Decode one file to an RGB PIL image, EXIF orientation applied.  Raises UserError naming a damaged
    file."""
    with _naming(path), Image.open(path) as image:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):  # Pillow would cut 16-bit grey off at 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return image.convert("RGB")


def center_crop_resize(image: Image.Image, crop: int, size: int) -> Image.Image:
    """Short side up to `crop` where the photo is smaller, centre crop `crop` x `crop`, resize to `size`
    (bilinear, antialiased).

    PIL image in, PIL image out. crop 0 takes the largest centred square of the photo.
    """
    crop = crop or min(image.size)
    w, h = image.size
    if min(w, h) < crop:
        scale = crop / min(w, h)
        image = image.resize((max(crop, round(w * scale)), max(crop, round(h * scale))), Image.BILINEAR)
        w, h = image.size
    left, top = int(round((w - crop) / 2.0)), int(round((h - crop) / 2.0))  # as torchvision's CenterCrop
    image = image.crop((left, top, left + crop, top + crop))
    return image if crop == size else image.resize((size, size), Image.BILINEAR)


def to_float(array: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, 3) or (H, W, 3) array -> float32 (N, 3, H, W) or (3, H, W) tensor in [-1, 1]."""
    # by numpy: threads that read ahead do this, see common.ahead
    x = np.ascontiguousarray(np.moveaxis(np.asarray(array), -1, -3)).astype(np.float32)
    x /= 127.5
    x -= 1
    return torch.from_numpy(x)


def to_bytes(x: torch.Tensor) -> torch.Tensor:
    """float (..., 3, H, W) in [-1, 1] -> uint8 of that shape, rounded to the nearest grey level, on its
    device."""
    return x.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def to_uint8(x: torch.Tensor) -> np.ndarray:
    """float (..., 3, H, W) in [-1, 1] -> uint8 (..., H, W, 3) array, rounded to the nearest grey level.

    Raises: RunError for images that are not finite numbers, which would become black ones
    """
    return to_array(to_bytes(x), are_finite(x))


def are_finite(x: torch.Tensor) -> torch.Tensor:
    """Whether all numbers of x are finite, as a tensor on its device: nobody waits for the answer, see
    to_array."""
    return x.detach().isfinite().all()


def to_array(x: torch.Tensor, finite: torch.Tensor) -> np.ndarray:
    """uint8 tensor (..., 3, H, W) -> uint8 array (..., H, W, 3).

    Args:   finite  are_finite of the images that x was made of
    Raises: RunError if they were not
    """
    array = np.ascontiguousarray(np.moveaxis(x.cpu().numpy(), -3, -1))
    if not finite:
        raise RunError(
            "an image is not made of finite numbers (NaN or infinity) and is not saved: the network that made"
            " it overflows; try --precision fp32, or other weights"
        )
    return array


def quantise(x: torch.Tensor) -> torch.Tensor:
    """Round to the 8-bit grid, range and shape kept: what a saved and reloaded image would be."""
    return x.add(1).mul(127.5).round().clamp(0, 255).div(127.5).sub(1)


def check_range(x: torch.Tensor) -> None:
    """Raises ValueError if x is not (N, 3, H, W) float in [-1, 1] (an image still in [0, 255], for
    example)."""
    if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
        raise ValueError(f"expected float images (N, 3, H, W), found {tuple(x.shape)} {x.dtype}")
    low, high = float(x.min()), float(x.max())
    if not (low >= -1 - 1e-4 and high <= 1 + 1e-4):
        raise ValueError(f"expected images in [-1, 1], found [{low:.3g}, {high:.3g}]")


def save_png(path: Path | str, array: np.ndarray, note: dict | None = None) -> None:
    """Write a uint8 (H, W, 3) array as PNG under a temporary name, then rename.  note: JSON dict that goes
    with it, see read_note."""
    buffer, chunks = io.BytesIO(), PngImagePlugin.PngInfo()
    if note is not None:
        chunks.add_text(NOTE, json.dumps(note))
    # runs of equal bytes alone: faster than any level's search for longer repeats, and smaller for photos
    Image.fromarray(array).save(buffer, format="PNG", compress_level=1, compress_type=RUNS, pnginfo=chunks)
    write_atomic(path, buffer.getvalue())


def read_note(path: Path | str) -> dict | None:
    """The note of a PNG written by save_png, None where it has none; its pixels are not decoded.  Raises
    UserError for a missing or damaged file."""
    with _naming(path), Image.open(path) as image:
        text = image.info.get(NOTE)
        return None if text is None else json.loads(text)


def load_png(path: Path | str) -> np.ndarray:
    """uint8 (H, W, 3) array of a PNG written by save_png."""
    with _naming(path), Image.open(path) as image:
        return np.array(image.convert("RGB"))


def jpeg_round_trip(image: np.ndarray, quality: int) -> np.ndarray:
    """uint8 (H, W, 3) saved as JPEG (Pillow, 4:2:0 chroma, standard tables; quality 1 to 100) and read back,
    the same shape."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(buffer).convert("RGB"))


def make_grid(rows: Sequence[Sequence[torch.Tensor]], pad: int = 2, scale: int = 1) -> np.ndarray:
    """Rows of float images [(3, H, W), ...] in [-1, 1] -> one uint8 (H', W', 3) picture, white between the
    cells."""
    cells = [[to_uint8(cell) for cell in row] for row in rows]
    h, w, _ = cells[0][0].shape
    columns = max(map(len, cells))
    grid = np.full((len(cells) * (h + pad) + pad, columns * (w + pad) + pad, 3), 255, np.uint8)
    for r, row in enumerate(cells):
        for c, cell in enumerate(row):
            top, left = pad + r * (h + pad), pad + c * (w + pad)
            grid[top : top + h, left : left + w] = cell
    return grid.repeat(scale, 0).repeat(scale, 1)
