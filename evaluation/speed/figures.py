"""What a plan is computed from: figures of records of this device, and those that are measured for it."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from common import images
from common.errors import UserError
from evaluation.speed import official, scale
from evaluation.speed.plan import SCORED, Measured, Stage
from faces.celeba import FaceFolder
from report import record

REACH = 6  # grey levels of a disruption of eps 0.05
SCORED_SIZES = (8, 40)  # photos of test_defense.py, where no scale record tells what a photo costs


def newest(result_dir: str | Path | None, name: str, image_size: int, device: str) -> record.Record | None:
    """The newest benchmark record of a name, image size and device below a folder; None without one."""
    paths = Path(result_dir).rglob(record.FILE) if result_dir and Path(result_dir).is_dir() else []
    found = []
    for path in paths:
        try:
            one = record.read(path)
        except UserError:
            continue
        if (one.kind, one.name, one.config.get("image_size"), one.cost.get("device")) == (
            "benchmark",
            name,
            image_size,
            device,
        ):
            found.append(one)
    return max(found, key=lambda one: str(one.provenance.get("finished")), default=None)


def rows_of(stages: Iterable[Stage]) -> list[str]:
    """The rows that a plan needs, SCORED not among them."""
    return sorted({row for stage in stages for row in stage.work} - {SCORED}, key=official.place)


def per_photo(figures: dict) -> dict:
    """A row's figures as a plan takes them."""
    photos = figures["photos_per_unit"]
    return {"seconds": figures["seconds"] / photos, "peak_memory_mb": figures["peak_memory_mb"]}


def bytes_of(faces: FaceFolder, count: int, folder: Path) -> dict[str, float]:
    """{"plain", "disrupted"}: mean bytes of the PNG of a photo, and of it with every value moved by REACH
    grey levels up or down; "crops": bytes of its 8-bit array.  folder  scratch"""
    pixels = faces.load(range(count))
    signs = torch.randint(0, 2, pixels.shape, generator=torch.Generator().manual_seed(0)).numpy() * 2 - 1
    moved = (pixels.astype(np.int16) + REACH * signs).clip(0, 255).astype(np.uint8)
    path, sizes = folder / "photo.png", {"crops": float(pixels[0].nbytes)}
    for kind, some in (("plain", pixels), ("disrupted", moved)):
        written = []
        for one in some:
            images.save_png(path, one)
            written.append(path.stat().st_size)
        sizes[kind] = float(np.mean(written))
    return sizes


def scored(
    told: record.Record | None, folder: Path, image_size: int, crop: int, device: str, num_workers: int
) -> dict:
    """What test_defense.py costs a photo and a defence besides the networks, as a row: of a scale record,
    else of two small runs."""
    if told is not None:
        further, sizes = told.per_group["growth"]["besides_per_further_photo"], told.metrics.values()
    else:
        measured = {}
        for figures in scale.measure(SCORED_SIZES, folder, image_size, crop, device, num_workers):
            measured |= figures
        further, sizes = scale.growth(measured)["besides_per_further_photo"], measured.values()
    return {"seconds": max(further, 0.0), "peak_memory_mb": max(m["peak_memory_mb"] for m in sizes)}


def complete(
    rows: dict[str, dict], scored_row: dict, sizes: dict[str, float], diffpure_start: int
) -> Measured:
    """Figures of records and measurements as a plan takes them."""
    every = {row: per_photo(figures) for row, figures in rows.items()}
    return Measured({**every, SCORED: scored_row}, sizes, diffpure_start)
