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

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import attacks
from attacks import folder
from attacks.base import Attack
from attacks.craft import CHUNK, PHOTOS, craft
from attacks.flags import AttackOptions, add_attack_flags, attack_from_flags, check_attack_flags
from attacks.universal import save_perturbation
from common import cli, compiling, distributed, files, images, progress, runs, seeds
from common.batch import PhotosAtATime
from common.cli import RunOptions, UserError
from common.errors import shown
from common.folder import add_input_flags, batches, largest
from common.listing import canonical, photos_of
from faces.celeba import read_attributes
from models.conditions import attack_labels
from models.flags import UnnamedTranslatorOptions, add_translator_flags, translator_from_flags
from models.translators import Translator

Labels = Callable[[Sequence[Path]], torch.Tensor]  # of photos -> (N, K, C)


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions, UnnamedTranslatorOptions, AttackOptions):
    """The values of parse_args."""

    limit: int | None
    batch_size: int | str
    precision: str
    input: str
    recursive: bool
    output: str
    image_size: int
    skip_damaged: bool
    attr_path: str | None
    selected_attrs: list[str] | None
    test_noise_var: float
    save_perturbation: str | None

    @property
    def crafting(self) -> bool:
        """Whether a universal perturbation is to be made of the photos."""
        return self.save_perturbation is not None

    @property
    def needs_translator(self) -> bool:
        return self.crafting or self.attack_type not in attacks.WITHOUT_TRANSLATOR


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="python -m attacks", description=__doc__)
    g = p.add_argument_group("what to disrupt")
    add_input_flags(g)
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
    cli.add_run_flags(p, batch_size=16, auto=True, limit=True)
    options = cli.resolve(Options, p.parse_args(argv))
    check(options)
    return options


def check(options: Options) -> None:
    """Raises UserError for flags that do not go together."""
    check_attack_flags(options, options.test_noise_var)
    crafting = options.crafting
    if options.selected_attrs and not options.attr_path:
        raise UserError("--selected_attrs names columns of --attr_path FILE, which is not given")
    if crafting and (options.attack_type != "universal" or options.perturbation):
        raise UserError(
            "--save_perturbation crafts for --attack_type universal without --perturbation; give one of the"
            " two files only"
        )
    if options.attack_type == "universal" and not (options.perturbation or crafting):
        raise UserError(
            "--attack_type universal needs --perturbation FILE, or --save_perturbation FILE.pt to craft one"
            " from the photos"
        )
    if crafting:
        path = Path(options.save_perturbation)
        if path.suffix != ".pt":
            raise UserError(f"--save_perturbation {path}: expected a name that ends in .pt")
        if path.exists():
            raise UserError(
                f"--save_perturbation {path}: exists; give it as --perturbation to apply it, or choose"
                " another name"
            )
        files.check_writable(path.parent)
    if options.gan_weights is None and options.needs_translator:
        raise UserError(
            f"--attack_type {options.attack_type} needs the translator that it attacks: give"
            " --gan_weights FILE"
        )


def read_labels(
    options: Options, translator: Translator | None, sources: Sequence[Path]
) -> tuple[Labels, object]:
    """The translator's label sets: function(list of paths) -> (N, K, C), and what stands for them in
    attack.yaml.

    Raises UserError for photos without a row, missing columns or a number of columns that is not the
    translator's.
    """
    if translator is None:
        return (lambda paths: torch.zeros(len(paths), 1, 0)), None
    attributes = (
        options.selected_attrs
        or translator.attributes
        or [f"attribute {i + 1}" for i in range(translator.c_dim)]
    )
    if len(attributes) != translator.c_dim:
        raise UserError(
            f"--selected_attrs: {len(attributes)} names ({', '.join(attributes)}), {options.gan_weights}"
            f" knows {translator.c_dim} attributes"
        )
    if options.attr_path is None:
        return (
            lambda paths: attack_labels(
                options.attack_label, torch.zeros(len(paths), len(attributes)), attributes, translator
            )
        ), "zeros"
    if not (options.selected_attrs or translator.attributes):
        raise UserError(
            f"{options.gan_weights} does not say which attributes it was trained on: give --selected_attrs in"
            " its order"
        )
    table = read_attributes(options.attr_path)
    values, rows = (table.select(attributes), {canonical(name): i for i, name in enumerate(table.names)})
    without = [p.name for p in sources if canonical(p.name) not in rows]
    if without:
        raise UserError(
            f"{options.attr_path}: no row for {without[0]} ({len(without)} of {len(sources)} photos"
            " have none)"
        )

    def labels(paths):
        return attack_labels(
            options.attack_label, values[[rows[canonical(p.name)] for p in paths]], attributes, translator
        )

    return labels, {"attributes": list(attributes), "sha256": files.sha256(options.attr_path)}


def craft_from(
    options: Options,
    sizes: dict[Path, tuple[int, int]],
    labels: Labels,
    translator: Translator,
    device: torch.device,
) -> torch.Tensor:
    """A universal perturbation (3, H, W) from the first photos.  Raises UserError if they differ in size."""
    chosen = list(sizes)[:PHOTOS]
    other = next((p for p in chosen if sizes[p] != sizes[chosen[0]]), None)
    if other:
        raise UserError(
            f"{other}: photos of several sizes cannot share one crafted perturbation; give --image_size N"
        )
    photos = folder.pad_to(folder.load_batch(chosen, options.image_size, device), translator.size_multiple)
    p = craft(
        [(translator, labels(chosen).to(device))],
        photos,
        options.test_noise_var,
        options.attack_step_size,
        options.attack_steps,
        seeds.Streams([(options.seed, "universal")]),
        chunk=CHUNK if options.batch_size == cli.AUTO else options.batch_size,
    )
    h, w = sizes[chosen[0]]
    return p[:, :h, :w]


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    with distributed.session(options.device) as ctx:
        sources = photos_of(options.input, options.recursive, options.limit)
        output = folder.Output(options.output, sources, "attack.yaml", options.input)
        crafting = options.crafting
        translator = translator_from_flags(options, ctx.device) if options.needs_translator else None
        labels, labels_from = read_labels(options, translator, sources)

        def prepare(perturbation=None):
            attack = attack_from_flags(options, translator, perturbation=perturbation, other_sizes="resize")
            return attack, {
                **attack.definition(),
                "seed": options.seed,
                "image_size": options.image_size,
                "labels": labels_from,
            }

        if crafting and output.described:
            raise UserError(
                f"{options.output}: holds disrupted images already; a newly crafted perturbation needs an"
                " --output of its own"
            )
        # a folder without a description has none to compare
        attack, parameters = (None, {}) if crafting else prepare()
        todo = output.missing(sources, parameters)
        sizes, damaged = folder.inspect(todo, options.image_size, options.skip_damaged, options.num_workers)
        if len(damaged) == len(sources):
            raise UserError(f"{options.input}: none of its {len(sources)} images can be read")
        runs.show(options, ctx)
        if options.dry_run:
            return
        if crafting:
            perturbation = craft_from(options, sizes, labels, translator, ctx.device)
            attack, parameters = prepare(perturbation)
            if ctx.is_main:
                save_perturbation(options.save_perturbation, perturbation)

        def rehearse(count):
            attacked(options, attack, [largest(sizes)] * count, labels, ctx.device)

        def work(size):
            # before the first image, so that none lies there unexplained
            if ctx.is_main:
                output.claim([p for p in sources if p not in damaged])
            if ctx.is_main and not output.described:
                facts = {
                    "gan_weights": options.gan_weights,
                    "skipped_damaged": [output.name(p) for p in damaged],
                }
                output.describe(parameters, {**runs.origin(), **facts, "photos_at_a_time": size})
            ctx.barrier()
            if options.needs_translator:
                calls = len(sizes) / size / ctx.world * options.attack_steps
                compiling.fix([translator], options.compile, ctx, size, calls)
            disrupt(options, ctx, attack, output, sources, sizes, damaged, labels, size)

        PhotosAtATime.of(options.batch_size, sizes, ctx).run(ctx, rehearse, work)


def attacked(
    options: Options, attack: Attack, paths: Sequence[Path], labels: Labels, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """(photos, disrupted photos) of paths to photos of one size, both (N, 3, H, W)."""
    x = folder.load_batch(paths, options.image_size, device)
    h, w = x.shape[-2:]
    multiple = attack.generator.size_multiple if attack.uses_translator else 1
    rng = seeds.named(options.seed, [p.name for p in paths], "attack")
    return x, attack(folder.pad_to(x, multiple), labels(paths).to(device), rng)[..., :h, :w]


def disrupt(
    options: Options,
    ctx: distributed.Context,
    attack: Attack,
    output: folder.Output,
    sources: Sequence[Path],
    sizes: dict[Path, tuple[int, int]],
    damaged: Sequence[Path],
    labels: Labels,
    batch_size: int,
) -> None:
    """Attack batch after batch, each photo saved as soon as it is done; then the table of what was
    reached."""
    rows, started = [], time.time()
    bar = progress.bar(len(sizes), options.attack_type, show=ctx.is_main)
    for paths in ctx.shard(batches(sizes, batch_size)):
        x, x_adv = attacked(options, attack, paths, labels, ctx.device)
        rows += output.save(paths, images.to_uint8(x), images.to_uint8(x_adv))
        bar.update(len(paths) * ctx.world)
    bar.close()
    seconds = (time.time() - started) / max(1, len(sizes))
    rows = ctx.gather(rows)
    if not ctx.is_main:
        return
    reached = output.report([p for p in sources if p not in damaged], rows, options.image_size)
    for words in damaged.values():
        print(f"skipped, {shown(words)}")
    most = max(float(r[4]) for r in reached)
    print(
        f"{len(sizes)} photos disrupted ({seconds:.3f} s each), {len(reached) - len(sizes)} kept; linf"
        f" {most:.4f} ({127.5 * most:.0f} of 255 grey levels); {output.folder}"
    )


if __name__ == "__main__":
    cli.run(main)
