"""Train a generator that makes a photo's perturbation in one pass, against one translator or several (DADFI,
Yang et al. 2024).

reads   <data_dir>/images_a/            (made by split_dataset.py), without its held-out part; the victims'
                                        weights
writes  <result_dir>/dadfi/<dataset>/train/<victims>[-without-finetuning][-<changed setting> ...]/NNN/
        {options.yaml,log.jsonl,last.pt,samples/*.png,weights.safetensors}
        <result_dir>/attacked/<dataset>/  PGD-disrupted photos, once per photo and victim, shared by all runs

Label columns are those that the victims' files name; --selected_attrs is for victims whose file names none.

  python -m models.dadfi.train --victims stargan=200000-G.ckpt --data_dir dataset/CelebA --limit 200
  python -m models.dadfi.train \\
      --victims stargan=A.safetensors stgan=B.safetensors starganv2=C.safetensors --data_dir dataset/CelebA
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from common import checkpoint, cli, distributed, files, images, runs, seeds, training
from common.cli import RunError
from faces.celeba import FaceFolder, held_out
from faces.flags import add_data_flags, dataset_name, open_faces
from faces.loader import Batches
from models.dadfi import losses
from models.dadfi.network import BOUNDS, Perturber, Recogniser
from models.dadfi.optimiser import PaperAdam
from models.dadfi.step import LAMBDAS, Options, Step
from models.dadfi.validation import Validation
from models.victims import Victim, load_victims, named_file

BETAS = (0.9, 0.99)  # alpha_1, alpha_2 of the paper
USUAL = {
    "lim": 0.05,
    "bound": "tanh",
    "gan_loss": "nonsaturating",
    "optimiser": "adam",
    "pgd_steps": 10,
    "pgd_step_size": 0.01,
}
VALIDATED = 32  # held-out photos


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="models.dadfi.train", description=__doc__)
    add_data_flags(p)
    g = p.add_argument_group("what to train against")
    g.add_argument(
        "--victims",
        nargs="+",
        type=named_file,
        required=True,
        metavar="NAME=FILE",
        help="translators, stargan=FILE stgan=FILE starganv2=FILE; all of one image size",
    )
    g.add_argument(
        "--lim",
        type=cli.radius,
        default=0.05,
        help="largest change of a pixel, [-1,1] image units (0.05 = 6.4/255)",
    )
    g.add_argument(
        "--bound",
        choices=list(BOUNDS),
        default="tanh",
        help="tanh: lim tanh(raw), a hard bound; hinge: the paper's soft bound, clipped in use alone",
    )
    g.add_argument(
        "--conv_dim",
        type=cli.positive_int,
        default=32,
        help="channels of the first layer of the generator and of the recognisers",
    )
    g.add_argument(
        "--pgd_steps", type=cli.positive_int, default=10, help="steps of the basic perturbations (E5-E6)"
    )
    g.add_argument(
        "--pgd_step_size", type=cli.positive_float, default=0.01, help="their step size, [-1,1] image units"
    )
    g = p.add_argument_group("losses")
    g.add_argument(
        "--gan_loss",
        choices=list(losses.FORMS),
        default="nonsaturating",
        help="the generator's side of E3 and E7; saturating is as printed",
    )
    g.add_argument(
        "--lambda_x",
        type=cli.natural_float,
        default=LAMBDAS["lambda_x"],
        help="weight of L_x, photo against protected photo (E3)",
    )
    g.add_argument(
        "--lambda_y",
        type=cli.natural_float,
        default=LAMBDAS["lambda_y"],
        help="weight of L_y, PGD-broken fakes against fakes of the protected photo (E9)",
    )
    g.add_argument(
        "--lambda_hinge",
        type=cli.natural_float,
        default=LAMBDAS["lambda_hinge"],
        help="weight of the bound's loss (E4), nothing under --bound tanh",
    )
    g.add_argument(
        "--lambda_distance",
        type=cli.natural_float,
        default=LAMBDAS["lambda_distance"],
        help=(
            "weight of -log of the distance between the fakes of protected photo and photo, as a share of"
            " PGD's; ours, 0 = the paper's losses alone"
        ),
    )
    g.add_argument(
        "--without_finetuning",
        action="store_true",
        help=(
            'the paper\'s ablation "without the fine-tuning module": nothing that the translators answer, L_x'
            " and the bound alone"
        ),
    )
    g = training.add_training_flags(p, num_steps=2000, lr=2e-4)
    g.add_argument(
        "--optimiser",
        choices=["adam", "paper"],
        default="adam",
        help="paper: Adam with 1e-6 inside the root (E15-E18)",
    )
    cli.add_run_flags(p, batch_size=8, limit=True, resume=True, compiled=False)
    args = p.parse_args(argv)
    if args.image_size < 16:
        p.error(f"--image_size {args.image_size}: expected at least 16 (the recognisers halve it four times)")
    return cli.resolve(Options, args, dataset=dataset_name(args))


def variant(options: Options) -> str:
    """What differs from the usual training, joined by dashes: "", without-finetuning, distance0,
    distance0-optimiser-paper ..."""
    words = ["without-finetuning"] if options.without_finetuning else []
    words += [
        f"{k.removeprefix('lambda_')}{getattr(options, k):g}"
        for k, usual in LAMBDAS.items()
        if getattr(options, k) != usual
    ]
    words += [f"{k}-{getattr(options, k)}" for k, usual in USUAL.items() if getattr(options, k) != usual]
    return "-".join(words)


def initial_networks(options: Options) -> dict[str, nn.Module]:
    """Gen, Ide_x and, unless --without_finetuning, Ide_y; seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(options.seed, "dadfi"))
        networks = {
            "generator": Perturber(options.conv_dim, options.lim, options.bound),
            "ide_x": Recogniser(options.conv_dim),
            "ide_y": Recogniser(options.conv_dim),
        }
    if options.without_finetuning:
        del networks["ide_y"]
    return networks


def make_optimiser(optimiser: str, lr: float, network: nn.Module) -> torch.optim.Optimizer:
    """optimiser: adam or paper (E15-E18)."""
    if optimiser == "paper":
        return PaperAdam(network.parameters(), lr, BETAS, tau=1e-6)
    fused = next(network.parameters()).is_cuda
    return torch.optim.Adam(network.parameters(), lr, betas=BETAS, fused=fused)


def shares(faces: FaceFolder, seed: int) -> tuple[list[str], list[str]]:
    """The names to train on and, up to VALIDATED, those to validate on; one photo alone serves as both."""
    kept, held = held_out(faces.names, seed)
    return kept, (held or kept)[:VALIDATED]


def train(
    options: Options,
    run: runs.Run,
    ctx: distributed.Context,
    faces: FaceFolder,
    victims: Sequence[Victim],
    broken: Sequence[Callable[[Sequence[str]], torch.Tensor]],
    release: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> None:
    """Train on the faces of split A that are not held out.

    Args:    broken   per victim, names of photos -> (N, 3, H, W), their PGD-broken form (E5-E6)
             release  see models.dadfi.validation.Validation
    Raises:  RunError if the generator has collapsed: no weights are written, last.pt stays. Of the ablation
             it is a finding
    """
    kept, held = shares(faces, options.seed)
    held, faces = faces.subset(held), faces.subset(kept)
    networks = {k: n.to(ctx.device) for k, n in initial_networks(options).items()}
    if ctx.device.type == "cuda":
        networks = {k: n.to(memory_format=torch.channels_last) for k, n in networks.items()}
    optimisers = {k: make_optimiser(options.optimiser, options.lr, n) for k, n in networks.items()}
    average = training.averaged(networks["generator"]) if options.ema else None
    final = average.module if average is not None else networks["generator"]
    # No mirroring: the PGD-broken photos are made once, and a mirrored one breaks less.
    step = Step(
        options,
        ctx,
        Batches(faces, options.batch_size, options.seed, ctx, flip=False),
        networks,
        optimisers,
        victims,
        broken,
        faces.names,
        average,
    )
    x, labels = held.floats(range(len(held))).to(ctx.device), held.labels.to(ctx.device)
    pgd = [photos(held.names).to(ctx.device) for photos in broken]
    validation = (
        Validation(x, labels, victims, release, pgd, options.lim, options.seed) if ctx.is_main else None
    )

    def on_save(done):
        files.make_folder(run.folder / "samples")
        images.save_png(run.folder / "samples" / f"{done:07d}.png", validation.grid(final.eval()))
        return validation.measure(final)

    parts = {
        **networks,
        **{f"{k}_optimiser": o for k, o in optimisers.items()},
        **({"average": average} if average is not None else {}),
    }
    training.loop(run, options, ctx, parts, step, on_save, "dadfi")
    if ctx.is_main:
        finding = validation.finding(final.eval())
        if finding and not options.without_finetuning:
            raise RunError(
                f"{run.folder}: the generator has collapsed, {finding}. Its state is in {run.last}, no"
                " weights were written; try another --lambda_distance, --lambda_x or --lr"
            )
        checkpoint.save_weights(
            run.folder / "weights.safetensors", final.state_dict(), describe(options, victims, finding)
        )
        ctx.print(
            f"done: {run.folder / 'weights.safetensors'}" + (f" (finding: {finding})" if finding else "")
        )


def describe(options: Options, victims: Sequence[Victim], finding: str | None) -> dict:
    """What the weight file says of itself; JSON types."""
    return {
        "kind": "dadfi",
        "lim": options.lim,
        "bound": options.bound,
        "image_size": options.image_size,
        "victims": [v.describe() for v in victims],
        "finetuning": not options.without_finetuning,
        "variant": variant(options),
        "losses": {"gan_loss": options.gan_loss, **{k: getattr(options, k) for k in LAMBDAS}},
        "optimiser": options.optimiser,
        "trained_on": options.dataset,
        "steps": options.num_steps,
        "seed": options.seed,
        "ema": bool(options.ema),
        "finding": finding,
        "options": {"conv_dim": options.conv_dim},
    }


def basic_perturbations(
    options: Options,
    ctx: distributed.Context,
    faces: FaceFolder,
    victims: Sequence[Victim],
    build_attack: Callable,
    cache_attacked: Callable,
) -> tuple[list[Callable], Callable]:
    """Make the PGD-broken photos that are not in the cache yet (E5-E6).

    Args:    build_attack  attacks.build;  cache_attacked  pipeline.attacked.AttackedPhotos
    Returns: (broken, release) as `train` takes them
    """
    kept, held = shares(faces, options.seed)
    faces, broken = (
        faces.subset(list(dict.fromkeys([*([] if options.without_finetuning else kept), *held]))),
        [],
    )
    for victim in victims:
        attack = build_attack(
            "pgd",
            victim.translator,
            options.lim,
            steps=options.pgd_steps,
            step_size=options.pgd_step_size,
            target="clean",
            label="iterative",
            precision=options.precision,
        )
        photos = cache_attacked(
            attack,
            "iterative",
            victim.faces(faces),
            victim.attributes,
            Path(options.result_dir) / "attacked" / options.dataset,
            faces.preparation,
            options.seed,
        )
        photos.fill(ctx, options.batch_size, f"break {victim.name}")
        broken.append(photos.floats)
    return broken, attack.release  # the radius is the same for all


def main(
    argv: list[str] | None = None,
    build_attack: Callable | None = None,
    cache_attacked: Callable | None = None,
) -> None:
    """The command.  build_attack, cache_attacked: see basic_perturbations."""
    options = parse_args(argv)
    with distributed.session(options.device) as ctx:
        victims, columns = load_victims(
            options.victims, options.selected_attrs, options.image_size, options.precision, ctx.device
        )
        faces = open_faces(options, columns=columns)
        # a size that cannot be divided is told before anything is written
        Batches(faces, options.batch_size, options.seed, ctx)
        name = "-".join(filter(None, ["+".join(v.name for v in victims), variant(options)]))
        run = runs.begin(
            options,
            ctx,
            Path(options.result_dir) / "dadfi" / options.dataset / "train" / name,
            "weights.safetensors",
        )
        if run is None:
            return
        broken, release = basic_perturbations(options, ctx, faces, victims, build_attack, cache_attacked)
        train(options, run, ctx, faces, victims, broken, release)


if __name__ == "__main__":
    cli.run(main, build_attack="attacks:build", cache_attacked="pipeline.attacked:AttackedPhotos")
