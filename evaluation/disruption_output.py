"""What evaluation.disruption shows of its results: a grid of pictures and a few lines."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from common import images
from faces.celeba import FaceFolder
from metrics.score import Score
from models.victims import Victim
from pipeline.attacked import AttackedPhotos
from report.record import Record

SHOWN = 6  # photos in grid.png
AMPLIFIED = 10  # times the change of a photo, in grid.png


def save_grid(
    path: Path | str,
    faces: FaceFolder,
    crafted: Sequence[tuple[AttackedPhotos, Sequence[Victim]]],
    scores: Mapping[str, Score],
    device: torch.device,
) -> None:
    """Each photo, and for each protected image of it: that image, its change amplified, and each translator's
    fake of both (one domain after the other)."""
    rows = []
    for n, name in enumerate(faces.names[:SHOWN]):
        x, labels = faces.floats([n]).to(device), faces.labels[[n]].to(device)
        row = [x]
        for photos, victims in crafted:
            y = photos.floats([name]).to(device)
            row += [y, AMPLIFIED * (y - x)]
            for victim in victims:
                conditions = victim.conditions(labels)
                row += [scores[victim.name].fakes(image, conditions[n % len(conditions)]) for image in (x, y)]
        rows.append([cell[0].cpu() for cell in row])
    images.save_png(path, images.make_grid(rows))


def summary(result: Record) -> str:
    def line(name, m):
        return (
            f"{name:15s} l2 {m['l2']:.5f} {m['l2_ci']}, rmse {m['rmse']:.4f}, disrupted pairs"
            f" {m['prop_dist']:.3f}"
        )

    photo = result.metrics["input"]
    return (
        "\n".join(line(name, m) for name, m in result.per_group["translator"].items())
        + f"\nphoto           PSNR {photo['psnr']:.1f} dB, SSIM {photo['ssim']:.3f}, linf"
        f" {photo['linf']:.4f}; the least broken: {result.metrics['worst']['translator']}"
    )
