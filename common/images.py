"""The one place where images change form: files, 8-bit arrays, float32 (N, 3, H, W) in [-1, 1]."""

import importlib
import io
import json
import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from common import metadata
from common.errors import RunError, UserError
from common.files import write_atomic
from common.listing import gone, some

RUNS = 3  # zlib's strategy Z_RLE
LOOKED_AT = 16  # photos
NOTE = "note"  # keyword of the PNG text chunk
# metadata of photos from anywhere is odd, large or damaged; what keeps a photo from being read is an error
warnings.filterwarnings("ignore", module=r"PIL\b")


def remarks(photos: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Lines that say which photos were more than decoded, of (name, .info["remarks"] of read_rgb)."""
    said = {}
    for name, words in photos:
        for word in words:
            said.setdefault(word, []).append(name)
    return [
        f"{word}: {len(names)} photo{'' if len(names) == 1 else 's'} ({some(names)})"
        for word, names in said.items()
    ]


@contextmanager
def _naming(path):
    """What Pillow raises inside becomes a UserError that names the file, what is wrong and what helps."""
    without = "or go on without it with --skip_damaged"
    try:
        yield
    except FileNotFoundError:
        raise UserError(gone(path)) from None
    except (Image.DecompressionBombError, MemoryError) as e:
        pixels = re.search(r"\d+", str(e))
        raise UserError(
            f"{path}: too large{f' ({int(pixels[0]):,} pixels)' if pixels else ''}, expected at most"
            f" {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; make it smaller, {without}"
        ) from e
    except Exception as e:  # PIL raises many kinds for a damaged file
        if isinstance(e, OSError) and e.strerror:
            raise UserError(f"{path}: cannot be read ({e.strerror}); correct that, {without}") from e
        format_, remedy = metadata.format_without_decoder(_start(path)) or (None, None)
        if isinstance(e, UnidentifiedImageError) and format_:
            raise UserError(
                f"{path}: no decoder for {format_} ({remedy}); do that, save it as JPEG, {without}"
            ) from e
        raise UserError(
            f"{path}: damaged or not an image ({' '.join(str(e).split())[:120]}); remove it, {without}"
        ) from e


def _start(path):
    with open(path, "rb") as f:
        return f.read(32)


def _pixels(file):
    """The decoded image of a path or file object, upright: for an animation its first frame."""
    with Image.open(file) as image:
        try:
            animated = image.format != "MPO" and getattr(image, "is_animated", False)
        except Exception:  # a later frame is damaged, the first is what is used
            animated = True
        image.load()
        image.info["animated"] = animated
        return metadata.upright(image)


def _decode(path):
    try:
        return _pixels(path)
    except Exception as e:
        if isinstance(e, UnidentifiedImageError) and _heif(path):
            return _pixels(path)
        if isinstance(e, Image.DecompressionBombError) or getattr(e, "strerror", None):
            raise
        # of a PNG or a JPEG it may be a comment, a colour profile or EXIF that is at fault
        bare = metadata.without_metadata(Path(path).read_bytes())
        try:
            if bare is not None:
                return _pixels(io.BytesIO(bare))
        except Exception:  # the pixels are: what was said first names it better
            pass
        raise


def _heif(path):
    """Whether it is a HEIC file that can be decoded now."""
    if (metadata.format_without_decoder(_start(path)) or " ")[0] != "HEIC":
        return False
    try:
        pillow_heif = importlib.import_module("pillow_heif")
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def read_rgb(path: Path | str) -> Image.Image:
    """Decode one file to an RGB PIL image: EXIF orientation applied, transparency composed onto white, of
    several frames the first.

    What it did beyond decoding stands in .info["remarks"], see remarks.  Raises UserError naming a file that
    cannot be read.
    """
    with _naming(path):
        image = _decode(path)
        said = ["first frame of several"] if image.info.get("animated") else []
        if image.mode.startswith("I"):  # Pillow would cut 16-bit grey off at 255
            image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
        if image.mode == "F":
            raise ValueError("floating-point grey without a range; save it with 8 bits")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            if image.getextrema()[3][0] < 255:
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
                said.append("transparency composed onto white")
        image = image.convert("RGB")
        image.info = {"remarks": tuple(said)}
        return image


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


def check_crop(paths: Sequence[Path], crop: int) -> None:
    """Refuse a crop for photos of another scale: one that covers less than half of the short side of most
    photos, of which a few are looked at, by their headers.  Raises UserError with the flag that fits."""
    shorts = {}
    for path in paths[:: max(1, len(paths) // LOOKED_AT)] if crop else ():
        try:
            with Image.open(path) as image:
                shorts[path] = min(image.size)
        except Exception:  # what is wrong with it, who decodes it says
            continue
    larger = [path for path, short in shorts.items() if 2 * crop < short]
    if 2 * len(larger) > len(shorts):
        raise UserError(
            f"{larger[0]}: the crop of {crop} pixels (--celeba_crop_size) covers"
            f" {crop / shorts[larger[0]]:.0%} of its short side of {shorts[larger[0]]}, expected half at"
            " least; --celeba_crop_size 0 takes the largest square"
        )


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
