"""Craft one perturbation for all photos, on the photos of split A and against one translator or several.

reads   <data_dir>/images_a/ (made by split_dataset.py), without its held-out part, and the translators
writes  --save_perturbation FILE.pt, a tensor (3, image_size, image_size) in [-1, 1] units for --attack_type
        universal

  python -m attacks.craft --data_dir dataset/CelebA --victims stargan=200000-G.ckpt \\
      --save_perturbation universal.pt
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from attacks.base import frozen
from attacks.universal import save_perturbation
from common import cli, compiling, distributed, files, progress, runs, seeds
from common.cli import RunOptions, UserError
from common.errors import RunError
from faces.celeba import held_out
from faces.flags import DataOptions, add_data_flags, open_faces
from models.victims import load_victims, named_file

PHOTOS = 128  # as many as CMUA-Watermark trains on
CHUNK = 16  # photos per forward pass


def craft(
    victims: Sequence[tuple[Callable, torch.Tensor]],
    photos: torch.Tensor,
    eps: float,
    alpha: float,
    steps: int,
    rng: seeds.Streams,
    chunk: int = CHUNK,
    show: bool = False,
) -> torch.Tensor:
    """A universal perturbation by sign steps on the mean loss over a batch of photos, away from their clean
    fakes.

    Args:    victims     [(G(x, c), conditions (N, K, C) of the photos)]: the loss is meaned over the K sets
                         and over the victims
             photos      (N, 3, H, W) in [-1, 1]
             eps, alpha  radius and step, [-1, 1] units;  steps  one pass of all photos through every victim
                         each
             rng         common.seeds.Streams of one stream: the start, uniform in the ball (at zero the
                         gradient is zero)
             chunk       photos per forward pass; their gradients add up, so only memory depends on it
    Returns: (3, H, W), |p| <= eps
    Raises:  RunError if a gradient is not finite
    Source:  Moosavi-Dezfooli et al. 2017 for the idea; sign steps on a batch as in CMUA-Watermark (Huang et
             al. 2022), without its fusion of one perturbation per translator: here their gradients are added,
             each scaled to a mean of 1
    """
    p = rng.uniform(photos[:1], -eps, eps)
    work = [
        (translator, _clean(translator, photos, conditions, chunk), conditions)
        for translator, conditions in victims
    ]
    finite = torch.ones((), dtype=torch.bool, device=p.device)
    with progress.bar(steps, "craft", "step", show=show) as bar:
        for _ in range(steps):
            total = torch.zeros_like(p)
            for translator, clean, conditions in work:
                grad = torch.zeros_like(p)
                with frozen(translator):
                    for x, c, goal in zip(photos.split(chunk), conditions.split(chunk), clean, strict=True):
                        leaf = p.detach().requires_grad_(True)
                        with torch.enable_grad():
                            seen = (x + leaf).clamp(-1, 1).repeat(c.shape[1], 1, 1, 1)
                            loss = (
                                (translator(seen, c.transpose(0, 1).flatten(0, 1)) - goal)
                                .square()
                                .mean(dim=(1, 2, 3))
                                .sum()
                            )
                        grad += torch.autograd.grad(loss, leaf)[0]
                total += grad / grad.abs().mean().clamp_min(torch.finfo(grad.dtype).tiny)
            finite = finite & total.isfinite().all()
            p = (p + alpha * total.sign()).clamp(-eps, eps)
            bar.update(1)
    if not finite:
        raise RunError("universal: a gradient is not finite; try --precision fp32, or other --victims")
    return p[0]


@torch.no_grad()
def _clean(translator, photos, conditions, chunk):
    """The clean fakes of each chunk, its K sets one after the other."""
    return [
        torch.cat([translator(x, c[:, k]) for k in range(c.shape[1])])
        for x, c in zip(photos.split(chunk), conditions.split(chunk), strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions, DataOptions):
    """The values of parse_args."""

    limit: int
    batch_size: int
    precision: str
    victims: list[str]
    save_perturbation: Path
    test_noise_var: float
    attack_steps: int
    attack_step_size: float


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="attacks.craft", description=__doc__)
    add_data_flags(p)
    g = p.add_argument_group("perturbation")
    g.add_argument(
        "--victims",
        type=named_file,
        nargs="+",
        required=True,
        metavar="NAME=FILE",
        help="translators that it is to break, all at once",
    )
    g.add_argument(
        "--save_perturbation",
        type=Path,
        required=True,
        metavar="FILE.pt",
        help="where it goes; an existing file is not replaced",
    )
    g.add_argument(
        "--test_noise_var",
        type=cli.radius,
        default=0.05,
        metavar="EPS",
        help="L-inf radius, [-1,1] image units (0.05 = 6.4/255)",
    )
    g.add_argument(
        "--attack_steps",
        type=cli.positive_int,
        default=10,
        metavar="N",
        help="passes of all photos through every translator",
    )
    g.add_argument(
        "--attack_step_size",
        type=cli.positive_float,
        default=0.01,
        metavar="A",
        help="step, [-1,1] image units",
    )
    cli.add_run_flags(p, batch_size=16).add_argument(
        "--limit", type=cli.positive_int, default=PHOTOS, metavar="N", help="photos that it is crafted on"
    )
    args = p.parse_args(argv)
    if args.save_perturbation.suffix != ".pt":
        p.error(f"--save_perturbation {args.save_perturbation}: expected a name that ends in .pt")
    return cli.resolve(Options, args)


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    with distributed.session(options.device) as ctx:
        if ctx.world > 1:
            raise UserError("attacks.craft runs in one process; start it without torchrun")
        if options.save_perturbation.exists() and not options.dry_run:
            raise UserError(
                f"--save_perturbation {options.save_perturbation}: exists; choose another name, or apply it"
                " with --attack_type universal --perturbation"
            )
        files.check_writable(options.save_perturbation.parent)
        victims, columns = load_victims(
            options.victims, options.selected_attrs, options.image_size, options.precision, ctx.device
        )
        faces = open_faces(options, columns=columns, whole=True)
        faces = faces.subset(held_out(faces.names, options.seed)[0][: options.limit])
        runs.show(options, ctx)
        if options.dry_run:
            return
        translators, calls = [v.translator for v in victims], options.attack_steps * len(faces)
        compiling.fix(translators, options.compile, ctx, options.batch_size, calls / options.batch_size)
        photos = faces.floats(range(len(faces))).to(ctx.device)
        asked = [
            (victim, victim.conditions(faces.labels.to(ctx.device)).transpose(0, 1)) for victim in victims
        ]
        p = craft(
            asked,
            photos,
            options.test_noise_var,
            options.attack_step_size,
            options.attack_steps,
            seeds.Streams([(options.seed, "universal")]),
            options.batch_size,
            ctx.is_main,
        )
        save_perturbation(options.save_perturbation, p)
        ctx.print(
            f"done: {options.save_perturbation}, {options.attack_steps} passes of {len(faces)} photos through"
            f" {', '.join(v.name for v in victims)}"
        )


if __name__ == "__main__":
    cli.run(main)
