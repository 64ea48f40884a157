"""Purify any folder of photos: names and sizes stay.

reads   --input            a folder of images or one image, any size
        --defense_weights  the purifier's weights
writes  --output           <stem>.png per photo (8-bit) and purify.yaml (all parameters, sha256 of the
                           weights, seconds and network evaluations per photo)
        <weights>.terd.safetensors    with --scan: the verdict on the purifier's weights

A network knows one size. --fit tile purifies a photo in overlapping tiles of that size and blends them; a
smaller photo is reflected up to one tile. --fit resize shrinks or enlarges the whole photo to it and back.
jpeg, blur and the autoencoders take photos whole. Images that are there already are kept; a folder with
images of other parameters is refused. Killed? Give the same command again.

  python -m purify --input photos --output purified --defense_model_type one-step \\
      --defense_weights models/one_step/demo.safetensors
  python -m purify --input photos --output purified --defense_model_type ddpm \\
      --defense_weights W.safetensors --ddpm_start_num auto
  python -m purify --input photos --output purified --defense_model_type jpeg --jpeg_quality 50
  python -m purify --input photos --output purified --defense_model_type ddpm \\
      --defense_weights downloaded.pt --scan
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common import cli, compiling, folder, images, progress, runs, seeds
from common.distributed import Context, resolve_device
from common.errors import UserError
from purify.base import Purifier
from purify.flags import PurifierOptions, add_purifier_flags, options_of, purifier_from_flags, resolve_defence
from purify.sizes import MODES, describe, fit
from purify.terd.screen import Screen, add_scan_flags, scan_of


@dataclass(frozen=True, kw_only=True)
class Options(cli.RunOptions, PurifierOptions):
    """What the command works with."""

    input: str
    output: str
    fit: str
    skip_damaged: bool
    scan: str | None
    batch_size: int
    precision: str
    limit: int | None


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="python -m purify", description=__doc__)
    g = p.add_argument_group("what to purify")
    g.add_argument(
        "--input", required=True, metavar="DIR|FILE", help=f"photos ({', '.join(images.EXTENSIONS)})"
    )
    g.add_argument(
        "--output", required=True, metavar="DIR", help="folder of the purified PNGs, not that of the photos"
    )
    g.add_argument(
        "--fit",
        choices=MODES,
        default="tile",
        help="photos of another size than the network's: overlapping tiles, or a resize there and back",
    )
    g.add_argument(
        "--skip_damaged", action="store_true", help="go on without images that cannot be read, and list them"
    )
    add_purifier_flags(p)
    add_scan_flags(p)
    cli.add_run_flags(p, batch_size=16, limit=True)
    parsed = p.parse_args(argv)
    return options_of(Options, parsed, resolve_defence(parsed))


def parameters_of(purifier: Purifier, mode: str, precision: str, seed: int) -> dict:
    """Everything that decides an image, JSON types."""
    return {
        "defense": purifier.name,
        **purifier.params,
        "weights_sha256": purifier.sha256,
        **describe(purifier, mode),
        "precision": precision,
        "seed": seed if purifier.stochastic else None,
    }


@torch.no_grad()
def purify_files(
    purifier: Purifier,
    output: folder.Output,
    sizes: dict[Path, tuple],
    options: Options,
    device: torch.device | str,
) -> float:
    """Purify and write the photos of `sizes`.  Returns seconds spent in the purifier."""
    spent = 0.0
    with progress.bar(len(sizes), "purify") as bar:
        for batch in folder.batches(sizes, options.batch_size):
            x = images.to_float(np.stack([np.asarray(images.read_rgb(p)) for p in batch])).to(device)
            began = time.perf_counter()
            purified = images.to_uint8(
                fit(purifier, x, seeds.named(options.seed, [p.name for p in batch], "purify"), options.fit)
            )
            spent += time.perf_counter() - began
            for path, image in zip(batch, purified, strict=True):
                images.save_png(output.path(path), image)
            bar.update(len(batch))
    return spent


@torch.no_grad()
def carriers(
    screen: Screen | None, sizes: dict[Path, tuple], batch_size: int, device: torch.device | str
) -> list[Path]:
    """The photos of `sizes` that carry the trigger of a purify.terd.screen.Screen; without one, none."""
    carrying = []
    for batch in folder.batches(sizes, batch_size) if screen else []:
        flags = screen(images.to_float(np.stack([np.asarray(images.read_rgb(p)) for p in batch])).to(device))
        carrying += [path for path, flag in zip(batch, flags.tolist(), strict=True) if flag]
    return carrying


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    device = resolve_device(options.device)
    sources = images.list_images(options.input)[: options.limit]
    output = folder.Output(options.output, sources, "purify.yaml")
    purifier = purifier_from_flags(options, device=device)
    parameters = parameters_of(purifier, options.fit, options.precision, options.seed)
    print(
        json.dumps({**runs.options_of(options), "parameters": parameters, "images": len(sources)}, indent=2)
    )
    sizes, damaged = folder.inspect(sources, options.skip_damaged, options.num_workers)
    if not sizes:
        raise UserError(f"{sources[0].parent}: all {len(sources)} images are damaged; give other photos")
    todo = {p: sizes[p] for p in output.missing(list(sizes), parameters)}
    if options.dry_run:
        return
    verdict, screen = scan_of(options, purifier, Context(0, 1, device))
    carrying = carriers(screen, todo, options.batch_size, device)
    for path in carrying:
        todo.pop(path), sizes.pop(path)
        print(f"left out, carries the trigger of the purifier's backdoor: {path}")
    facts = {
        "input": str(options.input),
        "weights": options.defense_weights,
        "images": len(sizes),
        "skipped": [p.name for p in damaged],
        "scan": str(verdict) if verdict else None,
        "carry_the_trigger": [p.name for p in carrying],
        "device": str(device),
        **runs.origin(),
    }
    if todo:
        calls = len(todo) / options.batch_size * purifier.passes
        compiling.fix(purifier.networks(), options.compile, Context(0, 1, device), options.batch_size, calls)
        output.describe(parameters, facts)  # before the first image, so that none lies there unexplained
        seconds = purify_files(purifier, output, todo, options, device)
        output.describe(
            parameters,
            {
                **facts,
                "purified_in_this_run": len(todo),
                "seconds_per_image": round(seconds / len(todo), 6),
                "nfe": round(purifier.nfe, 4),
                **purifier.measured(),
            },
        )
        print(
            f"{len(todo)} photos purified by {purifier.folder_name}: {seconds / len(todo):.4f} s and"
            f" {purifier.nfe:g} network evaluations a photo"
        )
    print(
        f"{output.folder}: {len(sizes)} photos"
        + (f", {len(sizes) - len(todo)} were there already" if len(todo) < len(sizes) else "")
    )
    for path in damaged:
        print(f"skipped, damaged: {path}")


if __name__ == "__main__":
    cli.run(main)
