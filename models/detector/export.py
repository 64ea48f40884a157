"""Write what train_detector.py with the same flags would train and test on, for other tools' detectors.

reads   what train_detector.py reads: <data_dir>/images_b/, <data_dir>/images_c/, a translator, the defence's
        weights; the caches below --result_dir
writes  --output/{options.yaml,dataset_json/*.json,deepfakebench.yaml}
        --output/frames/<set>/<real|fake>_<photo>/000.png, each photo a video of one frame
        <result_dir>/{attacked,purified,fakes}/<dataset>/   the same caches, where images are missing

--format deepfakebench is the layout of github.com/SCLBD/DeepfakeBench. Its data sets, each a file of
dataset_json:
  NAME             train: B as the condition has it; val: the held-out part of B; test: clean photos of C
  NAME_validation  test: the held-out part of B; DeepfakeBench keeps the weights that are best on its test
                   sets, so train with this one
  NAME_disrupted, NAME_purified   test: C disrupted, or disrupted and purified, where the flags have them
  NAME_trusted     with --trusted. train: photos of split A and clean fakes of them
deepfakebench.yaml holds the lines that its configuration needs. The same command again completes the folder;
a folder of other options is refused.

  python -m models.detector.export --output exported/purified --condition purified \\
      --defense_model_type one-step --gan_weights 200000-G.ckpt
  ln -s $PWD/exported/purified ../DeepfakeBench/datasets/rgb/purified
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from common import cli, distributed, files, images, progress, runs
from common.cli import RunOptions, UserError
from common.distributed import Context
from common.folder import Output
from models.detector.outside import FRAMES, folder_of, frame_of, video_of
from models.detector.samples import FAKE, REAL, Samples

FORMATS = ("deepfakebench",)
LABELS = ("AntiDisrupt_real", "AntiDisrupt_fake")  # of label_dict, 0 and 1
# data sets whose lists DeepfakeBench reads in another way
TAKEN = re.compile(r"(FF-(DF|F2F|FS|NT)|FaceForensics\+\+)(_c40)?|DeepFakeDetection|FaceShifter")
OWN = ("output", "image_batch_size", "result_dir")  # options that change no image and no list


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The values of the flags of this command alone."""

    format: str
    output: str
    name: str
    frames_root: str
    trusted: bool


@dataclass(frozen=True)
class Source:
    """Where the images come from.  counts  {set: images} known beforehand;  make  () -> {set: Samples} with
    `training`, `validation`, `clean` and maybe `trusted` and other test sets;  options  that decide them"""

    options: dict
    counts: dict[str, int]
    make: Callable[[], dict[str, Samples]]


def add_export_flags(p: cli.ArgumentParser) -> None:
    """Add the group "what to write"."""
    g = p.add_argument_group("what to write")
    g.add_argument("--format", choices=FORMATS, default="deepfakebench", help="whose layout")
    g.add_argument("--output", required=True, metavar="DIR", help="folder of the images and lists")
    g.add_argument(
        "--name", default=None, help="the data set's name there (default: that of the folder --output)"
    )
    g.add_argument(
        "--frames_root",
        default=None,
        metavar="./DIR",
        help="what --output is to DeepfakeBench, from the folder it runs in; begins with a dot (default:"
        " ./datasets/rgb/<name of --output>, so link it there)",
    )
    g.add_argument(
        "--trusted",
        action="store_true",
        help="write photos of split A (<data_dir>/images_a) and clean fakes of them too",
    )


def resolve_export(p: cli.ArgumentParser, output: str, name: str | None, root: str | None) -> dict[str, str]:
    """{name, frames_root} that the flags stand for."""
    folder = Path(output).absolute().name
    name = folder if name is None else name
    if not re.fullmatch(r"\w[\w.+-]*", name) or TAKEN.fullmatch(name):
        p.error(
            f"--name {name!r:.60}: DeepfakeBench needs letters, digits and . _ + -, and none of the names"
            " that it treats in its own way (FaceForensics++, FF-DF, ...)"
        )
    root = f"./datasets/rgb/{folder}" if root is None else root.rstrip("/")
    if not root.startswith("."):
        p.error(f"--frames_root {root}: must begin with a dot; before others DeepfakeBench puts its rgb_dir")
    return {"name": name, "frames_root": root}


def lists_of(name: str, root: str, sets: dict[str, Samples]) -> dict[str, dict]:
    """{data set: content of its JSON file}, as DeepfakeBench's abstract_dataset.py reads them.

    {data set: {label: {"train"|"val"|"test": {video: {"label": label, "frames": [path]}}}}}; all three parts
    are there, empty where a data set has none.

    Args: name  of the main data set;  root  path of the export before every frame's
    """

    def part(which, label):
        samples = sets.get(which)
        rows = zip(samples.names, samples.labels.tolist(), strict=True) if samples else ()
        return {
            video_of(n, label): {"label": LABELS[label], "frames": [f"{root}/{frame_of(which, n, label)}"]}
            for n, one in rows
            if one == label
        }

    parts = {name: {"train": "training", "val": "validation", "test": "clean"}}
    parts |= {
        f"{name}_{folder_of(which)}": {"train" if which == "trusted" else "test": which}
        for which in sets
        if which not in ("training", "clean")
    }
    return {
        one: {
            one: {
                LABELS[label]: {k: part(of.get(k), label) for k in ("train", "val", "test")}
                for label in (REAL, FAKE)
            }
        }
        for one, of in parts.items()
    }


def settings_of(name: str, root: str, data_sets: list[str]) -> str:
    """deepfakebench.yaml: the lines of DeepfakeBench's configuration that these data sets need."""
    tests = [one for one in data_sets if one not in (f"{name}_validation", f"{name}_trusted")]
    return "\n".join(
        [
            "# in training/config/train_config.yaml and in training/config/test_config.yaml; the labels",
            "# beside those that are there",
            "lmdb: false",
            "rgb_dir: ./datasets/rgb  # not used: these lists hold whole paths",
            f"dataset_json_folder: {root}/dataset_json",
            "label_dict:",
            *(f"  {label}: {i}" for i, label in enumerate(LABELS)),
            "",
            "# in training/config/detector/<detector>.yaml, or as --train_dataset and --test_dataset",
            f"train_dataset: [{name}]",
            f"test_dataset: [{name}_validation]  # in training; then of training/test.py:",
            f"# --test_dataset {' '.join(tests)}",
            "",
        ]
    )


def digest(samples: Samples) -> str:
    """Hex sha256 of names, classes and pixels."""
    found = hashlib.sha256("\n".join(samples.ids).encode("utf-8", "surrogateescape"))
    for image in samples.pixels:
        found.update(image)
    return found.hexdigest()


def claim(output: Output, options: dict, sets: dict[str, Samples]) -> None:
    """Say in options.yaml what the folder holds, before the first image.

    Raises: UserError for a folder of other images under equal options
    """
    digests = {which: digest(samples) for which, samples in sets.items()}
    if not output.described:
        output.describe(options, {"samples": digests, **runs.origin()})
    saved = yaml.safe_load(output.description.read_text()).get("samples")
    if saved != digests:
        raise UserError(
            f"{output.folder}: holds other images under the same options (photos or weights have changed);"
            " choose another --output"
        )


def write(output: Path, options: ExportOptions, sets: dict[str, Samples]) -> int:
    """The images that are missing, then the lists.  Returns the number of images written."""
    paths = {
        output / frame_of(which, name, label): image
        for which, samples in sets.items()
        for name, label, image in zip(samples.names, samples.labels.tolist(), samples.pixels, strict=True)
    }
    missing = [path for path in paths if not path.exists()]
    with progress.bar(len(missing), "export") as bar:
        for path in missing:
            path.parent.mkdir(parents=True, exist_ok=True)
            images.save_png(path, paths[path])
            bar.update(1)
    lists = lists_of(options.name, options.frames_root, sets)
    files.make_folder(output / "dataset_json")
    for name, content in lists.items():
        files.write_json(output / "dataset_json" / f"{name}.json", content)
    settings = settings_of(options.name, options.frames_root, list(lists))
    files.write_atomic(output / "deepfakebench.yaml", settings)
    print(settings + f"{output}: {len(missing)} images written, {len(paths) - len(missing)} were there")
    return len(missing)


def main(
    argv: list[str] | None = None,
    parse: Callable[..., ExportOptions] | None = None,
    open_source: Callable[[RunOptions, Context], Source] | None = None,
) -> None:
    """The command.  parse, open_source: of evaluation.detector_export."""
    p = cli.ArgumentParser(prog="python -m models.detector.export", description=__doc__)
    add_export_flags(p)
    options = parse(p, argv)
    with distributed.session(options.device) as ctx:
        folder = Path(options.output)
        output = Output(folder, [], "options.yaml")
        if (folder / FRAMES).exists() and not output.described:
            raise UserError(f"{folder / FRAMES}: is there without an options.yaml; choose another --output")
        source = open_source(options, ctx)
        output.missing([], source.options)
        ctx.print("\n".join(f"{which}: {count} images" for which, count in source.counts.items()))
        if options.dry_run:
            return
        sets = source.make()
        if ctx.is_main:
            claim(output, source.options, sets)
            write(folder, options, sets)


if __name__ == "__main__":
    cli.run(
        main, parse="evaluation.detector_export:parse", open_source="evaluation.detector_export:open_source"
    )
