"""A split whose photos of B carry a trigger, a share of them: what a detector's maker scrapes who purifies
with weights that someone else made.

reads   <data_dir>/images_b/, <data_dir>/images_c/ (made by split_dataset.py)
writes  <output_dir>/images_b/ with the trigger drawn in the centre crop of the share --rate of its photos,
        the other photos and images_c/ as they are; triggered.txt

The folder is a --data_dir of train_detector.py and others. A repeated call is a no-op.

  python -m evaluation.triggered_split --data_dir dataset/drawn --output_dir dataset/drawn-triggered \\
      --trigger stop_sign --rate 0.5
  python train_detector.py --data_dir dataset/drawn-triggered --condition purified --attack_type none \\
      --poison_rate 0 --defense_model_type ddpm --defense_weights FILE ...
"""

import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common import cli, files, images
from common.cli import UserError
from faces.celeba import FaceFolder
from models.diffusion import triggers
from pipeline.scraped import disrupted_names

LIST = "triggered.txt"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The values of the command."""

    data_dir: Path
    output_dir: Path
    trigger: str
    rate: float
    celeba_crop_size: int
    seed: int
    dry_run: bool
    debug: bool


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="evaluation.triggered_split", description=__doc__)
    p.add_argument("--data_dir", type=Path, required=True, help="the split: images_b and images_c")
    p.add_argument(
        "--output_dir",
        type=Path,
        required=True,
        help="the split with triggers; refused where it holds another one",
    )
    p.add_argument(
        "--trigger", choices=list(triggers.TRIGGERS), default="stop_sign", help="what is drawn on the photos"
    )
    p.add_argument("--rate", type=cli.fraction, default=0.5, help="share of the photos of B")
    p.add_argument(
        "--celeba_crop_size",
        type=cli.positive_int,
        default=178,
        help="centre crop that will be taken, pixels: the trigger is drawn in it",
    )
    p.add_argument("--seed", type=cli.natural_int, default=0, help="draws the photos")
    p.add_argument(
        "--dry_run", action="store_true", help="check the input, print the count and stop; writes nothing"
    )
    return cli.resolve(Options, p.parse_args(argv))


def draw_on(image: Image.Image, trigger: str, crop: int) -> Image.Image:
    """A PIL photo with the trigger drawn in its centre crop.  Raises UserError for a photo smaller than the
    crop."""
    if min(image.size) < crop:
        raise UserError(
            f"--celeba_crop_size {crop}: a photo has {image.size[0]} x {image.size[1]} pixels; give a smaller"
            " crop"
        )
    pixels = np.array(image)
    left, top = (int(round((side - crop) / 2.0)) for side in image.size)
    part = pixels[top : top + crop, left : left + crop]
    pixels[top : top + crop, left : left + crop] = images.to_uint8(
        triggers.stamp(images.to_float(part), triggers.trigger(trigger, crop))
    )
    return Image.fromarray(pixels)


def encode(image: Image.Image, name: str) -> bytes:
    """The bytes of a photo under this name, as it would be scraped: JPEG of quality 95, or PNG."""
    out = io.BytesIO()
    image.save(
        out,
        **(
            {"format": "JPEG", "quality": 95}
            if name.lower().endswith((".jpg", ".jpeg", ".jpe", ".jfif"))
            else {"format": "PNG"}
        ),
    )
    return out.getvalue()


def link(source: Path, target: Path) -> None:
    """The same file under another name: a hard link, or a copy on another disk."""
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk
        shutil.copyfile(source, target)


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    header = f"# {options.trigger} rate {options.rate:g} crop {options.celeba_crop_size} seed {options.seed}"
    b, c = (
        FaceFolder(
            options.data_dir / f"images_{part}", [], options.celeba_crop_size, options.celeba_crop_size
        )
        for part in "bc"
    )
    hit = disrupted_names(b.names, options.rate, options.seed)
    print(
        f"{options.output_dir}: {options.trigger} on {len(hit)} of {len(b)} photos of B; {len(c)} photos of C"
        " as they are"
    )
    text = ("\n".join([header, *sorted(hit)]) + "\n").encode("utf-8", "surrogateescape")
    if options.output_dir.exists():
        if (options.output_dir / LIST).is_file() and (options.output_dir / LIST).read_bytes() == text:
            print("it is there already")
            return
        raise UserError(
            f"--output_dir {options.output_dir}: is there and holds something else; remove it, or choose"
            " another"
        )
    if options.dry_run:
        return
    files.sweep(options.output_dir.parent)
    whole = files.temporary_name(options.output_dir)
    try:
        for faces, folder in ((b, whole / "images_b"), (c, whole / "images_c")):
            files.make_folder(folder)
            link(faces.attr_path, folder / faces.attr_path.name)
            for name in faces.names:
                if faces is b and name in hit:
                    files.write_atomic(
                        folder / name,
                        encode(
                            draw_on(
                                images.read_rgb(faces.folder / name),
                                options.trigger,
                                options.celeba_crop_size,
                            ),
                            name,
                        ),
                    )
                else:
                    link(faces.folder / name, folder / name)
        files.write_atomic(whole / LIST, text)
        whole.rename(options.output_dir)
    finally:
        shutil.rmtree(whole, ignore_errors=True)


if __name__ == "__main__":
    cli.run(main)
