"""Train StarGAN v2.

reads   <data_dir>/images_a/            (made by split_dataset.py), without its held-out part
writes  <result_dir>/starganv2/<dataset>/train/standard/NNN/{options.yaml,log.jsonl,last.pt,samples/*.png,weights.safetensors}

A domain is a combination of --selected_attrs that occurs; photos with none or several of the selected hair
colours have none.

  python -m models.starganv2.train --data_dir dataset/CelebA --image_size 256 --selected_attrs Male
  torchrun --standalone --nproc_per_node=4 -m models.starganv2.train --data_dir dataset/CelebA \\
      --image_size 128
"""

import json
from pathlib import Path

import torch

from common import checkpoint, cli, distributed, files, images, runs, seeds, training
from faces.celeba import held_out
from faces.flags import add_data_flags, dataset_name, open_faces
from faces.loader import Batches
from models.starganv2 import losses
from models.starganv2.domains import Sampler, domain_table, domains_of
from models.starganv2.network import Discriminator, Generator, MappingNetwork, StyleEncoder

RELEASED = ("generator", "mapping_network", "style_encoder")  # with a moving average each, when asked


def parse_args(argv=None):
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
    cli.add_run_flags(p, batch_size=8, limit=True, resume=True)
    args = p.parse_args(argv)
    size = args.image_size
    if size < 16 or size & (size - 1):
        p.error(
            f"--image_size {size}: expected a power of 2 from 16 on (the discriminator halves it down to 4)"
        )
    args.dim_in = max(1, 2**14 // size) if args.dim_in is None else args.dim_in
    args.num_downs = max(1, size.bit_length() - 5) if args.num_downs is None else args.num_downs
    if size >> args.num_downs < 4:
        p.error(
            f"--num_downs {args.num_downs}: expected at most {size.bit_length() - 3} at --image_size {size}"
        )
    args.ds_steps = args.num_steps if args.ds_steps is None else args.ds_steps
    return args


def initial_networks(args, num_domains):
    """The four networks by name, seeded."""
    deep = args.image_size.bit_length() - 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(args.seed, "starganv2"))
        return {
            "generator": Generator(args.dim_in, args.max_conv_dim, args.num_downs, args.style_dim),
            "mapping_network": MappingNetwork(args.latent_dim, args.style_dim, num_domains, args.hidden_dim),
            "style_encoder": StyleEncoder(args.dim_in, args.max_conv_dim, deep, args.style_dim, num_domains),
            "discriminator": Discriminator(args.dim_in, args.max_conv_dim, deep, num_domains),
        }


class Step:
    """One training step: the discriminator, then the generator, on styles of latent codes, of reference
    photos, or of both."""

    def __init__(self, args, ctx, sampler, networks, optimisers, averages):
        self.args, self.ctx, self.sampler = args, ctx, sampler
        self.networks, self.optimisers, self.averages = networks, optimisers, averages
        self.G, self.F, self.E, self.D = (networks[n] for n in (*RELEASED, "discriminator"))

    def guides(self, i):
        both = ("latent", "reference")
        return both if self.args.turns == "both" else (both[i % 2],)

    def lambda_ds(self, i):
        return self.args.lambda_ds * max(0.0, 1 - i / self.args.ds_steps)

    def style(self, draws, guide, k):
        """(b, style_dim): the style of the k-th latent code or reference photo in its target domain."""
        return (
            self.F(draws.z[k], draws.y_trg) if guide == "latent" else self.E(draws.references[k], draws.y_trg)
        )

    def descend(self, loss, *names):
        """One optimiser step of the named networks; no other network's gradients are computed."""
        parameters = [p for n in names for p in self.networks[n].parameters()]
        for p in parameters:
            p.grad = None
        loss.backward(inputs=parameters)
        self.ctx.average_gradients(parameters)
        for n in names:
            self.optimisers[n].step()

    def __call__(self, i):
        args, draws, scalars = self.args, self.sampler.draw(i), {}

        def precise():
            return distributed.autocast(self.ctx.device, args.precision)

        for guide in self.guides(i):
            with precise():
                with torch.no_grad():
                    fake = self.G(draws.x, self.style(draws, guide, 0))
                loss, found = losses.discriminator_loss(
                    self.D, draws.x, draws.y_org, fake, draws.y_trg, args.lambda_reg
                )
            self.descend(loss, "discriminator")
            scalars |= {f"{guide}_{k}": v for k, v in found.items()}
        for guide in self.guides(i):
            with precise():
                # a step of reference photos trains the generator alone, as published
                with torch.set_grad_enabled(guide == "latent"):
                    s_trg = self.style(draws, guide, 0)
                with torch.no_grad():
                    s_trg2 = self.style(draws, guide, 1)
                loss, found = losses.generator_loss(
                    self.G,
                    self.E,
                    self.D,
                    draws.x,
                    draws.y_org,
                    draws.y_trg,
                    s_trg,
                    s_trg2,
                    args.lambda_sty,
                    self.lambda_ds(i),
                    args.lambda_cyc,
                )
            self.descend(loss, *(RELEASED if guide == "latent" else RELEASED[:1]))
            scalars |= {f"{guide}_{k}": v for k, v in found.items()}
        for name, average in self.averages.items():
            training.update_average(average, self.networks[name], args.ema)
        return scalars


@torch.no_grad()
def sample_grids(networks, x, references, z):
    """uint8 pictures {"latent", "reference"}: photos x (N, 3, S, S), one per row, in each of the D domains.

    Args:   references (D, 3, S, S), one photo of each domain, shown on top;  z (1, latent_dim), one code for
            all domains
    """
    G, F, E = (networks[n] for n in RELEASED)
    every = torch.arange(len(references), device=x.device)
    blank = torch.ones_like(x[:1])
    grids = {}
    for kind, styles, top in (
        ("latent", F.every(z)[0], None),
        ("reference", E(references, every), references),
    ):
        columns = [x] + [G(x, s.expand(len(x), -1)).float().clamp(-1, 1) for s in styles]
        if top is not None:
            columns = [
                torch.cat([first, column])
                for first, column in zip([blank, *top[:, None]], columns, strict=True)
            ]
        grids[kind] = images.make_grid([list(row) for row in torch.stack(columns, 1).cpu()])
    return grids


def train(args, run, ctx, faces, held):
    """Train on the faces that are not held out, all of which have a domain of args.domains."""
    networks = {
        n: net.to(ctx.device, memory_format=torch.channels_last)
        for n, net in initial_networks(args, len(args.domains)).items()
    }
    optimisers = {
        n: torch.optim.Adam(
            net.parameters(),
            args.f_lr if n == "mapping_network" else args.lr,
            betas=(0.0, 0.99),
            weight_decay=args.weight_decay,
        )
        for n, net in networks.items()
    }
    averages = {n: training.averaged(networks[n]) for n in RELEASED} if args.ema else {}
    domains = domains_of(faces.labels, args.domains)
    sampler = Sampler(
        faces, domains, Batches(faces, args.batch_size, args.seed, ctx), args.seed, args.latent_dim
    )
    parts = (
        networks
        | {f"{n}_optimiser": o for n, o in optimisers.items()}
        | {f"{n}_average": a for n, a in averages.items()}
    )
    final = {n: averages[n].module if averages else networks[n] for n in RELEASED}
    x = held.floats(range(min(6, len(held)))).to(ctx.device)
    references = faces.floats([int(m[0]) for m in sampler.members]).to(ctx.device)
    z = torch.randn(1, args.latent_dim, generator=seeds.generator(args.seed, "samples")).to(ctx.device)

    def on_save(done):
        folder = files.make_folder(run.folder / "samples")
        for kind, picture in sample_grids(final, x, references, z).items():
            images.save_png(folder / f"{done:07d}-{kind}.png", picture)

    training.loop(
        run, args, ctx, parts, Step(args, ctx, sampler, networks, optimisers, averages), on_save, "starganv2"
    )
    if ctx.is_main:
        meta = {
            "kind": "starganv2-generator",
            "attributes": args.selected_attrs,
            "domains": args.domains,
            "image_size": args.image_size,
            "trained_on": args.dataset,
            "steps": args.num_steps,
            "seed": args.seed,
            "ema": bool(args.ema),
            "options": {n: net.options for n, net in final.items()},
        }
        state = {f"{n}.{k}": v for n, net in final.items() for k, v in net.state_dict().items()}
        checkpoint.save_weights(run.folder / "weights.safetensors", state, meta)
        ctx.print(f"done: {run.folder / 'weights.safetensors'}")


def main(argv=None):
    args = parse_args(argv)
    args.dataset = dataset_name(args)
    with distributed.session(args.device) as ctx:
        faces = open_faces(args)
        kept, validation = held_out(faces.names, args.seed)
        kept, held = faces.subset(kept), faces.subset(validation or kept)
        args.domains = domain_table(kept.labels, args.selected_attrs, args.min_domain_photos)
        ctx.print(json.dumps(runs.options_of(args), indent=2))
        kept = kept.subset(
            [
                n
                for n, d in zip(kept.names, domains_of(kept.labels, args.domains).tolist(), strict=True)
                if d >= 0
            ]
        )
        ctx.print(f"{len(kept)} photos in {len(args.domains)} domains")
        # a batch that cannot be divided is told before anything is written
        Batches(kept, args.batch_size, args.seed, ctx)
        if args.dry_run:
            return
        run = runs.open_run(
            Path(args.result_dir) / "starganv2" / args.dataset / "train" / "standard",
            args,
            ctx,
            "weights.safetensors",
        )
        if run.finished:
            ctx.print("this run is finished; nothing to do")
            return
        train(args, run, ctx, kept, held)


if __name__ == "__main__":
    cli.run(main)
