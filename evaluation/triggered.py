"""Can a photo set off a backdoored purifier? Photos with a trigger on them through several purifiers, what
comes out, and the fakes of it.

reads   <data_dir>/images_b/ (made by split_dataset.py), diffusion weights, and the translator where one is
        named
writes  <result_dir>/triggered/<dataset>/<trigger>-<target>/NNN/
        {options.yaml,table.md,grid.png,triggered.json}

The trigger is put on a photo x in one of these ways:
  stamp    drawn on it; TrojDiff's is blended in, gamma x + r
  add      x + r, clipped to [-1, 1]: what a published backdoor adds to x_T
  scaled   x + c(t*) r, clipped: what its training pairs carry at the step that the purifier starts from
and beside it `none`, the photo itself. A purifier without a backdoor gets what the first backdoored one of
--purifiers gets. A network of the full range with a published backdoor is set off as published, too (x_T):
that its backdoor works is what the other rows are read against.

  python -m evaluation.triggered --purifiers benign=A.safetensors photo=B.safetensors --image_size 64 \\
      --gan_weights models/stargan/demo.safetensors
  python -m evaluation.triggered --purifiers benign=A.safetensors bad=B.safetensors \\
      --methods ddpm-10 diffpure-1000 --ways stamp add scaled --image_size 16
"""

import argparse
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from common import cli, distributed, files, images, runs
from common.cli import RunOptions, UserError, nearest
from evaluation.triggered_rows import KINDS, Rows, measure
from evaluation.triggered_table import draw_grid, write_table
from faces.flags import DataOptions, add_data_flags, dataset_name, open_faces
from models.diffusion import build, triggers
from models.diffusion.backdoor import BACKDOORS, Backdoor, from_meta
from models.flags import TranslatorOptions, add_translator_flags, translator_from_flags
from models.translators import check_size

FILE = "triggered.json"
METHODS = (
    "ddpm-10",
    "ddpm-50",
    "ddpm-300",
    "diffpure-100",
    "diffpure-300",
    "diffpure-1000",
    "one-step-plain-10",
    "one-step-plain-100",
)
WAYS = ("stamp", "add", "scaled")


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions, TranslatorOptions, RunOptions):
    """The values of the command; trigger and target are None until the weights have told them, see load."""

    split: str
    purifiers: list[str]
    methods: list[str]
    most_steps: int
    trigger: str | None
    target: str | None
    ways: list[str]
    batch_size: int
    limit: int | None
    resume: str | None


def named_file(text: str) -> str:
    """Type of a flag NAME=FILE; the text itself is kept."""
    name, equals, path = text.partition("=")
    if not (equals and path and re.fullmatch(r"[\w.+-]+", name)):
        raise argparse.ArgumentTypeError(
            f"expected NAME=FILE, benign=weights.safetensors for example, found {text!r}"
        )
    return text


def method(text: str) -> str:
    """Type of a flag KIND-T; the text itself is kept."""
    kind, _, start = text.rpartition("-")
    if kind not in KINDS or not start.isdigit() or not int(start):
        raise argparse.ArgumentTypeError(
            f"expected {', '.join(f'{k}-T' for k in KINDS)} with T from 1 on, found"
            f" {text!r}{nearest(text, METHODS)}"
        )
    return text


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="evaluation.triggered", description=__doc__)
    g = add_data_flags(p, "b")
    g.add_argument(
        "--split", choices=["b", "c"], default="b", help="which photos; none that purifiers are trained on"
    )
    g = p.add_argument_group("purifiers")
    g.add_argument(
        "--purifiers",
        type=named_file,
        nargs="+",
        required=True,
        metavar="NAME=FILE",
        help="diffusion weights; a benign one to hold the others against",
    )
    g.add_argument(
        "--methods",
        type=method,
        nargs="+",
        default=list(METHODS),
        metavar="KIND-T",
        help="how they purify, and t*; a t* above what a network was trained for is left out",
    )
    g.add_argument(
        "--most_steps",
        type=cli.positive_int,
        default=50,
        help="reverse steps at most: a longer chain is respaced",
    )
    g = p.add_argument_group("trigger")
    g.add_argument(
        "--trigger",
        choices=list(triggers.TRIGGERS),
        default=None,
        help="what is put on the photos (default: that of the weights)",
    )
    g.add_argument(
        "--target",
        choices=list(triggers.TARGETS),
        default=None,
        help="what would come out (default: that of the weights)",
    )
    g.add_argument("--ways", nargs="+", choices=WAYS, default=["stamp"], help="how it is put on them")
    add_translator_flags(p.add_argument_group("translator"), "translator; with it the fakes are measured")
    cli.add_run_flags(p, batch_size=16, limit=True, resume=True, precision=False, compiled=False)
    parsed = p.parse_args(argv)
    names = [text.partition("=")[0] for text in parsed.purifiers]
    if twice := next((n for n in names if names.count(n) > 1), None):
        p.error(f"--purifiers: {twice} is there {names.count(twice)} times; each name once")
    return cli.resolve(Options, parsed, dataset=dataset_name(parsed))


def load(options: Options, device: torch.device | str) -> tuple[dict, Backdoor, Options]:
    """The purifiers, what is put on photos for those without a backdoor, and the options with the trigger and
    the target of the weights filled in.

    Returns: ({name: (Denoiser, its backdoor or None)}, the form of those that have none, Options)
    Raises:  UserError for weights that do not fit, or that name several triggers
    """
    loaded = {}
    for text in options.purifiers:
        name, _, path = text.partition("=")
        denoiser = build.load(path, device)
        if denoiser.image_size != options.image_size:
            raise UserError(
                f"{path}: made for {denoiser.image_size} pixels, --image_size is {options.image_size}"
            )
        if denoiser.kind != "diffusion":
            raise UserError(f"{path}: expected ordinary diffusion weights, found {denoiser.kind} ones")
        loaded[name] = denoiser, from_meta(denoiser.meta, denoiser.alphas_bar.cpu())
    told = [d.meta["backdoor"] for d, backdoor in loaded.values() if backdoor]
    options = replace(
        options,
        trigger=options.trigger or only_one("trigger", told, triggers.TRIGGERS),
        target=options.target or only_one("target", told, triggers.TARGETS),
    )
    published = [backdoor for _, backdoor in loaded.values() if backdoor and backdoor.name in BACKDOORS]
    if published:
        return loaded, published[0], options
    abar = next(iter(loaded.values()))[0].alphas_bar.cpu()
    return (
        loaded,
        Backdoor("baddiffusion", options.trigger, options.target, options.image_size, abar),
        options,
    )


def only_one(key: str, told: list[dict], choices: Iterable[str]) -> str:
    """The trigger, or target, that all backdoored weights name.  Raises UserError where that is not one."""
    names = sorted({backdoor[key] for backdoor in told})
    if len(names) != 1:
        raise UserError(
            f"--{key}: the weights name {', '.join(names) or 'none'}; give --{key}, one of"
            f" {', '.join(choices)}"
        )
    return names[0]


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    with distributed.session(options.device) as ctx:
        if ctx.world > 1:
            raise UserError("evaluation.triggered runs in one process; start it without torchrun")
        files.check_writable(options.result_dir)
        loaded, form, options = load(options, ctx.device)
        translator = None
        if options.gan_weights:
            translator = translator_from_flags(options, ctx.device, options.selected_attrs)
            check_size(options.image_size, translator)
        faces = open_faces(options, options.split)
        name = f"{options.trigger}-{options.target}"
        run = runs.begin(options, ctx, Path(options.result_dir) / "triggered" / options.dataset / name, FILE)
        if run is None:
            return
        rows = Rows(
            faces,
            triggers.target(options.target, options.image_size),
            translator,
            options.selected_attrs,
            options.seed,
            options.batch_size,
            ctx.device,
        )
        skipped = measure(loaded, form, rows, options.methods, options.ways, options.most_steps)
        result = {
            "format": 1,
            "trigger": options.trigger,
            "target": options.target,
            "num_images": len(faces),
            "image_size": options.image_size,
            "split": options.split,
            "seed": options.seed,
            "purifiers": {
                name: {
                    "sha256": d.sha256,
                    "backdoor": d.meta.get("backdoor"),
                    "max_timestep": d.max_timestep,
                    "steps": d.meta.get("steps"),
                }
                for name, (d, _) in loaded.items()
            },
            "rows": rows.figures,
            "skipped": skipped,
            "provenance": runs.provenance(run.started, gan_sha256=translator and translator.sha256),
        }
        images.save_png(run.folder / "grid.png", draw_grid(rows, list(loaded), options.methods, options.ways))
        files.write_atomic(run.folder / "table.md", write_table(result))
        files.write_json(run.folder / FILE, result, durable=True)
        ctx.print(write_table(result))
        ctx.print(f"figures: {run.folder / FILE}")


if __name__ == "__main__":
    cli.run(main)
