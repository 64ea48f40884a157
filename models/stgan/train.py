"""Train STGAN.

reads   <data_dir>/images_a/            (made by split_dataset.py), without its held-out part
writes  <result_dir>/stgan/<dataset>/train/standard/NNN/
        {options.yaml,log.jsonl,last.pt,samples/*.png,weights.safetensors}

  python -m models.stgan.train --data_dir dataset/CelebA
  torchrun --standalone --nproc_per_node=4 -m models.stgan.train --data_dir dataset/CelebA
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from common import cli, distributed, runs, seeds
from faces.flags import add_data_flags, dataset_name, open_faces
from models.stargan import step
from models.stgan.network import Discriminator, Generator, difference


@dataclass(frozen=True, kw_only=True)
class Options(step.Options):
    """The values of parse_args."""

    num_layers: int
    d_fc_dim: int
    lambda_g_cls: float


def parse_args(argv: list[str] | None = None) -> Options:
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
    step.add_schedule_flags(p, lr=2e-4)
    cli.add_run_flags(p, batch_size=32, limit=True, resume=True)
    args = p.parse_args(argv)
    multiple = 1 << args.num_layers
    if args.num_layers < 2 or args.image_size % multiple:
        p.error(
            f"--image_size {args.image_size} with --num_layers {args.num_layers}: expected at least 2 layers"
            f" and a multiple of {multiple} (2^num_layers), {max(1, args.image_size // multiple) * multiple}"
            " for example"
        )
    return cli.resolve(Options, args, dataset=dataset_name(args), decay_steps=step.decay_steps(args))


class Step(step.Step):
    """STGAN's step: StarGAN's adversarial and attribute losses, G asked with differences, reconstruction by
    asking for none (Liu et al. 2019, Eqs. 8-15)."""

    condition = staticmethod(difference)

    def reconstruct(self, x: torch.Tensor, fake: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.G(x, torch.zeros_like(c))

    @property
    def generator_cls(self) -> float:
        return self.options.lambda_g_cls


def initial_networks(options: Options) -> tuple[Generator, Discriminator]:
    """Generator and discriminator, seeded."""
    c_dim = len(options.selected_attrs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(options.seed, "stgan"))
        return (
            Generator(options.g_conv_dim, c_dim, options.num_layers),
            Discriminator(
                options.image_size, options.d_conv_dim, c_dim, options.num_layers, options.d_fc_dim
            ),
        )


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    with distributed.session(options.device) as ctx:
        faces = open_faces(options)
        run = runs.begin(
            options,
            ctx,
            Path(options.result_dir) / "stgan" / options.dataset / "train" / "standard",
            "weights.safetensors",
        )
        if run is None:
            return
        meta = {
            "kind": "stgan-generator",
            "options": {
                "conv_dim": options.g_conv_dim,
                "c_dim": len(options.selected_attrs),
                "num_layers": options.num_layers,
            },
        }
        step.train(options, run, ctx, faces, initial_networks(options), meta, Step)


if __name__ == "__main__":
    cli.run(main)
