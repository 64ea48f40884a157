"""Train StarGAN, or fine-tune it adversarially against disruptions.

reads   <data_dir>/images_a/            (made by split_dataset.py), without its held-out part
writes  <result_dir>/stargan/<dataset>/train/<standard|adv-generator|adv-both>/NNN/
        {options.yaml,log.jsonl,last.pt,samples/*.png,weights.safetensors}

  python -m models.stargan.train --data_dir dataset/CelebA
  python -m models.stargan.train --adversarial both \\
      --init_from results/stargan/CelebA/train/standard/000/last.pt --num_steps 2000
  torchrun --standalone --nproc_per_node=4 -m models.stargan.train --data_dir dataset/CelebA
"""

import json
from pathlib import Path

import torch

from common import checkpoint, cli, distributed, files, images, runs, seeds, training
from common.cli import UserError
from faces.celeba import held_out
from faces.flags import add_data_flags, dataset_name, open_faces
from faces.loader import Batches
from models.conditions import create_labels
from models.stargan import losses
from models.stargan.frozen import generator_from
from models.stargan.network import Discriminator, Generator


def parse_args(argv=None):
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
    args.decay_steps = args.num_steps // 2 if args.decay_steps is None else args.decay_steps
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
    return args


def add_schedule_flags(parser, lr):
    """The flags of training.add_training_flags, and --decay_steps, which learning_rate reads; parse_args puts
    half of num_steps in the place of None."""
    g = training.add_training_flags(parser, num_steps=200000, lr=lr)
    g.add_argument(
        "--decay_steps",
        type=cli.natural_int,
        default=None,
        help=(
            "last steps, over which the learning rate falls linearly to 0; default: half of num_steps; all of"
            " them where there are fewer"
        ),
    )


def learning_rate(args, i):
    """Constant, then linear to zero over the last decay_steps (the official code's decay has next to no
    effect)."""
    decay = min(args.decay_steps, args.num_steps)
    return args.lr * min(1.0, (args.num_steps - i) / decay) if decay else args.lr


def initial_networks(args):
    """Generator and discriminator, seeded, or from --init_from."""
    c_dim = len(args.selected_attrs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(args.seed, "stargan"))
        generator = Generator(args.g_conv_dim, c_dim, args.g_repeat_num)
        discriminator = Discriminator(args.image_size, args.d_conv_dim, c_dim, args.d_repeat_num)
    if args.init_from:
        path = Path(args.init_from)
        if path.name == "last.pt":
            parts = checkpoint.load_state(path)["parts"]
            generator = generator_from(parts.get("generator", {}), path, c_dim)
            try:
                discriminator.load_state_dict(parts["discriminator"])
            except (RuntimeError, KeyError):
                raise UserError(
                    f"{path}: its discriminator is another network; set --d_conv_dim, --d_repeat_num and"
                    " --image_size as it was trained"
                ) from None
        else:
            generator = generator_from(checkpoint.read_weights(path)[0], path, c_dim)
    return generator, discriminator


class Step:
    """One training step.  `disrupt(generator, x, c, rng) -> x_adv` or None; see Ruiz et al. 2020, Sec. 3.4.

    Translators of the same losses override what follows: how G is asked, and what is to come back unchanged.
    """

    @staticmethod
    def condition(c, target):
        """What asks G for the labels `target` of a photo of labels c, both (N, C)."""
        return target

    def reconstruct(self, x, fake, c):
        """The image that is compared with x: here the way back from the fake."""
        return self.G(fake, c)

    @property
    def generator_cls(self):
        """Weight of the generator's attribute loss."""
        return self.args.lambda_cls

    @classmethod
    def grid(cls, generator, x, c, attributes):
        """Grid of photos, one per row, followed by their translation to each domain.  x (N,3,H,W) -> uint8
        picture."""
        with torch.no_grad():
            columns = [x] + [
                generator(x, cls.condition(c, target)) for target in create_labels(c, attributes)
            ]
        return images.make_grid(
            [[column[i].float().cpu() for column in columns] for i in range(len(x))], scale=2
        )

    def __init__(
        self, args, ctx, batches, labels, generator, discriminator, average, optimisers, disrupt=None
    ):
        self.args, self.ctx, self.batches, self.labels = args, ctx, batches, labels
        self.G, self.D, self.average, self.disrupt = generator, discriminator, average, disrupt
        self.g_optimiser, self.d_optimiser = optimisers
        self.both = disrupt is not None and args.adversarial == "both"

    def apply(self, optimiser, network, loss, i):
        training.descend(loss, network, optimiser, learning_rate(self.args, i), self.ctx)

    def attacked(self, x, c, i, indices, role):
        if self.disrupt is None:
            return x
        return self.disrupt(self.G, x, c, seeds.stepped(self.args.seed, i, indices, "attack", role))

    def __call__(self, i):
        args = self.args
        x, c, indices = (t.to(self.ctx.device) for t in self.batches.get(i))
        streams = seeds.stepped(args.seed, i, indices.tolist(), "stargan")
        # Target labels are those of another photo of the data set, drawn per photo: independent of batch and
        # rank.
        target = self.labels[streams.integers(len(self.labels))].to(self.ctx.device)
        alpha = streams.uniform(x[:, :1, :1, :1])
        both = self.both
        x_in = self.attacked(x.detach(), target, i, indices.tolist(), "input")
        real = self.attacked(x.detach(), c, i, indices.tolist(), "real") if both else x
        generator_turn = (i + 1) % args.n_critic == 0

        with torch.set_grad_enabled(generator_turn), distributed.autocast(self.ctx.device, args.precision):
            fake = self.G(x_in, self.condition(c, target))
        fake = fake.float()
        seen = fake
        if self.disrupt and (both or generator_turn):
            # The attack's image is a constant offset of `fake`, so that the cycle loss reaches the first pass
            # of G.
            grid = images.quantise(fake.detach())
            seen = fake + (self.attacked(grid, c, i, indices.tolist(), "fake") - grid)
        with distributed.autocast(self.ctx.device, args.precision):
            loss, scalars = losses.discriminator_loss(
                self.D, real, (seen if both else fake).detach(), c, alpha, args.lambda_cls, args.lambda_gp
            )
        self.apply(self.d_optimiser, self.D, loss, i)
        if generator_turn:
            self.D.requires_grad_(False)
            with distributed.autocast(self.ctx.device, args.precision):
                reconstruction = self.reconstruct(x, seen, c)
                loss, more = losses.generator_loss(
                    self.D,
                    seen if both else fake,
                    reconstruction,
                    x,
                    target,
                    self.generator_cls,
                    args.lambda_rec,
                )
            self.apply(self.g_optimiser, self.G, loss, i)
            self.D.requires_grad_(True)
            if self.average is not None:
                training.update_average(self.average, self.G, args.ema)
            scalars |= more
        return scalars


def train(args, run, ctx, faces, networks, step_type=Step, meta=None, disrupt=None):
    """Train on the faces of split A that are not held out.

    Args: networks (generator, discriminator);  step_type Step or a subclass;  meta of the weights that come
          out;  disrupt see Step
    """
    kept, validation = held_out(faces.names, args.seed)
    held, faces = faces.subset(validation or kept), faces.subset(kept)
    generator, discriminator = (n.to(ctx.device) for n in networks)
    if ctx.device.type == "cuda":
        generator, discriminator = (
            n.to(memory_format=torch.channels_last) for n in (generator, discriminator)
        )
    average = training.averaged(generator) if args.ema else None
    optimisers = [
        torch.optim.Adam(n.parameters(), args.lr, betas=(0.5, 0.999)) for n in (generator, discriminator)
    ]
    step = step_type(
        args,
        ctx,
        Batches(faces, args.batch_size, args.seed, ctx),
        faces.labels,
        generator,
        discriminator,
        average,
        optimisers,
        disrupt,
    )
    parts = {
        "generator": generator,
        "discriminator": discriminator,
        "g_optimiser": optimisers[0],
        "d_optimiser": optimisers[1],
    }
    if average is not None:
        parts["average"] = average
    final = average.module if average is not None else generator
    shown = min(8, len(held))
    x, c = held.floats(range(shown)).to(ctx.device), held.labels[:shown].to(ctx.device)

    def on_save(done):
        files.make_folder(run.folder / "samples")
        images.save_png(
            run.folder / "samples" / f"{done:07d}.png", step_type.grid(final, x, c, args.selected_attrs)
        )

    training.loop(run, args, ctx, parts, step, on_save, meta["kind"].removesuffix("-generator"))
    if ctx.is_main:
        meta = {
            **meta,
            "attributes": args.selected_attrs,
            "image_size": args.image_size,
            "trained_on": args.dataset,
            "steps": args.num_steps,
            "seed": args.seed,
            "ema": bool(args.ema),
        }
        checkpoint.save_weights(run.folder / "weights.safetensors", final.state_dict(), meta)
        ctx.print(f"done: {run.folder / 'weights.safetensors'}")


def training_attack(args):
    """PGD away from the clean fake on the live generator, few steps."""
    from attacks import build  # only this command needs an attack; libraries below scripts do not import it

    def disrupt(generator, x, c, rng):
        attack = build(
            "pgd",
            generator,
            args.train_noise_var,
            steps=args.attack_steps,
            step_size=args.attack_step_size,
            target="clean",
            label="target",
            precision=args.precision,
        )
        return attack(x, c[:, None], rng)

    return disrupt


def main(argv=None):
    args = parse_args(argv)
    args.dataset = dataset_name(args)
    with distributed.session(args.device) as ctx:
        faces = open_faces(args)
        initial_networks(args)  # a wrong --init_from is told before anything is written
        ctx.print(json.dumps(runs.options_of(args), indent=2))
        if args.dry_run:
            return
        kind = "standard" if args.adversarial == "none" else f"adv-{args.adversarial}"
        run = runs.open_run(
            Path(args.result_dir) / "stargan" / args.dataset / "train" / kind,
            args,
            ctx,
            "weights.safetensors",
        )
        if run.finished:
            ctx.print("this run is finished; nothing to do")
            return
        generator, discriminator = initial_networks(args)
        meta = {
            "kind": "stargan-generator",
            "adversarial": args.adversarial,
            "options": {
                "conv_dim": generator.conv_dim,
                "c_dim": generator.c_dim,
                "repeat_num": generator.repeat_num,
            },
        }
        train(
            args,
            run,
            ctx,
            faces,
            (generator, discriminator),
            meta=meta,
            disrupt=training_attack(args) if args.adversarial != "none" else None,
        )


if __name__ == "__main__":
    cli.run(main)
