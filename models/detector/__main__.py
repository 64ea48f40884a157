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
from pathlib import Path

import numpy as np

from common import cli, files, folder, images, progress
from common.cli import UserError
from common.distributed import resolve_device
from models.detector.network import CLASSES, load_detector, probabilities

SHOWN = 16  # images in each picture


def parse_args(argv=None):
    p = cli.ArgumentParser(prog="python -m models.detector", description=__doc__)
    g = p.add_argument_group("what to score")
    g.add_argument(
        "--input", required=True, metavar="DIR|FILE", help=f"photos ({', '.join(images.EXTENSIONS)})"
    )
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
    g.add_argument(
        "--skip_damaged", action="store_true", help="go on without images that cannot be read, and list them"
    )
    cli.add_run_flags(p, batch_size=64, limit=True, precision=False)
    return p.parse_args(argv)


def crop(path, args, side):
    """uint8 (side, side, 3), prepared as in training."""
    return np.asarray(images.center_crop_resize(images.read_rgb(path), args.celeba_crop_size, side))


def save_pictures(output, paths, p, args, side):
    from common import figures
    from evaluation import detector_pictures

    order = np.argsort(-p, kind="stable")
    for name, chosen in (("most_fake", order[:SHOWN]), ("most_real", order[::-1][:SHOWN])):
        x = images.to_float(np.stack([crop(paths[i], args, side) for i in chosen]))
        files.write_atomic(
            output / f"{name}.png",
            figures.png(detector_pictures.score_grid(x, [paths[i].name for i in chosen], p[chosen])),
        )


def main(argv=None):
    args = parse_args(argv)
    device = resolve_device(args.device)
    sources = images.list_images(args.input)[: args.limit]
    output = Path(args.output)
    folder.check_apart(output, sources)
    files.check_writable(output)
    detector = load_detector(args.detector_weights, device)
    paths, damaged = folder.inspect(sources, args.skip_damaged, args.num_workers)
    paths = list(paths)
    if not paths:
        raise UserError(f"{sources[0].parent}: all {len(sources)} images are damaged; give other photos")
    print(
        f"{len(paths)} photos, {detector.name} trained on {detector.meta.get('condition')} photos of"
        f" {detector.meta.get('trained_on')}, {detector.image_size} x {detector.image_size} pixels"
    )
    if args.dry_run:
        return
    found = []
    with progress.bar(len(paths), "score") as bar:
        for start in range(0, len(paths), args.batch_size):
            batch = paths[start : start + args.batch_size]
            x = images.to_float(np.stack([crop(p, args, detector.image_size) for p in batch]))
            found.append(probabilities(detector, [x], device).numpy())
            bar.update(len(batch))
    p = np.concatenate(found)
    output = files.make_folder(output)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        [
            ("name", "probability_fake", "verdict"),
            *(
                (path.name, f"{v:.6f}", CLASSES[int(v >= 0.5)])
                for path, v in zip(paths, p.tolist(), strict=True)
            ),
        ]
    )
    files.write_atomic(output / "scores.csv", out.getvalue())
    save_pictures(output, paths, p, args, detector.image_size)
    print(
        f"{int((p >= 0.5).sum())} of {len(p)} look fake (probability 0.5 or above); written:"
        f" {output / 'scores.csv'}, most_fake.png, most_real.png"
    )
    for path in damaged:
        print(f"skipped, damaged: {path}")


if __name__ == "__main__":
    cli.run(main)
