"""Train STGAN.

reads   <data_dir>/images_a/            (made by split_dataset.py), without its held-out part
writes  <result_dir>/stgan/<dataset>/train/standard/NNN/{options.yaml,log.jsonl,last.pt,samples/*.png,weights.safetensors}

  python -m models.stgan.train --data_dir dataset/CelebA
  torchrun --standalone --nproc_per_node=4 -m models.stgan.train --data_dir dataset/CelebA
"""

import json
from pathlib import Path

import torch

from common import cli, distributed, runs, seeds
from faces.flags import add_data_flags, dataset_name, open_faces
from models.stargan import train as stargan
from models.stgan.network import Discriminator, Generator, difference


def parse_args(argv=None):
    p = cli.ArgumentParser(prog="models.stgan.train", description=__doc__)
    add_data_flags(p)
    g = p.add_argument_group("networks")
    g.add_argument(
        "--g_conv_dim", type=cli.positive_int, default=64, help="channels of the generator's first layer"
    )
    g.add_argument(
        "--d_conv_dim", type=cli.positive_int, default=64, help="channels of the discriminator's first layer"
    )
    g.add_argument(
        "--num_layers", type=cli.positive_int, default=5, help="halvings of both networks, at least 2"
    )
    g.add_argument(
        "--d_fc_dim",
        type=cli.positive_int,
        default=1024,
        help="width of the discriminator's fully connected layers",
    )
    g = p.add_argument_group("losses")
    g.add_argument(
        "--lambda_cls",
        type=cli.natural_float,
        default=1.0,
        help="weight of the discriminator's attribute loss (the paper's lambda 1)",
    )
    g.add_argument(
        "--lambda_g_cls",
        type=cli.natural_float,
        default=10.0,
        help="weight of the generator's attribute loss (lambda 2)",
    )
    g.add_argument(
        "--lambda_rec",
        type=cli.natural_float,
        default=100.0,
        help="weight of the reconstruction of the unedited photo (lambda 3)",
    )
    g.add_argument("--lambda_gp", type=cli.natural_float, default=10.0, help="weight of the gradient penalty")
    g.add_argument(
        "--n_critic", type=cli.positive_int, default=5, help="discriminator steps per generator step"
    )
    stargan.add_schedule_flags(p, lr=2e-4)
    cli.add_run_flags(p, batch_size=32, limit=True, resume=True)
    args = p.parse_args(argv)
    args.decay_steps = args.num_steps // 2 if args.decay_steps is None else args.decay_steps
    multiple = 1 << args.num_layers
    if args.num_layers < 2 or args.image_size % multiple:
        p.error(
            f"--image_size {args.image_size} with --num_layers {args.num_layers}: expected at least 2 layers"
            f" and a multiple of {multiple} (2^num_layers), {max(1, args.image_size // multiple) * multiple}"
            " for example"
        )
    return args


class Step(stargan.Step):
    """STGAN's step: StarGAN's adversarial and attribute losses, G asked with differences, reconstruction by
    asking for none (Liu et al. 2019, Eqs. 8-15)."""

    condition = staticmethod(difference)

    def reconstruct(self, x, fake, c):
        return self.G(x, torch.zeros_like(c))

    @property
    def generator_cls(self):
        return self.args.lambda_g_cls


def initial_networks(args):
    """Generator and discriminator, seeded."""
    c_dim = len(args.selected_attrs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(args.seed, "stgan"))
        return (
            Generator(args.g_conv_dim, c_dim, args.num_layers),
            Discriminator(args.image_size, args.d_conv_dim, c_dim, args.num_layers, args.d_fc_dim),
        )


def main(argv=None):
    args = parse_args(argv)
    args.dataset = dataset_name(args)
    with distributed.session(args.device) as ctx:
        faces = open_faces(args)
        ctx.print(json.dumps(runs.options_of(args), indent=2))
        if args.dry_run:
            return
        run = runs.open_run(
            Path(args.result_dir) / "stgan" / args.dataset / "train" / "standard",
            args,
            ctx,
            "weights.safetensors",
        )
        if run.finished:
            ctx.print("this run is finished; nothing to do")
            return
        meta = {
            "kind": "stgan-generator",
            "options": {
                "conv_dim": args.g_conv_dim,
                "c_dim": len(args.selected_attrs),
                "num_layers": args.num_layers,
            },
        }
        stargan.train(args, run, ctx, faces, initial_networks(args), Step, meta)


if __name__ == "__main__":
    cli.run(main)
