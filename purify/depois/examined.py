"""What De-Pois examines and what it trusts, from the flags: digits, MNIST, two folders of images, or the
samples that a detector learns from."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from attacks.flags import AttackOptions, add_attack_flags, attack_config, attack_from_flags, refuse_target
from attacks.poison.base import Poison
from common import cli, images
from common.cli import UserError
from common.distributed import Context
from common.listing import photos_of, tell
from faces.flags import DataOptions, add_data_flags, open_faces
from faces.labelled import Labelled
from models.depois import data
from models.depois.data import Task
from models.depois.options import TaskOptions
from models.detector.network import CLASSES
from models.detector.samples import Samples
from models.flags import TranslatorOptions, add_translator_flags, translator_from_flags
from models.translators import check_size
from pipeline.training_set import TrainingSet
from purify.trained import default_translator

DATASETS = ("digits", "mnist", "folder", "detector")
SIZES = {"detector": 128, "folder": 64}  # --image_size and
CROPS = {"detector": 178, "folder": 0}  # --celeba_crop_size, unless they say otherwise
# flag -> data set
NEEDS = {
    "data_root": "mnist",
    "input": "folder",
    "trusted": "folder",
    "data_dir": "detector",
    "gan_weights": "detector",
}


@dataclass(frozen=True, kw_only=True)
class ExaminedOptions(TaskOptions, DataOptions, TranslatorOptions, AttackOptions):
    """The values of add_task_flags and of what they are read with; `dataset` is one of DATASETS."""

    data_root: str | None
    input: str | None
    trusted: str | None
    trusted_share: float
    limit: int | None
    data_dir: str | None
    celeba_crop_size: int | None
    image_size: int | None
    image_batch_size: int | str
    test_noise_var: float
    seed: int
    num_workers: int
    precision: str


def add_task_flags(p: argparse.ArgumentParser) -> None:
    """Everything that says what is trusted and what is examined."""
    g = p.add_argument_group("what is examined")
    g.add_argument(
        "--dataset",
        choices=DATASETS,
        default="digits",
        help=(
            "digits: scikit-learn's, no download; mnist: --data_root; folder: --input and --trusted;"
            " detector: photos of --data_dir's split B and fakes of them as train_detector.py has them,"
            " trusting photos of split A and fakes of them"
        ),
    )
    g.add_argument(
        "--data_root",
        default=None,
        metavar="DIR",
        help="for mnist: the folder that holds MNIST/raw, as torchvision keeps it",
    )
    g.add_argument(
        "--input",
        default=None,
        metavar="DIR",
        help="for folder: images to examine, in a folder for each class",
    )
    g.add_argument(
        "--trusted",
        default=None,
        metavar="DIR",
        help="for folder: images known to be clean, in folders of the same names",
    )
    g.add_argument(
        "--trusted_share",
        type=cli.fraction,
        default=0.2,
        metavar="R",
        help=(
            "share of all samples that is trusted: of digits and mnist drawn by the seed; of a detector's, R"
            " / (1 - R) times as many photos of A"
        ),
    )
    g.add_argument(
        "--limit",
        type=cli.positive_int,
        default=None,
        metavar="N",
        help=(
            "examine the first N samples, of a detector's set those of N photos (default: mnist 10000, else"
            " all)"
        ),
    )
    g.add_argument(
        "--dataset_name",
        default=None,
        metavar="NAME",
        help="name in the result folder (default: digits, mnist, else the folder's own)",
    )
    add_data_flags(p, "a and images_b", default_dir=None, named=False)
    # resolved by data set, see SIZES and CROPS
    p.set_defaults(image_size=None, celeba_crop_size=None)
    g = p.add_argument_group("translator of a detector's fakes")
    add_translator_flags(
        g,
        "translator: official 200000-G.ckpt or 100000_nets_ema.ckpt, or ours; default: the newest finished"
        " training",
    )
    g.add_argument(
        "--image_batch_size",
        type=cli.batch_or_auto,
        default=16,
        help="photos at a time that are disrupted and translated; auto: " + cli.AUTO_SUITS,
    )
    add_attack_flags(p, through=False)


def resolve_task_flags(p: argparse.ArgumentParser, parsed: argparse.Namespace) -> dict[str, object]:
    """{flag: value} of the flags of add_task_flags that depend on the data set; refuses flags of another
    one.

    Raises: UserError
    """
    kind = parsed.dataset
    for flag, owner in NEEDS.items():
        if getattr(parsed, flag) is not None and kind != owner:
            p.error(f"--{flag} is for --dataset {owner}, found --dataset {kind}")
    for flag in {"mnist": ["data_root"], "folder": ["input", "trusted"]}.get(kind, []):
        if getattr(parsed, flag) is None:
            p.error(f"--dataset {kind} needs --{flag} DIR")
    if not 0 < parsed.trusted_share < 1:
        p.error(f"--trusted_share {parsed.trusted_share:g}: expected a share above 0 and below 1")
    refuse_target(p, parsed)
    data_dir = parsed.data_dir or ("dataset/CelebA" if kind == "detector" else None)
    folder = {"folder": parsed.input, "detector": data_dir}.get(kind)
    name = parsed.dataset_name or (Path(folder).name or Path(folder).resolve().name if folder else kind)
    changed = {
        "image_size": SIZES.get(kind) if parsed.image_size is None else parsed.image_size,
        "celeba_crop_size": CROPS.get(kind) if parsed.celeba_crop_size is None else parsed.celeba_crop_size,
        "limit": parsed.limit or (10000 if kind == "mnist" else None),
        "data_dir": data_dir,
        "dataset_name": name,
    }
    if kind == "detector" and parsed.gan_weights is None:
        changed["gan_weights"] = default_translator(
            parsed.result_dir, name, parsed.gan_type, data_dir, changed["image_size"]
        )
    return changed


def resolve_task(p: argparse.ArgumentParser, parsed: argparse.Namespace) -> ExaminedOptions:
    """The values of add_task_flags.  Raises UserError as resolve_task_flags."""
    return cli.pick(ExaminedOptions, parsed, **resolve_task_flags(p, parsed))


def open_task(options: ExaminedOptions, seed: int, ctx: Context, make: bool = True) -> Task | None:
    """The Task that the flags describe; of digits and mnist the trusted part is drawn by `seed`.

    Args:   make  whether a detector's images are made where they are missing; otherwise their folders are
                  checked, and there is no Task
    Raises: UserError as models.depois.data.check, and for data that cannot be read
    """
    kind = options.dataset
    if kind in ("digits", "mnist"):
        training, test = data.digits() if kind == "digits" else data.mnist(options.data_root)
        return data.divide(kind, training, test, options.trusted_share, seed, options.limit)
    if kind == "folder":
        return open_folders(options, seed)
    detector_set = DetectorSet(options, ctx)
    return detector_set.task(seed) if make else None


def open_folders(options: ExaminedOptions, seed: int) -> Task:
    """Two folders of images, a subfolder for each class."""
    classes = class_folders(options.trusted)
    unknown = [name for name in class_folders(options.input) if name not in classes]
    if unknown:
        raise UserError(
            f"{options.input}: holds the class {unknown[0]}, which {options.trusted} lacks (it has"
            f" {', '.join(classes)}); every class needs trusted images"
        )
    size = (options.celeba_crop_size, options.image_size, options.skip_damaged)
    learned, held = data.hold_out(read_folder(options.trusted, classes, *size), seed)
    examined = read_folder(options.input, classes, *size, options.limit)
    return data.check(Task(options.dataset_name, learned, held, examined, None))


def class_folders(folder: Path | str) -> list[str]:
    """Names of the subfolders, sorted; hidden ones are none.  Raises UserError where there are not two."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one with a folder of images for each class")
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(names) < 2:
        raise UserError(
            f"{folder}: holds {len(names)} folder{'' if len(names) == 1 else 's'}, expected one for each"
            " class, two at least (real/ and fake/, for example)"
        )
    return names


def read_folder(
    folder: Path | str,
    classes: list[str],
    crop_size: int,
    image_size: int,
    skip_damaged: bool,
    limit: int | None = None,
) -> Labelled:
    """Labelled images of <folder>/<class>/*, named <class>/<file>, cropped to a square of `crop_size` pixels
    (0 = as large as it goes) and resized to `image_size`; the first `limit`, of all classes in turn.

    Raises: UserError for a damaged image, unless `skip_damaged`, which prints those that are left out; and
            where none is left
    """
    paths = {name: photos_of(Path(folder) / name) for name in classes if (Path(folder) / name).is_dir()}
    for mine in paths.values():
        images.check_crop(mine, crop_size)
    turns = sorted((i, name, path) for name, mine in paths.items() for i, path in enumerate(mine))[:limit]
    names, labels, pixels, damaged, said = [], [], [], [], []
    for name, path in sorted((name, path) for _, name, path in turns):
        try:
            image = images.read_rgb(path)
        except UserError:
            if not skip_damaged:
                raise
            damaged.append(f"{name}/{path.name}")
            continue
        names.append(f"{name}/{path.name}")
        said.append((names[-1], image.info["remarks"]))
        labels.append(classes.index(name))
        pixels.append(np.asarray(images.center_crop_resize(image, crop_size, image_size)))
    tell(*images.remarks(said))
    if damaged:
        print(f"{folder}: {len(damaged)} damaged images are left out: {', '.join(damaged)}", flush=True)
    if not names:
        raise UserError(f"{folder}: no image is left of {len(damaged)}; all are damaged")
    return Labelled(tuple(names), torch.tensor(labels), np.stack(pixels), tuple(classes))


class DetectorSet:
    """Split B as a detector's maker scraped it, photos and a fake of each, against trusted photos of split A
    and fakes of them.

    The folders are checked when it is made; images are made, where they are missing, when they are asked for.
    """

    def __init__(self, options: ExaminedOptions, ctx: Context) -> None:
        # as commands of faces know the flags, where --dataset is the name in the result folder
        self.options = named = replace(options, dataset=options.dataset_name)
        self.translator = translator_from_flags(named, ctx.device, options.selected_attrs)
        check_size(options.image_size, self.translator)
        a, b = open_faces(named, "a", whole=True), open_faces(named, "b")
        shared = sorted(set(a.names) & set(b.names))
        if shared:
            raise UserError(
                f"{a.folder}: {len(shared)} of its photos are also in {b.folder} ({shared[0]}, ...); a photo"
                " is trusted or examined: split again"
            )
        share = options.trusted_share
        wanted = max(1, round(share / (1 - share) * len(b)))
        if wanted > len(a):
            ctx.print(
                f"{a.folder} has {len(a)} photos: {len(a) / (len(a) + len(b)):.1%} of all are trusted, not"
                f" {share:.1%}"
            )
        self.attack = attack_from_flags(named, self.translator)
        self.scraped = TrainingSet(named, ctx, b, self.translator, self.attack)
        self.trusted = TrainingSet(named, ctx, a.subset(a.names[:wanted]), self.translator)

    def task(self, seed: int) -> Task:
        """Raises UserError as models.depois.data.check."""
        learned, held = data.hold_out(labelled(self.trusted.samples()), seed)
        return data.check(Task(self.options.dataset, learned, held, labelled(self.scraped.samples()), None))

    def disruption(self, rate: float) -> tuple["Disruption", np.ndarray]:
        """The poison, and the rows that it hits: photos and fakes of the share `rate` of B's photos, as
        train_detector.py draws them."""
        hit = self.scraped.disrupted(rate)
        samples = labelled(self.scraped.samples(rate))
        rows = [i for i, name in enumerate(samples.names) if name.rpartition("/")[2] in hit]
        config = attack_config(self.options, self.attack)
        poison = Disruption(samples, {k: v for k, v in config.items() if v is not None})
        return poison, np.asarray(rows, np.int64)


def labelled(samples: Samples) -> Labelled:
    """Samples of a detector as Labelled, named real/000001.jpg and fake/000001.jpg."""
    return Labelled(tuple(samples.ids), samples.labels, samples.pixels, CLASSES)


class Disruption(Poison):
    """Photos that carry a disruption, and the broken fakes made of them; the samples come from the caches
    that all runs share.

    Args: disrupted  Labelled, the set as it is where these photos are disrupted
          params     JSON dict of the attack
    """

    name, params = "disruption", {}

    def __init__(self, disrupted: Labelled, params: dict) -> None:
        self.disrupted, self.params = disrupted, params

    def change(self, labelled: Labelled, rows: np.ndarray, seed: int) -> tuple[np.ndarray, torch.Tensor]:
        if self.disrupted.names != labelled.names:
            raise ValueError("the disrupted samples are not those of the set that is to be poisoned")
        return self.disrupted.pixels[rows], self.disrupted.labels[torch.from_numpy(rows)]
