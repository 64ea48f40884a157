"""What De-Pois examines and what it trusts, from the flags: digits, MNIST, two folders of images, or the
samples that a detector learns from."""

import argparse
from pathlib import Path

import numpy as np
import torch

from attacks.flags import add_attack_flags, attack_config, attack_from_flags, refuse_target
from attacks.poison.base import Poison
from common import cli, images
from common.cli import UserError
from faces.flags import add_data_flags, open_faces
from models.depois import data
from models.depois.data import Labelled, Task
from models.detector.network import CLASSES
from models.detector.samples import sample_id
from models.flags import add_translator_flags, translator_from_flags
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


def add_task_flags(p):
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
        type=cli.positive_int,
        default=16,
        help="photos at a time that are disrupted and translated; 8 suits a CPU",
    )
    add_attack_flags(p, through=False)


def check_task_flags(p, args):
    """Refuse flags of another data set, and fill in what depends on it: dataset_name, limit, data_dir,
    gan_weights."""
    for flag, kind in NEEDS.items():
        if getattr(args, flag) is not None and args.dataset != kind:
            p.error(f"--{flag} is for --dataset {kind}, found --dataset {args.dataset}")
    for flag in {"mnist": ["data_root"], "folder": ["input", "trusted"]}.get(args.dataset, []):
        if getattr(args, flag) is None:
            p.error(f"--dataset {args.dataset} needs --{flag} DIR")
    if not 0 < args.trusted_share < 1:
        p.error(f"--trusted_share {args.trusted_share:g}: expected a share above 0 and below 1")
    refuse_target(p, args)
    if args.image_size is None:
        args.image_size = SIZES.get(args.dataset)
    if args.celeba_crop_size is None:
        args.celeba_crop_size = CROPS.get(args.dataset)
    if args.dataset == "mnist":
        args.limit = args.limit or 10000
    if args.dataset == "detector":
        args.data_dir = args.data_dir or "dataset/CelebA"
    folder = {"folder": args.input, "detector": args.data_dir}.get(args.dataset)
    args.dataset_name = args.dataset_name or (
        Path(folder).name or Path(folder).resolve().name if folder else args.dataset
    )
    if args.dataset == "detector" and args.gan_weights is None:
        args.gan_weights = default_translator(_named(args))
    return args


def _named(args):
    """The flags as commands of faces know them, where --dataset is the name in the result folder."""
    return argparse.Namespace(**{**vars(args), "dataset": args.dataset_name})


def task_of(args, seed, ctx):
    """The Task that the flags describe; of digits and mnist the trusted part is drawn by `seed`.

    Raises: UserError as models.depois.data.check, and for data that cannot be read
    """
    if args.dataset in ("digits", "mnist"):
        training, test = data.digits() if args.dataset == "digits" else data.mnist(args.data_root)
        return data.divide(args.dataset, training, test, args.trusted_share, seed, args.limit)
    if args.dataset == "folder":
        return folder_task(args, seed)
    return DetectorSet(args, ctx).task(seed)


def folder_task(args, seed):
    """Two folders of images, a subfolder for each class."""
    classes = class_folders(args.trusted)
    unknown = [name for name in class_folders(args.input) if name not in classes]
    if unknown:
        raise UserError(
            f"{args.input}: holds the class {unknown[0]}, which {args.trusted} lacks (it has"
            f" {', '.join(classes)}); every class needs trusted images"
        )
    learned, held = data.hold_out(read_folder(args.trusted, classes, args), seed)
    return data.check(
        Task(args.dataset_name, learned, held, read_folder(args.input, classes, args, args.limit), None)
    )


def class_folders(folder):
    """Names of the subfolders, sorted; hidden ones are none.  Raises UserError where there are not two."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one with a folder of images for each class")
    found = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(found) < 2:
        raise UserError(
            f"{folder}: holds {len(found)} folder{'' if len(found) == 1 else 's'}, expected one for each"
            " class, two at least (real/ and fake/, for example)"
        )
    return found


def read_folder(folder, classes, args, limit=None):
    """Labelled images of <folder>/<class>/*, named <class>/<file>, cropped to a square and resized to
    --image_size; the first `limit`, of all classes in turn.

    Raises: UserError for a damaged image, unless --skip_damaged, which prints those that are left out; and
            where none is left
    """
    paths = {
        name: images.list_images(Path(folder) / name) for name in classes if (Path(folder) / name).is_dir()
    }
    turns = sorted((i, name, path) for name, mine in paths.items() for i, path in enumerate(mine))[:limit]
    names, labels, pixels, damaged = [], [], [], []
    for name, path in sorted((name, path) for _, name, path in turns):
        try:
            square = images.center_crop_resize(images.read_rgb(path), args.celeba_crop_size, args.image_size)
        except UserError:
            if not args.skip_damaged:
                raise
            damaged.append(f"{name}/{path.name}")
            continue
        names.append(f"{name}/{path.name}")
        labels.append(classes.index(name))
        pixels.append(np.asarray(square))
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

    def __init__(self, args, ctx):
        self.args = named = _named(args)
        self.translator = translator_from_flags(named, ctx.device, args.selected_attrs)
        check_size(args.image_size, self.translator)
        a, b = open_faces(argparse.Namespace(**{**vars(named), "limit": None}), "a"), open_faces(named, "b")
        shared = sorted(set(a.names) & set(b.names))
        if shared:
            raise UserError(
                f"{a.folder}: {len(shared)} of its photos are also in {b.folder} ({shared[0]}, ...); a photo"
                " is trusted or examined: split again"
            )
        share = args.trusted_share
        wanted = max(1, round(share / (1 - share) * len(b)))
        if wanted > len(a):
            ctx.print(
                f"{a.folder} has {len(a)} photos: {len(a) / (len(a) + len(b)):.1%} of all are trusted, not"
                f" {share:.1%}"
            )
        self.attack = attack_from_flags(named, self.translator)
        self.scraped = TrainingSet(named, ctx, b, self.translator, self.attack)
        self.trusted = TrainingSet(named, ctx, a.subset(a.names[:wanted]), self.translator)

    def task(self, seed):
        learned, held = data.hold_out(labelled(self.trusted.samples()), seed)
        return data.check(Task(self.args.dataset, learned, held, labelled(self.scraped.samples()), None))

    def disruption(self, rate):
        """(Disruption, rows): the poison, and the samples that it hits: photos and fakes of the share `rate`
        of B's photos, as train_detector.py draws them."""
        names = self.scraped.disrupted(rate)
        made = labelled(self.scraped.samples(rate))
        rows = [i for i, name in enumerate(made.names) if name.rpartition("/")[2] in names]
        return Disruption(
            made, {k: v for k, v in attack_config(self.args, self.attack).items() if v is not None}
        ), np.asarray(rows, np.int64)


def labelled(samples):
    """models.detector.samples.Samples as Labelled, named real/000001.jpg and fake/000001.jpg."""
    names = tuple(
        sample_id(name, label) for name, label in zip(samples.names, samples.labels.tolist(), strict=True)
    )
    return Labelled(names, samples.labels, samples.pixels, CLASSES)


class Disruption(Poison):
    """Photos that carry a disruption, and the broken fakes made of them; the samples come from the caches
    that all runs share.

    Args: made  the set as it is where these photos are disrupted;  params  JSON dict of the attack
    """

    name, params = "disruption", {}

    def __init__(self, made, params):
        self.made, self.params = made, params

    def change(self, labelled, rows, seed):
        if self.made.names != labelled.names:
            raise ValueError("the disrupted samples are not those of the set that is to be poisoned")
        return self.made.pixels[rows], self.made.labels[torch.from_numpy(rows)]


def data_of(args, task):
    """What the options of a training say of its data: a hash, so that other trusted images are another
    training."""
    return {
        "dataset_name": args.dataset_name,
        "num_trusted": len(task.trusted),
        "trusted_sha256": data.content(task.trusted),
    }
