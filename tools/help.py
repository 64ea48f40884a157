"""Write what each command answers to --help, one file a command, 100 columns wide.

reads   every file with `if __name__ == "__main__":`, at the top and in the rooms
writes  docs/help/NAME.txt (split_dataset.txt, models.stargan.train.txt, attacks.txt); files of commands that
        are no more are removed

  python -m tools.help

The texts are those of Python 3.11, whose argparse lays out help as these files have it.
"""

import contextlib
import io
import os
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from common import cli, files

ROOT = Path(__file__).resolve().parent.parent
ROOMS = "attacks common evaluation faces metrics models pipeline purify report tools".split()
WIDTH = 100
PYTHON = (3, 11)


@dataclass(frozen=True, kw_only=True)
class Options:
    out: Path
    debug: bool


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="tools.help", description=__doc__)
    p.add_argument("--out", type=Path, default=Path("docs/help"), metavar="DIR", help="where the texts go")
    return cli.resolve(Options, p.parse_args(argv))


def commands(root: Path = ROOT) -> dict[str, Path]:
    """Name, as it is typed without .py or after `python -m`, -> file, of every command below `root`."""
    places = [*root.glob("*.py"), *(p for room in ROOMS for p in (root / room).rglob("*.py"))]
    return {
        ".".join(p.relative_to(root).with_suffix("").parts).removesuffix(".__main__"): p
        for p in sorted(places)
        if '\nif __name__ == "__main__":\n' in p.read_text(encoding="utf-8")
    }


def help_of(path: Path) -> str:
    """What the command of a file prints when it is run with --help, in this process."""
    printed = io.StringIO()
    with (
        mock.patch.dict(os.environ, COLUMNS=str(WIDTH), NO_COLOR="1"),
        mock.patch.object(sys, "argv", [path.name, "--help"]),
        contextlib.redirect_stdout(printed),
    ):
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as stop:
            if stop.code:
                raise cli.RunError(f"{path}: --help ends with exit code {stop.code}") from None
    return "".join(line.rstrip() + "\n" for line in printed.getvalue().splitlines())


def main(argv: list[str] | None = None) -> None:
    out = parse_args(argv).out
    if sys.version_info[:2] != PYTHON:
        raise cli.UserError(
            f"Python {sys.version_info[0]}.{sys.version_info[1]} lays out help in another way; run this with"
            f" Python {PYTHON[0]}.{PYTHON[1]}, whose texts docs/help holds"
        )
    texts = {f"{name}.txt": help_of(path) for name, path in commands().items()}
    files.make_folder(out)
    for stale in {p.name for p in out.glob("*.txt")} - set(texts):
        (out / stale).unlink()
    for name, text in texts.items():
        files.write_atomic(out / name, text)
    print(f"{out}: help of {len(texts)} commands")


if __name__ == "__main__":
    cli.run(main)
