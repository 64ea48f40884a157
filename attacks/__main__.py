"""Disrupt any folder of photos, so that a translator's deepfakes of them break.

reads   --input        a folder of images or one image, any size, no attributes needed
        --gan_weights  the translator that is attacked (official StarGAN and StarGAN-v2, or ours)
writes  --output       <stem>.png per photo (8-bit), attack.yaml (all parameters), attack.csv (linf and l2
                       reached, per photo)

A photo of a size the translator cannot take is padded by reflection to the next multiple that it takes (4 for
StarGAN) and cropped back. The attack conditions the translator on labels: all zeros, unless --attr_path and
--selected_attrs give the photos' own. Images that are there already are kept; a folder with images of other
parameters is refused. Killed? Give the same command again.

  python -m attacks --input photos --output disrupted --gan_weights models/stargan/demo.safetensors \\
      --attack_target clean
  python -m attacks --input photos --output disrupted --gan_weights G.ckpt --attack_type universal \\
      --save_perturbation universal.pt --image_size 128
  python -m attacks --input photos --output disrupted --attack_type universal --perturbation universal.pt
  python -m attacks --input photos --output disrupted --attack_type dadfi \\
      --attack_weights models/dadfi/demo.safetensors
"""

import json
import time
from pathlib import Path

import torch

from attacks import WITHOUT_TRANSLATOR, folder
from attacks.craft import PHOTOS, craft
from attacks.flags import add_attack_flags, attack_from_flags, check_attack_flags
from attacks.universal import save_perturbation
from common import cli, distributed, files, images, progress, runs, seeds
from common.cli import UserError
from common.folder import batches
from faces.celeba import read_attributes
from models.conditions import attack_labels
from models.flags import add_translator_flags, translator_from_flags


def parse_args(argv=None):
    p = cli.ArgumentParser(prog="python -m attacks", description=__doc__)
    g = p.add_argument_group("what to disrupt")
    g.add_argument(
        "--input", required=True, metavar="DIR|FILE", help=f"photos ({', '.join(images.EXTENSIONS)})"
    )
    g.add_argument(
        "--output", required=True, metavar="DIR", help="folder of the disrupted PNGs, not that of the photos"
    )
    g.add_argument(
        "--image_size",
        type=cli.natural_int,
        default=0,
        metavar="N",
        help="resize the short side to N pixels and crop the centre square; 0 = keep each photo's size",
    )
    g.add_argument(
        "--skip_damaged", action="store_true", help="go on without images that cannot be read, and list them"
    )
    g = p.add_argument_group("translator")
    add_translator_flags(
        g,
        "generator that the attack works on; gaussian, random-sign, none, dadfi and a given --perturbation"
        " need none",
        named=False,
    )
    g.add_argument(
        "--attr_path",
        metavar="FILE",
        default=None,
        help=(
            "attribute file (.txt or .csv, CelebA's layout) with the photos' own labels; without it all"
            " labels are zero"
        ),
    )
    g.add_argument(
        "--selected_attrs",
        nargs="+",
        metavar="NAME",
        default=None,
        help="columns of --attr_path in the translator's order; default: those stored in its weights",
    )
    add_attack_flags(p, rules=("original", "iterative", "joint"), through=False)
    p.add_argument(
        "--save_perturbation",
        metavar="FILE.pt",
        default=None,
        help=(
            f"for universal without --perturbation: craft one on the first {PHOTOS} photos (target clean),"
            " save it here, apply it"
        ),
    )
    cli.add_run_flags(p, batch_size=16, limit=True)
    return p.parse_args(argv)


def check(args):
    """Raises UserError for flags that do not go together."""
    check_attack_flags(args, args.test_noise_var)
    crafting = args.save_perturbation is not None
    if args.selected_attrs and not args.attr_path:
        raise UserError("--selected_attrs names columns of --attr_path FILE, which is not given")
    if crafting and (args.attack_type != "universal" or args.perturbation):
        raise UserError(
            "--save_perturbation crafts for --attack_type universal without --perturbation; give one of the"
            " two files only"
        )
    if args.attack_type == "universal" and not (args.perturbation or crafting):
        raise UserError(
            "--attack_type universal needs --perturbation FILE, or --save_perturbation FILE.pt to craft one"
            " from the photos"
        )
    if crafting:
        path = Path(args.save_perturbation)
        if path.suffix != ".pt":
            raise UserError(f"--save_perturbation {path}: expected a name that ends in .pt")
        if path.exists():
            raise UserError(
                f"--save_perturbation {path}: exists; give it as --perturbation to apply it, or choose"
                " another name"
            )
        files.check_writable(path.parent)
    if args.gan_weights is None and (crafting or args.attack_type not in WITHOUT_TRANSLATOR):
        raise UserError(
            f"--attack_type {args.attack_type} needs the translator that it attacks: give --gan_weights FILE"
        )


def read_labels(args, translator, sources):
    """The translator's label sets: function(list of paths) -> (N, K, C), and what stands for them in
    attack.yaml.

    Raises UserError for photos without a row, missing columns or a number of columns that is not the
    translator's.
    """
    if translator is None:
        return (lambda paths: torch.zeros(len(paths), 1, 0)), None
    attributes = (
        args.selected_attrs
        or translator.attributes
        or [f"attribute {i + 1}" for i in range(translator.c_dim)]
    )
    if len(attributes) != translator.c_dim:
        raise UserError(
            f"--selected_attrs: {len(attributes)} names ({', '.join(attributes)}), {args.gan_weights} knows"
            f" {translator.c_dim} attributes"
        )
    if args.attr_path is None:
        return (
            lambda paths: attack_labels(
                args.attack_label, torch.zeros(len(paths), len(attributes)), attributes, translator
            )
        ), "zeros"
    if not (args.selected_attrs or translator.attributes):
        raise UserError(
            f"{args.gan_weights} does not say which attributes it was trained on: give --selected_attrs in"
            " its order"
        )
    found = read_attributes(args.attr_path)
    values, rows = found.select(attributes), {name: i for i, name in enumerate(found.names)}
    without = [p.name for p in sources if p.name not in rows]
    if without:
        raise UserError(
            f"{args.attr_path}: no row for {without[0]} ({len(without)} of {len(sources)} photos have none)"
        )

    def labels(paths):
        return attack_labels(args.attack_label, values[[rows[p.name] for p in paths]], attributes, translator)

    return labels, {"attributes": list(attributes), "sha256": files.sha256(args.attr_path)}


def load_batch(paths, image_size, device):
    """float32 (N, 3, H, W) in [-1, 1]."""
    return torch.stack([images.to_float(folder.read_photo(p, image_size)) for p in paths]).to(device)


def craft_from(args, sizes, labels, translator, device):
    """A universal perturbation (3, H, W) from the first photos.  Raises UserError if they differ in size."""
    chosen = list(sizes)[:PHOTOS]
    other = next((p for p in chosen if sizes[p] != sizes[chosen[0]]), None)
    if other:
        raise UserError(
            f"{other}: photos of several sizes cannot share one crafted perturbation; give --image_size N"
        )
    photos = folder.pad_to(load_batch(chosen, args.image_size, device), translator.size_multiple)
    p = craft(
        [(translator, labels(chosen).to(device))],
        photos,
        args.test_noise_var,
        args.attack_step_size,
        args.attack_steps,
        seeds.Streams([(args.seed, "universal")]),
        chunk=args.batch_size,
    )
    h, w = sizes[chosen[0]]
    return p[:, :h, :w]


def main(argv=None):
    args = parse_args(argv)
    check(args)
    with distributed.session(args.device) as ctx:
        sources = images.list_images(args.input)[: args.limit]
        output = folder.Output(args.output, sources, "attack.yaml")
        crafting = args.save_perturbation is not None
        needed = crafting or args.attack_type not in WITHOUT_TRANSLATOR
        translator = translator_from_flags(args, ctx.device) if needed else None
        labels, labels_from = read_labels(args, translator, sources)

        def prepare(perturbation=None):
            attack = attack_from_flags(args, translator, perturbation=perturbation, other_sizes="resize")
            return attack, {
                **attack.definition(),
                "seed": args.seed,
                "image_size": args.image_size,
                "labels": labels_from,
            }

        if crafting and output.described:
            raise UserError(
                f"{args.output}: holds disrupted images already; a newly crafted perturbation needs an"
                " --output of its own"
            )
        # a folder without a description has none to compare
        attack, parameters = (None, {}) if crafting else prepare()
        todo = output.missing(sources, parameters)
        sizes, damaged = folder.inspect(todo, args.image_size, args.skip_damaged, args.num_workers)
        if len(damaged) == len(sources):
            raise UserError(f"{args.input}: none of its {len(sources)} images can be read")
        ctx.print(json.dumps(runs.options_of(args), indent=2))
        if args.dry_run:
            return
        if crafting:
            perturbation = craft_from(args, sizes, labels, translator, ctx.device)
            attack, parameters = prepare(perturbation)
            if ctx.is_main:
                save_perturbation(args.save_perturbation, perturbation)
        # before the first image, so that none lies there unexplained
        if ctx.is_main and not output.described:
            output.describe(
                parameters,
                {
                    "command": runs.command(),
                    "commit": runs.commit(),
                    "versions": runs.versions(),
                    "gan_weights": args.gan_weights,
                    "skipped_damaged": [p.name for p in damaged],
                },
            )
        ctx.barrier()
        disrupt(args, ctx, attack, output, sources, sizes, damaged, labels)


def disrupt(args, ctx, attack, output, sources, sizes, damaged, labels):
    """Attack batch after batch, each photo saved as soon as it is done; then the table of what was
    reached."""
    multiple = attack.generator.size_multiple if attack.uses_translator else 1
    rows, started = [], time.time()
    bar = progress.bar(len(sizes), args.attack_type, show=ctx.is_main)
    for paths in ctx.shard(batches(sizes, args.batch_size)):
        x = load_batch(paths, args.image_size, ctx.device)
        h, w = x.shape[-2:]
        x_adv = attack(
            folder.pad_to(x, multiple),
            labels(paths).to(ctx.device),
            seeds.named(args.seed, [p.name for p in paths], "attack"),
        )
        rows += output.save(paths, images.to_uint8(x), images.to_uint8(x_adv[..., :h, :w]))
        bar.update(len(paths) * ctx.world)
    bar.close()
    seconds = (time.time() - started) / max(1, len(sizes))
    rows = ctx.gather(rows)
    if not ctx.is_main:
        return
    reached = output.report([p for p in sources if p not in damaged], rows, args.image_size)
    for path in damaged:
        print(f"skipped, damaged: {path}")
    largest = max(float(r[4]) for r in reached)
    print(
        f"{len(sizes)} photos disrupted ({seconds:.3f} s each), {len(reached) - len(sizes)} kept; linf"
        f" {largest:.4f} ({127.5 * largest:.0f} of 255 grey levels); {output.folder}"
    )


if __name__ == "__main__":
    cli.run(main)
