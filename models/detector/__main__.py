"""Score any folder of faces: how likely is each of them a deepfake?

reads   --input             a folder of images or one image, any size
        --detector_weights  weights.safetensors of a finished train_detector.py run
writes  --output            scores.csv (name, probability_fake, verdict; in the order of names), most_fake.png
                            and most_real.png

Each photo is cropped to a centred square and resized to the size that the detector was trained on. The
probability is that of faces like those it was trained on: another translator, or photos that were compressed,
blurred or disrupted, can be scored with confidence and wrongly.

  python -m models.detector --input photos --output scored \\
      --detector_weights results/detector/.../000/weights.safetensors
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import cli, figures, files, folder, images, progress
from common.cli import RunOptions, UserError
from common.distributed import resolve_device
from common.errors import shown
from common.listing import photos_of, relative
from models.detector.network import CLASSES, THRESHOLD, load_detector, probabilities

SHOWN = 16  # images in each picture


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """What the flags say."""

    input: str
    recursive: bool
    output: str
    detector_weights: str
    celeba_crop_size: int
    skip_damaged: bool
    batch_size: int
    limit: int | None


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="python -m models.detector", description=__doc__)
    g = p.add_argument_group("what to score")
    folder.add_input_flags(g)
    g.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="folder of the scores, not that of the photos; earlier scores in it are replaced",
    )
    g.add_argument("--detector_weights", required=True, metavar="FILE", help="the detector")
    g.add_argument(
        "--celeba_crop_size",
        type=cli.natural_int,
        default=0,
        help="centre crop of a photo, pixels; 0 = its largest square, 178 for CelebA's aligned ones",
    )
    cli.add_run_flags(p, batch_size=64, limit=True, precision=False, compiled=False)
    return cli.resolve(Options, p.parse_args(argv))


def crop(path: Path, crop_size: int, side: int) -> np.ndarray:
    """uint8 (side, side, 3), prepared as in training; crop_size in pixels, 0 = its largest square."""
    return np.asarray(images.center_crop_resize(images.read_rgb(path), crop_size, side))


def save_pictures(output: Path, paths: Sequence[Path], p: np.ndarray, crop_size: int, side: int) -> None:
    """most_fake.png and most_real.png: the ends of the order of p, the probability of fake."""
    from models.detector.pictures import score_grid  # on use: matplotlib is slow to load

    order = np.argsort(-p, kind="stable")
    for name, chosen in (("most_fake", order[:SHOWN]), ("most_real", order[::-1][:SHOWN])):
        x = images.to_float(np.stack([crop(paths[i], crop_size, side) for i in chosen]))
        grid = score_grid(x, [shown(paths[i].name) for i in chosen], p[chosen])
        files.write_atomic(output / f"{name}.png", figures.png(grid))


def write_scores(path: Path, names: Sequence[str], p: np.ndarray) -> None:
    """scores.csv: a line for each photo, `p` its probability of fake."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("name", "probability_fake", "verdict"))
    for name, v in zip(names, p.tolist(), strict=True):
        writer.writerow((name, f"{v:.6f}", CLASSES[int(v >= THRESHOLD)]))
    files.write_atomic(path, out.getvalue())


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    device = resolve_device(options.device)
    sources = photos_of(options.input, options.recursive, options.limit)
    output = Path(options.output)
    folder.check_apart(output, sources)
    files.check_writable(output)
    detector = load_detector(options.detector_weights, device)
    paths, damaged = folder.inspect(sources, options.skip_damaged, options.num_workers)
    paths = list(paths)
    if not paths:
        raise UserError(f"{sources[0].parent}: all {len(sources)} images are damaged; give other photos")
    images.check_crop(paths, options.celeba_crop_size)
    print(
        f"{len(paths)} photos, {detector.name} trained on {detector.meta.get('condition')} photos of"
        f" {detector.meta.get('trained_on')}, {detector.image_size} x {detector.image_size} pixels"
    )
    if options.dry_run:
        return
    batches = []
    with progress.bar(len(paths), "score") as bar:
        for start in range(0, len(paths), options.batch_size):
            batch = paths[start : start + options.batch_size]
            pixels = [crop(path, options.celeba_crop_size, detector.image_size) for path in batch]
            batches.append(probabilities(detector, [images.to_float(np.stack(pixels))], device).numpy())
            bar.update(len(batch))
    p = np.concatenate(batches)
    output = files.make_folder(output)
    write_scores(output / "scores.csv", [relative(path, options.input) for path in paths], p)
    save_pictures(output, paths, p, options.celeba_crop_size, detector.image_size)
    print(
        f"{int((p >= THRESHOLD).sum())} of {len(p)} look fake (probability 0.5 or above); written:"
        f" {output / 'scores.csv'}, most_fake.png, most_real.png"
    )
    for words in damaged.values():
        print(f"skipped, {shown(words)}")


if __name__ == "__main__":
    cli.run(main)
