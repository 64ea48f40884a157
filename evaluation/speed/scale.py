"""What test_defense.py costs against the number of photos: a fresh process for each size, nothing cached."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from common import checkpoint, files, seeds
from common.errors import RunError, UserError
from evaluation.speed.trainings import ROOT
from faces.attributes import Attributes, read_attributes, write_attributes
from faces.flags import ATTRIBUTES
from faces.procedural import ATTRIBUTE_FILE, draw_folder, file_name
from models.stargan.network import Generator

SIZES = (250, 1000, 4000, 40000)
DRAWN = 250  # different photos; the others are links to them
TINY = {"conv_dim": 4, "c_dim": len(ATTRIBUTES), "repeat_num": 1}
RUNNER = "from evaluation.speed.child import main; main()"


def check_sizes(sizes: Sequence[int]) -> None:
    """Raises UserError unless there are two or more, each above the one before."""
    if len(sizes) < 2 or any(b <= a for a, b in zip(sizes, sizes[1:], strict=False)):
        raise UserError(
            f"--scale_sizes {' '.join(map(str, sizes))}: expected two sizes or more, each above the one"
            " before"
        )


def make_split(folder: Path, n: int, num_workers: int = 1) -> Path:
    """A split of n photos below `folder`, made where it is not there yet: DRAWN drawn faces and links to them
    in images_b.

    Returns: the split's folder, with the attribute file, written last, in images_b
    """
    distinct = min(DRAWN, n)
    drawn, split = folder / f"drawn-{distinct}", folder / f"split-{n}"
    photos = split / "images_b"
    if (photos / ATTRIBUTE_FILE).is_file():
        return split
    draw_folder(drawn, distinct, seed=0, num_workers=num_workers)
    files.make_folder(photos)
    names = [file_name(i) for i in range(n)]
    for i, name in enumerate(names):
        source = (drawn / "images" / file_name(i % distinct)).resolve()
        if not (photos / name).exists():
            try:
                os.link(source, photos / name)
            except OSError:  # too many links, or a file system without them
                os.symlink(source, photos / name)
    table = read_attributes(drawn / ATTRIBUTE_FILE)
    rows = np.arange(n) % distinct
    write_attributes(photos / ATTRIBUTE_FILE, Attributes(names, table.columns, table.values[rows]))
    return split


def tiny_translator(folder: Path) -> Path:
    """Weights of a StarGAN that costs next to nothing, random."""
    path = folder / "tiny.safetensors"
    if not path.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.derive(0, "scale"))
            network = Generator(**TINY)
        meta = {"kind": "stargan-generator", "attributes": list(ATTRIBUTES), "options": TINY}
        checkpoint.save_weights(path, network.state_dict(), meta)
    return path


def run_child(words: Sequence[str], cost: Path) -> dict:
    """Run a script of this repository in a process of its own; what it cost, see evaluation.speed.child, and
    its wall seconds from start to end.  Raises RunError, with its last line, if it fails."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(cost), *words],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},  # see child.NetworkTime
        capture_output=True,
        text=True,
    )
    wall = time.perf_counter() - began
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunError(f"{Path(words[0]).name} ended with exit code {done.returncode}: {last}")
    return {**json.loads(cost.read_text()), "wall_seconds": wall}


def measure(
    sizes: Sequence[int], folder: Path, image_size: int, crop: int, device: str, num_workers: int
) -> Iterator[dict[str, dict]]:
    """Yields {number of photos: figures}, one size after the other.  folder  scratch, keeps the photos"""
    split, weights = make_split(folder, max(sizes), num_workers), tiny_translator(folder)
    for n in sizes:
        results = folder / f"results-{n}"
        shutil.rmtree(results, ignore_errors=True)
        results.mkdir()
        words = [str(ROOT / "test_defense.py"), "--defense_model_type", "jpeg-75"]
        flags = {"gan_weights": weights, "data_dir": split, "dataset": "scale", "result_dir": results}
        flags |= {"cache_dir": results / "crops", "image_size": image_size, "celeba_crop_size": crop}
        # two steps: what is measured is the way of the photos, not the attack's networks
        flags |= {"limit": n, "device": device, "num_workers": num_workers, "attack_steps": 2}
        flags |= {"batch_size": "auto"}
        words += [str(word) for key, value in flags.items() for word in (f"--{key}", value)]
        cost = run_child(words, results / "cost.json")
        shutil.rmtree(results)
        yield {str(n): figures_of(n, cost)}


def figures_of(n: int, cost: dict) -> dict:
    """A size's part of the record."""
    besides = cost["cpu_seconds"] - cost["networks_cpu_seconds"]
    return {
        **cost,
        "num_images": n,
        "cpu_per_photo": cost["cpu_seconds"] / n,
        "besides_per_photo": besides / n,
    }


def growth(metrics: dict[str, dict]) -> dict:
    """From the first size to the last: memory, and CPU seconds of a further photo, which hold no start-up."""
    every = list(metrics.values())
    first, last = every[0], every[-1]
    more = last["num_images"] - first["num_images"]
    cpu = last["cpu_seconds"] - first["cpu_seconds"]
    networks = last["networks_cpu_seconds"] - first["networks_cpu_seconds"]
    anonymous = [m["peak_anonymous_mb"] for m in (first, last)]
    return {
        "photos": [first["num_images"], last["num_images"]],
        "memory_mb": last["peak_memory_mb"] - first["peak_memory_mb"],
        "anonymous_mb": None if None in anonymous else anonymous[1] - anonymous[0],
        "cpu_per_further_photo": cpu / more,
        "besides_per_further_photo": (cpu - networks) / more,
    }


HEADING = (
    f"{'photos':>8s} {'wall s':>9s} {'CPU s/photo':>12s} {'besides networks':>17s} {'peak RSS MB':>12s}"
    + (f" {'anonymous MB':>13s}")
)


def line(m: dict) -> str:
    """One printed row."""
    text = f"{m['num_images']:8d} {m['wall_seconds']:9.1f} {m['cpu_per_photo']:12.4f}"
    text += f" {m['besides_per_photo']:17.4f} {m['peak_memory_mb']:12.0f}"
    return text + ("" if m["peak_anonymous_mb"] is None else f" {m['peak_anonymous_mb']:13.0f}")


def summary(found: dict) -> str:
    """What follows the table."""
    first, last = found["photos"]
    anonymous = found["anonymous_mb"]
    return (
        f"from {first} to {last} photos: memory {found['memory_mb']:+.0f} MB"
        + ("" if anonymous is None else f" ({anonymous:+.0f} MB that no file stands behind)")
        + f"; a further photo {found['cpu_per_further_photo']:.4f} CPU s,"
        f" {found['besides_per_further_photo']:.4f} of them besides the networks"
    )
