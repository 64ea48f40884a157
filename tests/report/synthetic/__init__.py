"""Made-up records of the real shape, for tests of what reads records."""

import json

import numpy as np
from PIL import Image

from common.declared import Look
from report import comparison, record
from report.looks import Looks
from synthetic.faces import defense, detector, disruption, ignoring, met
from synthetic.samples import filtering, scan

__all__ = ["defense", "detector", "disruption", "filtering", "ignoring", "met", "scan"]

DEFENCES = {
    "none": "#333333",
    "jpeg": "#e8850c",
    "blur": "#8c5a2b",
    "defensive-model-1": "#d62f5f",
    "defensive-model-2": "#d62f5f",
    "ddpm": "#1f6fc4",
    "diffpure": "#8451c9",
    "one-step-plain": "#9aa51c",
    "one-step": "#14843c",
    "adv-train": "#0e9aa0",
    "both": "#5f7f8f",
}
ATTACKS = {
    "none": Look("undisturbed", "#5b6068", 0),
    "random-sign": Look("random sign", "#8a9099", 10),
    "gaussian": Look("gaussian", "#b9bec5", 20),
    "universal": Look("universal", "#e8850c", 30),
    **{name: Look(name, "#1f6fc4", 40) for name in ("fgsm", "bim", "pgd", "mim")},
    "dadfi": Look("DADFI", "#14843c", 90),
}
LOOKS = Looks(
    defences={name: Look(name, colour, place) for place, (name, colour) in enumerate(DEFENCES.items())},
    attacks=ATTACKS,
    without_translator=("none", "gaussian", "random-sign", "feature", "universal", "dadfi"),
)


def compare_runs(*folders):
    """The comparison of some folders with looks as the project declares them."""
    return comparison.compare(*folders, looks=lambda: LOOKS)


def save(folder, found, number=0, grid=False):
    """Write a record where the run that makes it would; returns its path."""
    c = found.config
    last = {"depois": lambda: c["poison"], "terd": lambda: c["schedule"]}.get(
        found.kind, lambda: f"{c['attack']}-eps{c['eps']}"
    )
    run = folder / found.name / found.dataset / "stargan" / "none" / last()
    while (run / f"{number:03d}").exists():
        number += 1
    run = run / f"{number:03d}"
    run.mkdir(parents=True)
    record.write(run / record.FILE, found)
    if grid:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 1200, 3), dtype=np.uint8)).save(
            run / "grid.png"
        )
    return run / record.FILE


def as_dict(path):
    return json.loads(path.read_text())
