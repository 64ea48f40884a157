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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common import cli, compiling, folder, images, progress, runs, seeds
from common.batch import PhotosAtATime
from common.distributed import Context, resolve_device
from common.errors import UserError, shown
from common.listing import photos_of
from pipeline.costs import Costs
from purify.base import Purifier
from purify.flags import PurifierOptions, add_purifier_flags, options_of, purifier_from_flags, resolve_defence
from purify.sizes import MODES, describe, fit
from purify.terd.screen import Screen, add_scan_flags, scan_of

SCREENED = 16  # photos at a time that are looked at for a trigger


@dataclass(frozen=True, kw_only=True)
class Options(cli.RunOptions, PurifierOptions):
    """What the command works with."""

    input: str
    recursive: bool
    output: str
    fit: str
    skip_damaged: bool
    scan: str | None
    batch_size: int | str
    precision: str
    limit: int | None


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="python -m purify", description=__doc__)
    g = p.add_argument_group("what to purify")
    folder.add_input_flags(g)
    g.add_argument(
        "--output", required=True, metavar="DIR", help="folder of the purified PNGs, not that of the photos"
    )
    g.add_argument(
        "--fit",
        choices=MODES,
        default="tile",
        help="photos of another size than the network's: overlapping tiles, or a resize there and back",
    )
    add_purifier_flags(p)
    add_scan_flags(p)
    cli.add_run_flags(p, batch_size=16, auto=True, limit=True)
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
        **({"streams": seeds.VERSION} if purifier.stochastic else {}),
    }


def load_batch(paths: Sequence[Path], device: torch.device | str) -> torch.Tensor:
    """float32 (N, 3, H, W) in [-1, 1] of photos of one size."""
    return images.to_float(np.stack([np.asarray(images.read_rgb(p)) for p in paths])).to(device)


def purified_of(purifier: Purifier, x: torch.Tensor, paths: Sequence[Path], options: Options) -> torch.Tensor:
    """The photos x (N, 3, H, W), which lie at `paths`, purified; shape kept."""
    return fit(purifier, x, seeds.named(options.seed, [p.name for p in paths], "purify"), options.fit)


@torch.no_grad()
def purify_files(
    purifier: Purifier,
    output: folder.Output,
    sizes: dict[Path, tuple],
    options: Options,
    device: torch.device | str,
    batch_size: int,
    costs: Costs,
) -> None:
    """Purify and write the photos of `sizes`, and note what it cost."""
    with progress.bar(len(sizes), "purify") as bar:
        for batch in folder.batches(sizes, batch_size):
            x = load_batch(batch, device)
            purifier.reset_count()
            began = time.perf_counter()
            purified = images.to_uint8(purified_of(purifier, x, batch, options))
            spent = time.perf_counter() - began
            costs.write([p.name for p in batch], spent, purifier.nfe * len(batch), purifier.found())
            for path, image in zip(batch, purified, strict=True):
                output.save_image(path, image)
            bar.update(len(batch))


@torch.no_grad()
def carriers(screen: Screen | None, sizes: dict[Path, tuple], device: torch.device | str) -> list[Path]:
    """The photos of `sizes` that carry the trigger of a purify.terd.screen.Screen; without one, none."""
    carrying = []
    for batch in folder.batches(sizes, SCREENED) if screen else []:
        flags = screen(load_batch(batch, device))
        carrying += [path for path, flag in zip(batch, flags.tolist(), strict=True) if flag]
    return carrying


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    device = resolve_device(options.device)
    sources = photos_of(options.input, options.recursive, options.limit)
    output = folder.Output(options.output, sources, "purify.yaml", options.input)
    purifier = purifier_from_flags(options, device=device)
    parameters = parameters_of(purifier, options.fit, options.precision, options.seed)
    print(
        json.dumps({**runs.options_of(options), "parameters": parameters, "images": len(sources)}, indent=2)
    )
    sizes, damaged = folder.inspect(sources, options.skip_damaged, options.num_workers)
    if not sizes:
        raise UserError(f"{sources[0].parent}: all {len(sources)} images are damaged; give other photos")
    missing = set(output.missing(list(sizes), parameters))
    # of those that were killed
    costs = Costs(output.folder / ".cost.json")
    there = {p.name for p in set(sizes) - missing}
    again = set(costs.settle(there.__contains__))
    todo = {p: size for p, size in sizes.items() if p in missing or p.name in again}
    if options.dry_run:
        return
    verdict, screen = scan_of(options, purifier, Context(0, 1, device))
    carrying = carriers(screen, todo, device)
    for path in carrying:
        todo.pop(path), sizes.pop(path)
        print(f"left out, carries the trigger of the purifier's backdoor: {shown(path)}")
    facts = {
        "input": str(options.input),
        "weights": options.defense_weights,
        "images": len(sizes),
        "skipped": [output.name(p) for p in damaged],
        "scan": str(verdict) if verdict else None,
        "carry_the_trigger": [output.name(p) for p in carrying],
        "device": str(device),
        **runs.origin(),
    }
    output.claim([*sizes, *carrying])
    if todo:
        output.describe(parameters, facts)  # before the first image, so that none lies there unexplained

        def rehearse(count):
            paths = [folder.largest(todo)] * count
            with torch.no_grad():
                purified_of(purifier, load_batch(paths, device), paths, options)

        def work(size):
            calls = len(todo) / size * purifier.passes
            compiling.fix(purifier.networks(), options.compile, alone, size, calls)
            costs.made, costs.writing = before, None
            purify_files(purifier, output, todo, options, device, size, costs)
            return size

        alone, before = Context(0, 1, device), costs.made
        size = PhotosAtATime.of(options.batch_size, todo, alone).run(alone, rehearse, work)
        facts["photos_at_a_time"] = size
    spent = costs.all
    if spent["images"]:
        count = spent["images"]
        seconds, nfe = spent["seconds"] / count, spent["evaluations"] / count
        output.describe(
            parameters,
            {
                **facts,
                "purified_in_this_run": count,
                "seconds_per_image": round(seconds, 6),
                "nfe": round(nfe, 4),
                **purifier.measured(spent["found"]),
            },
        )
        costs.path.unlink(missing_ok=True)
        print(
            f"{count} photos purified by {purifier.folder_name}: {seconds:.4f} s and {nfe:g} network"
            " evaluations a photo"
        )
    print(
        f"{output.folder}: {len(sizes)} photos"
        + (f", {len(sizes) - len(todo)} were there already" if len(todo) < len(sizes) else "")
    )
    for words in damaged.values():
        print(f"skipped, {shown(words)}")


if __name__ == "__main__":
    cli.run(main)
