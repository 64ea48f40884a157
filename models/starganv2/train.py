"""Train StarGAN v2.

reads   <data_dir>/images_a/            (made by split_dataset.py), without its held-out part
writes  <result_dir>/starganv2/<dataset>/train/standard/NNN/
        {options.yaml,log.jsonl,last.pt,samples/*.png,weights.safetensors}

A domain is a combination of --selected_attrs that occurs; photos with none or several of the selected hair
colours have none.

  python -m models.starganv2.train --data_dir dataset/CelebA --image_size 256 --selected_attrs Male
  torchrun --standalone --nproc_per_node=4 -m models.starganv2.train --data_dir dataset/CelebA \\
      --image_size 128
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from common import checkpoint, cli, distributed, files, images, runs, seeds, training
from common.cli import RunOptions
from common.distributed import Context
from common.training import TrainingOptions
from faces.celeba import FaceFolder, held_out
from faces.flags import DataOptions, add_data_flags, dataset_name, open_faces
from faces.loader import Batches
from models.starganv2 import losses
from models.starganv2.domains import Draws, Sampler, domain_table, domains_of
from models.starganv2.grids import RELEASED, sample_grids
from models.starganv2.network import Discriminator, Generator, MappingNetwork, StyleEncoder


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions, DataOptions, TrainingOptions):
    """The values of parse_args; dim_in, num_downs and ds_steps are resolved."""

    limit: int | None
    resume: str | None
    batch_size: int
    precision: str
    min_domain_photos: int
    dim_in: int
    max_conv_dim: int
    num_downs: int
    hidden_dim: int
    latent_dim: int
    style_dim: int
    lambda_reg: float
    lambda_sty: float
    lambda_ds: float
    ds_steps: int
    lambda_cyc: float
    turns: str
    f_lr: float
    weight_decay: float


@dataclass(frozen=True, kw_only=True)
class RunValues(Options):
    """Options and what the photos decide: domains [[0/1] * C] * D, the combinations of attributes that
    occur."""

    domains: list[list[int]]


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="models.starganv2.train", description=__doc__)
    g = add_data_flags(p, image_size=256)
    g.add_argument(
        "--min_domain_photos",
        type=cli.positive_int,
        default=10,
        metavar="N",
        help="a combination of attributes with fewer photos is no domain",
    )
    g = p.add_argument_group("networks")
    g.add_argument(
        "--dim_in",
        type=cli.positive_int,
        default=None,
        help="channels at full size; default: 2^14 / image_size, as published",
    )
    g.add_argument(
        "--max_conv_dim", type=cli.positive_int, default=512, help="most channels of a convolution"
    )
    g.add_argument(
        "--num_downs",
        type=cli.positive_int,
        default=None,
        help="halvings in the generator; default: log2(image_size) - 4, as published, at least 1",
    )
    g.add_argument("--hidden_dim", type=cli.positive_int, default=512, help="width of the mapping network")
    g.add_argument("--latent_dim", type=cli.positive_int, default=16, help="length of a latent code")
    g.add_argument("--style_dim", type=cli.positive_int, default=64, help="length of a style")
    g = p.add_argument_group("losses")
    g.add_argument(
        "--lambda_reg", type=cli.natural_float, default=1.0, help="weight of the R1 gradient penalty"
    )
    g.add_argument(
        "--lambda_sty", type=cli.natural_float, default=1.0, help="weight of the style reconstruction"
    )
    g.add_argument(
        "--lambda_ds", type=cli.natural_float, default=1.0, help="weight of the diversity, at the first step"
    )
    g.add_argument(
        "--ds_steps",
        type=cli.positive_int,
        default=None,
        help="steps over which lambda_ds falls linearly to 0; default: num_steps",
    )
    g.add_argument("--lambda_cyc", type=cli.natural_float, default=1.0, help="weight of the cycle loss")
    g.add_argument(
        "--turns",
        choices=["both", "alternate"],
        default="both",
        help=(
            "styles of a step: from latent codes and from reference photos, as published, or in turns, at"
            " half the cost; then an odd --log_step shows both"
        ),
    )
    g = training.add_training_flags(p, num_steps=100000, lr=1e-4, ema=0.999)
    g.add_argument(
        "--f_lr", type=cli.positive_float, default=1e-6, help="Adam's learning rate for the mapping network"
    )
    g.add_argument("--weight_decay", type=cli.natural_float, default=1e-4, help="Adam's weight decay")
    cli.add_run_flags(p, batch_size=8, limit=True, resume=True, compiled=False)
    args = p.parse_args(argv)
    size = args.image_size
    if size < 16 or size & (size - 1):
        p.error(
            f"--image_size {size}: expected a power of 2 from 16 on (the discriminator halves it down to 4)"
        )
    num_downs = max(1, size.bit_length() - 5) if args.num_downs is None else args.num_downs
    if size >> num_downs < 4:
        p.error(f"--num_downs {num_downs}: expected at most {size.bit_length() - 3} at --image_size {size}")
    return cli.resolve(
        Options,
        args,
        dataset=dataset_name(args),
        dim_in=max(1, 2**14 // size) if args.dim_in is None else args.dim_in,
        num_downs=num_downs,
        ds_steps=args.num_steps if args.ds_steps is None else args.ds_steps,
    )


def initial_networks(options: Options, num_domains: int) -> dict[str, nn.Module]:
    """The four networks by name, seeded."""
    deep = options.image_size.bit_length() - 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(options.seed, "starganv2"))
        return {
            "generator": Generator(
                options.dim_in, options.max_conv_dim, options.num_downs, options.style_dim
            ),
            "mapping_network": MappingNetwork(
                options.latent_dim, options.style_dim, num_domains, options.hidden_dim
            ),
            "style_encoder": StyleEncoder(
                options.dim_in, options.max_conv_dim, deep, options.style_dim, num_domains
            ),
            "discriminator": Discriminator(options.dim_in, options.max_conv_dim, deep, num_domains),
        }


class Step:
    """One training step: the discriminator, then the generator, on styles of latent codes, of reference
    photos, or of both."""

    def __init__(
        self,
        options: RunValues,
        ctx: Context,
        sampler: Sampler,
        networks: dict[str, nn.Module],
        optimisers: dict[str, torch.optim.Optimizer],
        averages: dict[str, AveragedModel],
    ):
        self.options, self.ctx, self.sampler = options, ctx, sampler
        self.networks, self.optimisers, self.averages = networks, optimisers, averages
        self.G, self.F, self.E, self.D = (networks[n] for n in (*RELEASED, "discriminator"))

    def guides(self, i: int) -> tuple[str, ...]:
        both = ("latent", "reference")
        return both if self.options.turns == "both" else (both[i % 2],)

    def lambda_ds(self, i: int) -> float:
        return self.options.lambda_ds * max(0.0, 1 - i / self.options.ds_steps)

    def style(self, draws: Draws, guide: str, k: int) -> torch.Tensor:
        """(b, style_dim): the style of the k-th latent code or reference photo in its target domain."""
        return (
            self.F(draws.z[k], draws.y_trg) if guide == "latent" else self.E(draws.references[k], draws.y_trg)
        )

    def descend(self, loss: torch.Tensor, *names: str) -> None:
        """One optimiser step of the named networks; no other network's gradients are computed."""
        parameters = [p for n in names for p in self.networks[n].parameters()]
        for p in parameters:
            p.grad = None
        loss.backward(inputs=parameters)
        self.ctx.average_gradients(parameters)
        for n in names:
            self.optimisers[n].step()

    def __call__(self, i: int) -> dict[str, torch.Tensor]:
        options, draws, scalars = self.options, self.sampler.draw(i), {}

        def precise():
            return distributed.autocast(self.ctx.device, options.precision)

        for guide in self.guides(i):
            with precise():
                with torch.no_grad():
                    fake = self.G(draws.x, self.style(draws, guide, 0))
                loss, parts = losses.discriminator_loss(
                    self.D, draws.x, draws.y_org, fake, draws.y_trg, options.lambda_reg
                )
            self.descend(loss, "discriminator")
            scalars |= {f"{guide}_{k}": v for k, v in parts.items()}
        for guide in self.guides(i):
            with precise():
                # a step of reference photos trains the generator alone, as published
                with torch.set_grad_enabled(guide == "latent"):
                    s_trg = self.style(draws, guide, 0)
                with torch.no_grad():
                    s_trg2 = self.style(draws, guide, 1)
                loss, parts = losses.generator_loss(
                    self.G,
                    self.E,
                    self.D,
                    draws.x,
                    draws.y_org,
                    draws.y_trg,
                    s_trg,
                    s_trg2,
                    options.lambda_sty,
                    self.lambda_ds(i),
                    options.lambda_cyc,
                )
            self.descend(loss, *(RELEASED if guide == "latent" else RELEASED[:1]))
            scalars |= {f"{guide}_{k}": v for k, v in parts.items()}
        for name, average in self.averages.items():
            training.update_average(average, self.networks[name], options.ema)
        return scalars


def train(
    options: RunValues, run: runs.Run, ctx: distributed.Context, faces: FaceFolder, held: FaceFolder
) -> None:
    """Train on the faces that are not held out, all of which have a domain of options.domains."""
    networks = {
        n: net.to(ctx.device, memory_format=torch.channels_last)
        for n, net in initial_networks(options, len(options.domains)).items()
    }
    optimisers = {
        n: torch.optim.Adam(
            net.parameters(),
            options.f_lr if n == "mapping_network" else options.lr,
            betas=(0.0, 0.99),
            weight_decay=options.weight_decay,
            fused=ctx.device.type == "cuda",
        )
        for n, net in networks.items()
    }
    averages = {n: training.averaged(networks[n]) for n in RELEASED} if options.ema else {}
    domains = domains_of(faces.labels, options.domains)
    sampler = Sampler(
        faces,
        domains,
        Batches(faces, options.batch_size, options.seed, ctx),
        options.seed,
        options.latent_dim,
    )
    parts = (
        networks
        | {f"{n}_optimiser": o for n, o in optimisers.items()}
        | {f"{n}_average": a for n, a in averages.items()}
    )
    final = {n: averages[n].module if averages else networks[n] for n in RELEASED}
    x = held.floats(range(min(6, len(held)))).to(ctx.device)
    references = faces.floats([int(m[0]) for m in sampler.members]).to(ctx.device)
    z = torch.randn(1, options.latent_dim, generator=seeds.generator(options.seed, "samples")).to(ctx.device)

    def on_save(done):
        folder = files.make_folder(run.folder / "samples")
        for kind, picture in sample_grids(final, x, references, z).items():
            images.save_png(folder / f"{done:07d}-{kind}.png", picture)

    training.loop(
        run,
        options,
        ctx,
        parts,
        Step(options, ctx, sampler, networks, optimisers, averages),
        on_save,
        "starganv2",
    )
    if ctx.is_main:
        meta = {
            "kind": "starganv2-generator",
            "attributes": options.selected_attrs,
            "domains": options.domains,
            "image_size": options.image_size,
            "trained_on": options.dataset,
            "steps": options.num_steps,
            "seed": options.seed,
            "ema": bool(options.ema),
            "options": {n: net.options for n, net in final.items()},
        }
        state = {f"{n}.{k}": v for n, net in final.items() for k, v in net.state_dict().items()}
        checkpoint.save_weights(run.folder / "weights.safetensors", state, meta)
        ctx.print(f"done: {run.folder / 'weights.safetensors'}")


def main(argv: list[str] | None = None) -> None:
    parsed = parse_args(argv)
    with distributed.session(parsed.device) as ctx:
        faces = open_faces(parsed)
        kept, validation = held_out(faces.names, parsed.seed)
        kept, held = faces.subset(kept), faces.subset(validation or kept)
        table = domain_table(kept.labels, parsed.selected_attrs, parsed.min_domain_photos)
        options = RunValues(**vars(parsed), domains=table)
        kept = kept.subset(
            [n for n, d in zip(kept.names, domains_of(kept.labels, table).tolist(), strict=True) if d >= 0]
        )
        ctx.print(f"{len(kept)} photos in {len(table)} domains")
        # a batch that cannot be divided is told before anything is written
        Batches(kept, options.batch_size, options.seed, ctx)
        run = runs.begin(
            options,
            ctx,
            Path(options.result_dir) / "starganv2" / options.dataset / "train" / "standard",
            "weights.safetensors",
        )
        if run is not None:
            train(options, run, ctx, kept, held)


if __name__ == "__main__":
    cli.run(main)
