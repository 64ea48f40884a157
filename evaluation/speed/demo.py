"""The rows of the demo's networks: our order of work against the plain one."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from common.distributed import Context
from evaluation import sides
from evaluation.speed.processes import time_processes
from faces.celeba import FaceFolder
from models.translators import Translator

AIMS = {
    "attack": 7,
    "attack-bf16": 7,
    "dadfi": 50,
    "one-step": 30,
    "ddpm": 8,
    "loading": 10,
    "detector": 5,
    "processes": 0.9,
}


def line(name: str, m: dict) -> str:
    """One printed row."""
    digits = 2 if AIMS[name] < 1 else 1
    text = f"{name:12s} {m['seconds']:9.4f}s {m['reference_seconds']:9.4f}s {m['ratio']:7.{digits}f}x  "
    text += f"{m['ratio_low']:.{digits}f} - {m['ratio_high']:.{digits}f}".ljust(16) + f" >= {AIMS[name]}x"
    return text + (
        f"   linf {m['linf']:.4f} ({m['reference_linf']:.4f}), l2 of the fakes {m['l2']:.4f}"
        f" ({m['reference_l2']:.4f})"
        if "l2" in m
        else ""
    )


def measure(
    rows: Sequence[str],
    faces: FaceFolder,
    num_images: int,
    num_decoded: int,
    translator: Translator,
    weights: dict[str, str],
    repeats: int,
    diffpure_start: int,
    ctx: Context,
    folder: Path,
    compile: str,
) -> Iterator[dict[str, dict]]:
    """Yields dicts name -> figures, as the record holds them, one comparison after the other.

    Args: rows  of AIMS, those that are wanted;  weights  {"gan", "attack", "diffusion", "one_step": file};
          folder  scratch;  compile  of --compile, for the attack
    """
    attributes = faces.selected_attrs
    some, many = faces.subset(faces.names[:num_images]), faces.subset(faces.names[:num_decoded])

    def clock(work):
        return sides.seconds_of(work, ctx.device)

    def asked(*names):
        return bool(set(names) & set(rows))

    def only(figures):
        return {name: m for name, m in figures.items() if name in rows}

    both = sides.Attacks(some, attributes, translator, ctx, folder / "attacked", compile)
    with torch.no_grad():
        translator(both.x[:1], both.c[:1])
    if asked("attack", "attack-bf16"):
        yield only(sides.time_attack(both, repeats, clock))
    if asked("dadfi"):
        yield {"dadfi": sides.time_dadfi(both, weights["attack"], repeats, clock)}
    if asked("loading"):
        yield {"loading": sides.time_loading(many, faces.crop, faces.size, repeats, clock)}
    if asked("detector"):
        yield {"detector": sides.time_detector(many, faces.size, ctx, repeats, clock)}
    if asked("one-step", "ddpm"):
        pair = (weights["one_step"], weights["diffusion"])
        yield only(sides.time_purifiers(*pair, diffpure_start, both.x, some.names, ctx, repeats, clock))
    if asked("processes"):
        crops = folder / "crops"
        yield {"processes": time_processes(faces, attributes, weights["gan"], num_images, crops, repeats)}
