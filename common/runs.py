"""Numbered run folders: options.yaml first, log.jsonl while it runs, the last file marks the run as
finished."""

import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

import yaml

from common import cli, compiling, files, lock
from common.cli import RunOptions, UserError
from common.distributed import Context

# equal results whatever their value
MAY_CHANGE = ("resume", "dry_run", "config", "debug", "num_workers", "device", "compile", "cache_dir")
# options that older runs do not have, with what these did; of others they had today's default
ADDED = {
    "gan_type": "stargan",
    "upsampling": "transposed",
    "known_noise": False,
    # of attacks that they did not have
    "apgd_steps": 50,
    "apgd_restarts": 2,
    "square_queries": 300,
    "attack_grid": 8,
    # of detectors
    "training_fakes": "translator",
    "test_gan": [],
    "train_gan": [],
    "recompress": [],
    "unpaired": False,
    "gradient": "full",
    "eot": 1,
}
PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "guided-diffusion-sdk",
    "torchmetrics",
    "kornia",
    "scikit-learn",
    "pillow",
)


class Run:
    """One numbered folder. `finished_by` names the file whose presence means that the run is complete."""

    def __init__(self, folder: Path | str, finished_by: str, resumed: bool = False):
        self.folder, self.finished_by, self.resumed = Path(folder), finished_by, resumed
        self.started = time.time()

    @property
    def finished(self) -> bool:
        return files.is_whole(self.folder / self.finished_by)

    @property
    def last(self) -> Path:
        return self.folder / "last.pt"

    @property
    def previous(self) -> Path:
        """The state before the last one, should that be damaged."""
        return self.folder / "previous.pt"

    def log(self, **values: object) -> None:
        """Append one line to log.jsonl."""
        rounded = {k: round(v, 8) if isinstance(v, float) else v for k, v in values.items()}
        files.append(self.folder / "log.jsonl", json.dumps(rounded) + "\n")

    def logged(self) -> list[dict]:
        """The lines of log.jsonl, [] without one; a line that a killed process left unfinished, or that is
        damaged, is left out."""
        path, lines = self.folder / "log.jsonl", []
        for line in path.read_bytes().splitlines() if path.is_file() else ():
            try:
                values = json.loads(line)
            except ValueError:
                continue
            lines += [values] if isinstance(values, dict) else []
        return lines

    def truncate_log(self, step: int) -> None:
        """Forget the lines after `step`: a resumed run writes them again."""
        path = self.folder / "log.jsonl"
        if path.exists():
            kept = [line for line in self.logged() if line.get("step", 0) <= step]
            files.write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept))

    def logged_seconds(self) -> float:
        """Seconds that the run has taken by its log, its interrupted parts together; 0.0 without a log."""
        seconds = [line["seconds"] for line in self.logged() if "seconds" in line]
        # a resumed part counts from 0 again
        return sum((a for a, b in zip(seconds, [*seconds[1:], 0.0], strict=False) if b < a), 0.0)


@cache
def versions() -> dict[str, str | None]:
    """Library versions, interpreter and platform, for records."""
    numbers = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            numbers[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            numbers[name] = None
    return numbers


@cache  # the code that runs stays what it was
def commit() -> str | None:
    """Short commit of the checkout, `+` when files differ from it, None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        sha = subprocess.run(
            ["git", "-C", here, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "-C", here, "status", "--porcelain", "-uno"], capture_output=True, text=True
        ).stdout.strip()
        return sha + ("+" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def command() -> str:
    """The command line of this process, as it could be typed again."""
    words = sys.orig_argv[1:]
    if words[:1] == ["-m"]:
        return " ".join(["python", *words])
    return " ".join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])


def origin() -> dict:
    """What made a result: the command, the commit of the code, the versions of its libraries."""
    return {"command": command(), "commit": commit(), "versions": versions()}


def options_of(options: object) -> dict:
    """JSON-typed options: the fields of a command's frozen dataclass."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}


DAMAGED = "options.yaml is missing or damaged"


def _differences(options, folder, may_change=()):
    """["name: saved -> given"] of the options that keep `folder` from being continued, [DAMAGED] where it
    does not say its own."""
    try:
        header = yaml.safe_load((folder / "options.yaml").read_text(encoding="utf-8"))
        saved, begun_in = dict(header["options"]), str(header.get("cwd", "."))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, ValueError):
        return [DAMAGED]
    added = {k: ADDED.get(k, v if k in cli.at_default else None) for k, v in options.items()}
    keys = [k for k in {**saved, **options} if k not in (*MAY_CHANGE, *may_change)]
    saved = {**added, **saved}
    return [
        f"{k}: {saved.get(k)} -> {options.get(k)}"
        for k in keys
        if not _alike(saved.get(k), options.get(k), begun_in)
    ]


def _alike(saved, given, begun_in):
    """Whether two values of an option are the same, or spell the same path: ds/, ./ds and /data/ds."""
    if isinstance(saved, list) and isinstance(given, list):
        return len(saved) == len(given) and all(
            _alike(a, b, begun_in) for a, b in zip(saved, given, strict=True)
        )
    if isinstance(saved, str) and isinstance(given, str) and saved and given and saved != given:
        return os.path.realpath(os.path.join(begun_in, saved)) == os.path.realpath(given)
    return saved == given


def _nearest(options, folders, may_change):
    """One line on the run that differs least, "" where there is none that says its options."""
    found = [(_differences(options, p, may_change), p) for p in reversed(folders)]
    found = [(changed, p) for changed, p in found if changed != [DAMAGED]]
    if not found:
        return ""
    changed, folder = min(found, key=lambda pair: len(pair[0]))
    more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f"{folder} has other options ({'; '.join(changed[:3])}{more})"


def numbered(parent: Path | str) -> list[Path]:
    """The run folders 000, 001, ... of a parent, oldest first."""
    parent = Path(parent)
    return (
        sorted((p for p in parent.iterdir() if p.is_dir() and p.name.isdigit()), key=lambda p: int(p.name))
        if parent.is_dir()
        else []
    )


def _tidy(parent):
    """Remove what killed processes left: folders that never got their options, and unfinished ones."""
    files.sweep(parent)
    for folder in numbered(parent):
        if not (folder / "options.yaml").exists():
            files.sweep(folder)
            with suppress(OSError):  # holds something else
                folder.rmdir()


def open_run(
    parent: Path | str,
    options: object,
    ctx: Context,
    finished_by: str = "record.json",
    may_change: tuple[str, ...] = (),
) -> Run:
    """Claim the next numbered folder below `parent`, or continue one as options.resume says.

    options.resume: None = a new run; "auto" = the newest unfinished run with equal options, a finished one
    with equal options (a no-op for the caller, see Run.finished), else a new run; a path = that run.
    may_change: names of the command's own options that a continued run may have otherwise.
    Raises UserError if the named run is missing or belongs to other options (the difference is shown), and
    for --compile on where nothing can be compiled.
    """
    compiling.check(getattr(options, "compile", "off"), ctx.device)
    values, resume = options_of(options), getattr(options, "resume", None)
    if not ctx.is_main:
        place, resumed = ctx.broadcast(None)
        return Run(place, finished_by, resumed)
    folder = None
    _tidy(Path(parent))
    if resume == "auto":
        there = numbered(parent)
        equal = [p for p in there if not _differences(values, p, may_change)]
        unfinished = [p for p in equal if not files.is_whole(p / finished_by)]
        folder = (unfinished or equal or [None])[-1]
        near = _nearest(values, [p for p in there if not files.is_whole(p / finished_by)], may_change)
        if folder is None and near:
            ctx.print(f"NOTE: --resume begins a new run: the nearest unfinished one, {near}")
    elif resume:
        folder = Path(resume)
        if not folder.is_dir():
            raise UserError(f"--resume {resume}: no such run folder")
        changed = _differences(values, folder, may_change)
        if changed:
            raise UserError(
                f"--resume {resume}: that run has other options ({'; '.join(changed)}); drop --resume, or"
                " restore these flags"
            )
    if folder is not None:
        run = Run(folder, finished_by, resumed=True)
        if not run.finished:
            lock.hold(run, folder)
            for place, *_ in os.walk(folder):
                files.sweep(place)
    else:
        run = _new_run(files.make_folder(parent), values, finished_by, ctx)
    ctx.broadcast((str(run.folder), run.resumed))
    ctx.print(f"run folder: {run.folder}{' (continued)' if run.resumed else ''}")
    return run


def _new_run(parent, values, finished_by, ctx):
    """The next numbered folder, which has its options from the first moment."""
    header = {"options": values, **origin(), "cwd": os.getcwd()}
    header |= {"world_size": ctx.world, "started": stamp()}
    made = files.temporary_name(parent / f"run{threading.get_ident()}")
    made.mkdir()
    try:
        files.write_atomic(made / "options.yaml", yaml.safe_dump(header, sort_keys=False), durable=True)
        number = int(numbered(parent)[-1].name) + 1 if numbered(parent) else 0
        while True:
            run = Run(parent / f"{number:03d}", finished_by)
            try:
                lock.hold(run, run.folder)
                os.rename(made, run.folder)
                break
            except (UserError, OSError) as e:
                if isinstance(e, OSError) and not run.folder.exists():
                    raise
                number += 1  # another process was faster
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    files.sync_folder(parent)
    return run


def show(options: object, ctx: Context) -> None:
    """Print a command's resolved options."""
    ctx.print(json.dumps(options_of(options), indent=2))


def begin(
    options: RunOptions,
    ctx: Context,
    parent: Path | str,
    finished_by: str = "record.json",
    may_change: tuple[str, ...] = (),
) -> Run | None:
    """Print the options and claim or continue a run folder below `parent`; None where nothing is left to do.

    Nothing is left to do in a dry run, which writes nothing, and in a run that is finished.
    Args:   options  frozen dataclass with dry_run and resume, see open_run;  finished_by  the file that marks
                     a run as finished;  may_change  see open_run
    Raises: UserError as open_run
    """
    show(options, ctx)
    if options.dry_run:
        return None
    run = open_run(parent, options, ctx, finished_by, may_change)
    if run.finished:
        ctx.print(f"this run is finished, nothing to do: {run.folder / finished_by}")
        return None
    return run


def stamp(seconds: float | None = None) -> str:
    """Local time as records have it; of now, or of `seconds` since the epoch."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))


def provenance(started: float, **own: object) -> dict:
    """What a record says of where it comes from: commit, command, versions, times, and `own` (sha256, keys).

    Args: started  seconds since the epoch, Run.started for example
    """
    return {**origin(), **own, "started": stamp(started), "finished": stamp()}
