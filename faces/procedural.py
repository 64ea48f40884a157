"""Seeded drawn faces in CelebA's layout: portraits whose attributes are true of the picture, to try
everything without CelebA.

writes  <out>/images/000001.jpg ...       178 x 218 JPEG, eyes where CelebA's aligned photos have them
        <out>/list_attr_celeba.txt        count, the 40 names, one row of 1/-1 per image; written last

  python -m faces.procedural --out dataset/drawn -n 2000 --seed 0

Face i depends on (seed, i) alone: the first files of a longer run, or of one with more workers, are the same
bytes. The same command on its own finished folder does nothing; any other folder that is not empty is
refused.
"""

import concurrent.futures
import io
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common import cli, files, progress
from faces import hair
from faces.person import ATTRIBUTES, attributes, sample_face

ATTRIBUTE_FILE = "list_attr_celeba.txt"
CHUNK = 16  # faces per task of a worker


def stream(seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))


def draw_face(seed: int, index: int) -> tuple[Image.Image, dict[str, int]]:
    """Face `index` (from 0) of a seed -> (RGB picture 178 x 218, attributes name -> 1 or -1)."""
    rng = stream(seed, index)
    face = sample_face(rng)
    return hair.paint(face, rng), attributes(face)


def file_name(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def jpeg(seed: int, index: int) -> bytes:
    """The bytes of one image file."""
    buffer = io.BytesIO()
    draw_face(seed, index)[0].save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def attribute_text(n: int, seed: int) -> str:
    """The attribute file; needs no painting."""
    rows = [(file_name(i), attributes(sample_face(stream(seed, i)))) for i in range(n)]
    lines = [str(n), " ".join(ATTRIBUTES)] + [
        name + " " + " ".join(f"{row[a]:2d}" for a in ATTRIBUTES) for name, row in rows
    ]
    return "\n".join(lines) + "\n"


def write_chunk(folder: str, seed: int, start: int, stop: int) -> int:
    """One task of a worker: draw and write faces start..stop-1, but for those that are there. Returns their
    number."""
    for i in range(start, stop):
        path = Path(folder) / file_name(i)
        if not files.is_whole(path):
            files.write_atomic(path, jpeg(seed, i))
    return stop - start


def is_finished(out: Path, n: int, seed: int) -> bool:
    """True if `out` holds this very set: its attribute file, exactly its images, and the bytes of 8 of them,
    spread evenly."""
    listing = out / ATTRIBUTE_FILE
    if not listing.is_file() or listing.read_text() != attribute_text(n, seed):
        return False
    folder = out / "images"
    files.sweep(out)
    if {p.name for p in out.iterdir()} != {ATTRIBUTE_FILE, "images"} or {
        p.name for p in folder.iterdir()
    } != {file_name(i) for i in range(n)}:
        return False
    return _are_drawn(folder, range(n), seed)


def _are_drawn(folder, numbers, seed):
    """Whether 8 of the images, spread evenly, are those of the seed."""
    chosen = np.unique(np.linspace(0, len(numbers) - 1, min(8, len(numbers))).astype(int)).tolist()
    return all((folder / file_name(numbers[i])).read_bytes() == jpeg(seed, numbers[i]) for i in chosen)


def is_begun(out: Path, n: int, seed: int) -> bool:
    """True if `out` holds a part of this set, as one leaves it who was killed while drawing: some of its
    images, and nothing else."""
    folder = out / "images"
    if {p.name for p in out.iterdir()} != {"images"} or not folder.is_dir():
        return False
    files.sweep(folder)
    names = {p.name for p in folder.iterdir()}
    there = [i for i in range(n) if file_name(i) in names and files.is_whole(folder / file_name(i))]
    return names <= {file_name(i) for i in range(n)} and _are_drawn(folder, there, seed)


def draw_folder(out: Path | str, n: int, seed: int, num_workers: int = 1) -> int:
    """Write n faces of a seed into `out`, of what was begun there those that are missing. Returns n, 0 if the
    folder already held exactly these.

    Raises:  cli.UserError if `out` holds anything else
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if out.is_dir() and is_finished(out, n, seed):
            return 0
        if not out.is_dir() or not is_begun(out, n, seed):
            raise cli.UserError(
                f"{out}: expected an empty or a new folder (or these same {n} faces of seed {seed}), found"
                " other files; remove it or choose another --out"
            )
    folder = files.make_folder(out / "images")
    chunks = [(str(folder), seed, start, min(n, start + CHUNK)) for start in range(0, n, CHUNK)]
    with progress.bar(n, "drawing faces") as bar:
        if num_workers <= 1:
            for chunk in chunks:
                bar.update(write_chunk(*chunk))
        else:
            # Spawned, not forked: a caller may hold threads (torch), and forked copies of them can hang.
            spawn = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(
                min(num_workers, len(chunks)), mp_context=spawn
            ) as pool:
                for written in concurrent.futures.as_completed(
                    [pool.submit(write_chunk, *chunk) for chunk in chunks]
                ):
                    bar.update(written.result())
    files.write_atomic(out / ATTRIBUTE_FILE, attribute_text(n, seed))
    return n


@dataclass(frozen=True, kw_only=True)
class Options:
    out: Path
    num_images: int
    seed: int
    num_workers: int
    debug: bool


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="faces.procedural", description=__doc__)
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="new or empty folder to write into")
    p.add_argument(
        "-n", "--num_images", type=cli.positive_int, default=2000, metavar="N", help="number of faces"
    )
    p.add_argument("--seed", type=cli.natural_int, default=0, help="all randomness derives from it")
    p.add_argument(
        "--num_workers",
        type=cli.positive_int,
        default=os.cpu_count() or 1,
        help="processes that draw; changes no byte (default: one a core)",
    )
    return cli.resolve(Options, p.parse_args(argv))


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    written = draw_folder(options.out, options.num_images, options.seed, options.num_workers)
    print(
        f"{options.out}: {written} faces drawn"
        if written
        else f"{options.out}: already holds these {options.num_images} faces, nothing to do"
    )


if __name__ == "__main__":
    cli.run(main)
