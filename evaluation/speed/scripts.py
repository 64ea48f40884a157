"""What the shell scripts of CelebA would run: each is run with a recorder in place of Python, and its
commands are parsed by the scripts that they name."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from evaluation.speed.trainings import ROOT, of_script, parse_script
from models.stargan import train as stargan_trainer

RECORDER = """#!/bin/sh
line=$(printf '%s\\037' "$@"); printf '%s\\n' "$line" >> "$RECORD"
"""


def record(script: str, folder: Path, words: Sequence[str] = ()) -> list[list[str]]:
    """The command lines of a shell script at the top, in their order; nothing is run.

    Variables of the environment that the script reads, DEFENSES for example, count; where photos, translator
    and results are is made up, below `folder`.
    Raises: UserError, with what the script says, if it refuses
    """
    for name in ("photos/images", "photos/list_attr_celeba.txt", "G.ckpt", "python", "record"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("images"):
            path.mkdir(exist_ok=True)
        else:
            path.write_text(RECORDER if name == "python" else "")
    (folder / "python").chmod(0o755)
    made_up = {"PYTHON": str(folder / "python"), "RECORD": str(folder / "record"), "GPUS": "1"}
    made_up |= {"CELEBA": "photos", "GAN": "G.ckpt", "DATA": "split", "RESULTS": "results"}
    done = subprocess.run(
        ["sh", str(ROOT / script), *words],
        cwd=folder,
        env={**os.environ, **made_up},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{script}: {last.removeprefix('error: ')}")
    return [line.split("\037")[:-1] for line in (folder / "record").read_text().splitlines()]


def name_of(command: Sequence[str]) -> str:
    """train_defense, models.stargan.train, ...: which command a recorded line names."""
    return command[1] if command[0] == "-m" else Path(command[0]).stem


def options_of(command: Sequence[str]) -> list[Any]:
    """The options that a recorded line stands for, one for each defence of a test; nothing is read.

    Raises: UserError for a command that no plan knows
    """
    name = name_of(command)
    if name == "models.stargan.train":
        return [stargan_trainer.parse_args(list(command[2:]))]
    words = list(command[1:])
    extra = {
        "train_defense": ["--defense_weights", "weights"] if "one-step" in words else [],
        "test_defense": [],
        "train_detector": ["--weights", "none"],
    }
    if name not in extra:
        raise UserError(f"{name}: no plan knows what this command costs")
    parsed = parse_script(f"{name}.py", [*words, *extra[name]])
    return parsed if isinstance(parsed, list) else [parsed]


def parts_of(photos: int, command: Sequence[str]) -> dict[str, int]:
    """{"a", "b", "c"}: photos in each part, as split_dataset.py of a recorded line divides that many.

    Raises: UserError for too few of them
    """
    at = command.index("--ratios")
    ratios = [float(word) for word in command[at + 1 : at + 4]]
    ends = of_script("split_dataset.py", "boundaries")(photos, ratios)
    counts = dict(zip("abc", [b - a for a, b in zip([0, *ends], ends, strict=False)], strict=True))
    if min(counts.values()) < 1:
        raise UserError(f"--photos {photos}: too few for a split of {' : '.join(map(str, ratios))}")
    return counts
