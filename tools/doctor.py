"""Is this machine ready: Python, packages, processors, memory, disk, shipped weights, data. The table can be
pasted into a bug report.

reads   requirements.txt, models/weights.yaml, and the data and weights that are named
writes  nothing

Exit code 0 when the project is usable here; 2 when something needed is missing (the line says what to do).

  python -m tools.doctor
  python -m tools.doctor --data_dir dataset/CelebA --gan_weights 200000-G.ckpt
"""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OK, NOTE, MISSING = "ok", "note", "MISSING"  # a note is nothing that stops the demo
DISK_GB, MEMORY_GB = 2, 4  # what demo.sh and the tests take, with room


Row = tuple[str, str, str, str]  # OK, NOTE or MISSING; what; what was found; what to do about it


@dataclass(frozen=True, kw_only=True)
class Options:
    data_dir: str | None
    result_dir: str
    gan_weights: str | None
    defense_weights: str | None
    inception_weights: str | None
    debug: bool


def parse_args(argv: list[str] | None = None) -> Options:
    from common import cli

    p = cli.ArgumentParser(prog="tools.doctor", description=__doc__)
    p.add_argument(
        "--data_dir", default=None, metavar="DIR", help="a split; default: dataset/CelebA if it is there"
    )
    p.add_argument("--result_dir", default="results", metavar="DIR", help="where run folders would go")
    for flag in ("gan", "defense", "inception"):
        p.add_argument(f"--{flag}_weights", default=None, metavar="FILE", help="a weight file to look at")
    return cli.resolve(Options, p.parse_args(argv))


def version(text: str) -> tuple[int, ...]:
    """`2.11.0+cpu` -> (2, 11, 0)."""
    numbers = [int(n) for n in re.findall(r"\d+", text.split("+")[0])[:3]]
    return tuple(numbers + [0] * (3 - len(numbers)))


def fits(installed: str, bounds: str) -> bool:
    """Whether a version lies inside bounds like `>=2.6,!=2.13.0`."""
    compare = {
        ">=": tuple.__ge__,
        "<=": tuple.__le__,
        "==": tuple.__eq__,
        "!=": tuple.__ne__,
        "<": tuple.__lt__,
        ">": tuple.__gt__,
    }
    return all(
        compare[op](version(installed), version(bound))
        for op, bound in re.findall(r"(>=|<=|==|!=|<|>)([\d.]+)", bounds)
    )


def requirements(text: str) -> list[tuple[str, str]]:
    """[(package, bounds)] of a requirements.txt."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [re.match(r"([\w.-]+?)\s*((?:[<>=!].*)?)$", line).groups() for line in lines if line]


def check_python() -> Iterator[Row]:
    yield (
        OK if sys.version_info >= (3, 11) else MISSING,
        "Python",
        platform.python_version(),
        "install Python 3.11 or newer",
    )
    yield OK, "system", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores", ""


def check_packages(path: Path | str = ROOT / "requirements.txt") -> Iterator[Row]:
    text = Path(path).read_text()
    not_needed = re.findall(r"^([\w.-]+).*# (?:tests|checks)\b", text, re.MULTILINE)  # to use the project
    for name, bounds in requirements(text):
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = None
        good = installed is not None and fits(installed, bounds)
        yield (
            OK if good else NOTE if name in not_needed else MISSING,
            name,
            installed or "not found",
            f"wanted {bounds or 'any version'}: pip install -r requirements-lock.txt",
        )


def check_devices() -> Iterator[Row]:
    try:
        import torch
    except Exception as e:  # a wheel that does not load: more than ImportError
        yield (
            MISSING,
            "torch loads",
            f"no ({' '.join(str(e).split())[:80]})",
            "pip install -r requirements-lock.txt",
        )
        return
    yield OK, "torch threads", str(torch.get_num_threads()), ""
    if not torch.cuda.is_available():
        yield (
            NOTE,
            "GPU",
            (
                "none"
                if torch.version.cuda is None
                else f"none usable (torch is built for CUDA {torch.version.cuda})"
            ),
            "not needed: everything runs on the CPU, slower",
        )
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(i)
        bf16 = properties.major >= 8  # earlier ones emulate it
        yield (
            OK,
            f"cuda:{i}",
            (
                f"{properties.name}, {properties.total_memory / 2**30:.1f} GB, bf16"
                f" {'yes' if bf16 else 'no, use --precision fp32'}"
            ),
            "",
        )
    fast = any(flag in _cpu_flags() for flag in ("avx512_bf16", "amx_bf16"))
    yield OK, "bf16 on the CPU", "in hardware" if fast else "works, without special hardware", ""


def _cpu_flags():
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def check_room(result_dir: str | Path) -> Iterator[Row]:
    from common import files
    from common.cli import UserError

    try:
        files.check_writable(result_dir)
        yield OK, "results folder", f"{result_dir} can be written", ""
    except UserError as e:
        yield MISSING, "results folder", str(e), "give --result_dir DIR"
    place = Path(result_dir).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    yield (
        OK if free >= DISK_GB else MISSING,
        "free disk",
        f"{free:.1f} GB",
        f"the demo takes up to {DISK_GB} GB; CelebA's caches more",
    )
    memory = _memory_gb()
    if memory is not None:
        yield (
            OK if memory >= MEMORY_GB else NOTE,
            "free memory",
            f"{memory:.1f} GB",
            f"the demo takes up to {MEMORY_GB} GB; lower --batch_size",
        )


def _memory_gb():
    """Memory that a new process can get, or None where the system does not say."""
    try:
        available = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        free = int(available.group(1)) / 2**20
    except (OSError, AttributeError):
        return None
    try:  # a container's limit counts, not the machine's memory
        limit, used = (
            int(Path(f"/sys/fs/cgroup/memory.{n}").read_text()) / 2**30 for n in ("max", "current")
        )
        return min(free, limit - used)
    except (OSError, ValueError):
        return free


def check_shipped(root: Path = ROOT) -> Iterator[Row]:
    import yaml

    from common import files
    from tools.export import SHIPPED

    listing, remedy = (
        root / "models" / "weights.yaml",
        "clone again, or make them: sh experiments/demo_weights.sh",
    )
    listed = yaml.safe_load(listing.read_text()) or {} if listing.is_file() else {}
    for name in sorted({f"models/{folder}/demo.safetensors" for folder in SHIPPED} | set(listed)):
        path, row = root / name, listed.get(name)
        if row is None or not path.is_file():
            yield MISSING, name, "not there" if row else "not in models/weights.yaml", remedy
        elif files.sha256(path) != row["sha256"]:
            yield (
                MISSING,
                name,
                f"sha256 {files.sha256(path)[:12]}..., listed {row['sha256'][:12]}...",
                f"damaged or replaced; {remedy}",
            )
        else:
            yield OK, name, f"{path.stat().st_size / 1e6:.2f} MB, sha256 {row['sha256'][:12]}...", ""


def check_data(data_dir: str | None) -> Iterator[Row]:
    """Only a folder that the user named is needed."""
    folder, lost = Path(data_dir or "dataset/CelebA"), MISSING if data_dir else NOTE
    remedy = f"python split_dataset.py --folder_path /path/to/CelebA/img_align_celeba --output_dir {folder}"
    for part in ("images_a", "images_b", "images_c"):
        if not (folder / part).is_dir():
            yield (
                lost,
                f"data {folder}",
                f"{part} is not there",
                remedy + ("" if data_dir else " (the demo draws its own faces)"),
            )
            return
    counts = [
        sum(1 for e in os.scandir(folder / p) if e.name.lower().endswith((".jpg", ".jpeg", ".png")))
        for p in ("images_a", "images_b", "images_c")
    ]
    yield OK, f"data {folder}", "A, B, C: " + ", ".join(f"{n:,}" for n in counts) + " photos", ""


def check_weights(
    gan_weights: str | None = None, defense_weights: str | None = None, inception_weights: str | None = None
) -> Iterator[Row]:
    """A row for each file that is named."""
    from common.cli import UserError
    from models.translators import TRANSLATORS
    from tools.describe import describe

    named = {
        "gan_weights": (gan_weights, [f"{name}-generator" for name in TRANSLATORS]),
        "defense_weights": (defense_weights, ["diffusion", "one-step", "one-step-robust", "dae"]),
        "inception_weights": (inception_weights, ["inception"]),
    }
    for flag, (path, kinds) in named.items():
        if path is None:
            continue
        try:
            what = describe(path)
            problem = what.get("not_usable") or (
                "" if what["kind"] in kinds else f"--{flag} takes {' or '.join(kinds)}"
            )
            yield MISSING if problem else OK, f"--{flag}", f"{what['kind']}, {what['family']}", problem
        except UserError as e:
            yield MISSING, f"--{flag}", str(e), "give another file"


def table(rows: list[Row]) -> str:
    """Aligned lines; what to do stands under a row that is not in order."""
    width = max(len(row[1]) for row in rows)
    lines = []
    for status, what, found, remedy in rows:
        lines.append(f"{status:8s} {what:{width}s}  {found}")
        if status != OK and remedy:
            lines.append(f"{'':8s} {'':{width}s}  -> {remedy}")
    return "\n".join(lines)


def verdict(rows: Iterable[Row]) -> tuple[str, int]:
    """(last line, exit code)."""
    lost = [row[1] for row in rows if row[0] == MISSING]
    return (f"not ready: {', '.join(lost)}", 2) if lost else ("ready: bash demo.sh", 0)


def main(argv: list[str] | None = None) -> int:
    options = parse_args(argv)
    rows = [*check_python(), *check_packages()]
    if verdict(rows)[1] == 0:  # without the packages the rest cannot be looked at
        rows += [
            *check_devices(),
            *check_room(options.result_dir),
            *check_shipped(),
            *check_data(options.data_dir),
            *check_weights(options.gan_weights, options.defense_weights, options.inception_weights),
        ]
    line, code = verdict(rows)
    print(table(rows) + "\n" + line)
    return code


def start() -> None:
    """As every script, but it must speak even where the packages of the command line itself are missing."""
    try:
        from common import cli
    except ImportError:
        rows = [*check_python(), *check_packages()]
        line, code = verdict(rows)
        print(table(rows) + "\n" + line)
        sys.exit(code or 1)
    cli.run(main)


if __name__ == "__main__":
    start()
