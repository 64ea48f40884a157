"""Train StarGAN, or fine-tune it adversarially against disruptions.

reads   <data_dir>/images_a/            (made by split_dataset.py), without its held-out part
writes  <result_dir>/stargan/<dataset>/train/<standard|adv-generator|adv-both>/NNN/
        {options.yaml,log.jsonl,last.pt,samples/*.png,weights.safetensors}

  python -m models.stargan.train --data_dir dataset/CelebA
  python -m models.stargan.train --adversarial both \\
      --init_from results/stargan/CelebA/train/standard/000/last.pt --num_steps 2000
  torchrun --standalone --nproc_per_node=4 -m models.stargan.train --data_dir dataset/CelebA
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from common import checkpoint, cli, distributed, runs, seeds
from common.cli import UserError
from faces.flags import add_data_flags, dataset_name, open_faces
from models.stargan import step
from models.stargan.frozen import generator_from
from models.stargan.network import UPSAMPLING, Discriminator, Generator
from models.stargan.step import Disrupt, add_schedule_flags, decay_steps


@dataclass(frozen=True, kw_only=True)
class Options(step.Options):
    """The values of parse_args."""

    g_repeat_num: int
    upsampling: str
    d_repeat_num: int
    init_from: str | None
    adversarial: str
    train_noise_var: float
    attack_steps: int
    attack_step_size: float


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="models.stargan.train", description=__doc__)
    add_data_flags(p)
    g = p.add_argument_group("networks")
    g.add_argument(
        "--g_conv_dim", type=cli.positive_int, default=64, help="channels of the generator's first layer"
    )
    g.add_argument(
        "--d_conv_dim", type=cli.positive_int, default=64, help="channels of the discriminator's first layer"
    )
    g.add_argument(
        "--g_repeat_num", type=cli.positive_int, default=6, help="residual blocks of the generator"
    )
    g.add_argument(
        "--upsampling",
        choices=UPSAMPLING,
        default="transposed",
        help=(
            "of the generator: transposed convolutions, as published, or enlarged and convolved (resize),"
            " which leaves no chequered pattern in the fakes"
        ),
    )
    g.add_argument(
        "--d_repeat_num", type=cli.positive_int, default=6, help="strided layers of the discriminator"
    )
    g.add_argument(
        "--init_from",
        default=None,
        metavar="FILE",
        help="start from this last.pt (both networks) or generator file; needed by --adversarial",
    )
    g = p.add_argument_group("losses")
    g.add_argument("--lambda_cls", type=cli.natural_float, default=1.0, help="weight of the attribute loss")
    g.add_argument("--lambda_rec", type=cli.natural_float, default=10.0, help="weight of the cycle loss")
    g.add_argument("--lambda_gp", type=cli.natural_float, default=10.0, help="weight of the gradient penalty")
    g.add_argument(
        "--n_critic", type=cli.positive_int, default=5, help="discriminator steps per generator step"
    )
    g = p.add_argument_group("adversarial training")
    g.add_argument(
        "--adversarial",
        choices=["none", "generator", "both"],
        default="none",
        help="disrupt what the generator sees, or what both networks see (Ruiz et al. 2020, Sec. 3.4)",
    )
    g.add_argument(
        "--train_noise_var",
        type=cli.radius,
        default=0.05,
        metavar="EPS",
        help="L-inf radius of the training attack (pgd, target clean), [-1,1] image units (0.05 = 6.4/255)",
    )
    g.add_argument("--attack_steps", type=cli.positive_int, default=3, help="steps of the training attack")
    g.add_argument(
        "--attack_step_size",
        type=cli.positive_float,
        default=0.02,
        help="step size of the training attack, [-1,1] units",
    )
    add_schedule_flags(p, lr=1e-4)
    cli.add_run_flags(p, batch_size=16, limit=True, resume=True)
    args = p.parse_args(argv)
    if args.adversarial != "none" and args.init_from is None:
        p.error("--adversarial fine-tunes a trained translator: give --init_from .../last.pt")
    if args.image_size % 4 or args.image_size < 8:
        p.error(
            f"--image_size {args.image_size}: expected a multiple of 4 from 8 on (the generator halves it"
            " twice)"
        )
    if args.image_size % (1 << args.d_repeat_num):
        p.error(
            f"--image_size {args.image_size} is not divisible by {1 << args.d_repeat_num} (2^d_repeat_num):"
            f" use {max(1, args.image_size >> args.d_repeat_num) << args.d_repeat_num}, or fewer"
            " --d_repeat_num"
        )
    return cli.resolve(Options, args, dataset=dataset_name(args), decay_steps=decay_steps(args))


def initial_networks(options: Options) -> tuple[Generator, Discriminator]:
    """Generator and discriminator, seeded, or from --init_from.  Raises UserError for other networks'
    weights."""
    c_dim = len(options.selected_attrs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(options.seed, "stargan"))
        generator = Generator(options.g_conv_dim, c_dim, options.g_repeat_num, options.upsampling)
        discriminator = Discriminator(options.image_size, options.d_conv_dim, c_dim, options.d_repeat_num)
    if options.init_from:
        path = Path(options.init_from)
        if path.name == "last.pt":
            saved = checkpoint.load_state(path)
            generator = generator_from(checkpoint.part_of(saved, path, "generator"), path, c_dim)
            try:
                discriminator.load_state_dict(checkpoint.part_of(saved, path, "discriminator"))
            except RuntimeError:
                raise UserError(
                    f"{path}: its discriminator is another network; set --d_conv_dim, --d_repeat_num and"
                    " --image_size as it was trained"
                ) from None
        else:
            generator = generator_from(checkpoint.read_weights(path)[0], path, c_dim)
    return generator, discriminator


def training_attack(options: Options, build_attack: Callable[..., Callable]) -> Disrupt:
    """PGD away from the clean fake on the live generator, few steps.

    Args: build_attack  attacks.build: (name, translator, eps, **options) -> an attack
    """

    def disrupt(generator, x, c, rng):
        attack = build_attack(
            "pgd",
            generator,
            options.train_noise_var,
            steps=options.attack_steps,
            step_size=options.attack_step_size,
            target="clean",
            label="target",
            precision=options.precision,
        )
        return attack.disrupt(x, c[:, None], rng)

    return disrupt


def main(argv: list[str] | None = None, build_attack: Callable[..., Callable] | None = None) -> None:
    """The command.  build_attack: attacks.build, which --adversarial needs."""
    options = parse_args(argv)
    with distributed.session(options.device) as ctx:
        faces = open_faces(options)
        initial_networks(options)  # a wrong --init_from is told before anything is written
        kind = "standard" if options.adversarial == "none" else f"adv-{options.adversarial}"
        run = runs.begin(
            options,
            ctx,
            Path(options.result_dir) / "stargan" / options.dataset / "train" / kind,
            "weights.safetensors",
        )
        if run is None:
            return
        generator, discriminator = initial_networks(options)
        meta = {
            "kind": "stargan-generator",
            "adversarial": options.adversarial,
            "options": {
                "conv_dim": generator.conv_dim,
                "c_dim": generator.c_dim,
                "repeat_num": generator.repeat_num,
            },
        }
        step.train(
            options,
            run,
            ctx,
            faces,
            (generator, discriminator),
            meta,
            disrupt=training_attack(options, build_attack) if options.adversarial != "none" else None,
            both=options.adversarial == "both",
        )


if __name__ == "__main__":
    cli.run(main, build_attack="attacks:build")
