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

import json
from pathlib import Path

import torch

from common import checkpoint, cli, distributed, files, images, runs, seeds, training
from common.cli import RunError
from faces.celeba import held_out
from faces.flags import add_data_flags, dataset_name, open_faces
from faces.loader import Batches
from models.dadfi import losses
from models.dadfi.network import BOUNDS, Perturber, Recogniser
from models.dadfi.optimiser import PaperAdam
from models.dadfi.validation import Validation
from models.victims import load_victims, named_file

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
# others are told in the run folder's name
LAMBDAS = {"lambda_x": 1.0, "lambda_y": 1.0, "lambda_hinge": 0.5, "lambda_distance": 30.0}


def parse_args(argv=None):
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
    cli.add_run_flags(p, batch_size=8, limit=True, resume=True)
    args = p.parse_args(argv)
    if args.image_size < 16:
        p.error(f"--image_size {args.image_size}: expected at least 16 (the recognisers halve it four times)")
    return args


def variant(args):
    """What differs from the usual training, joined by dashes: "", without-finetuning, distance0,
    distance0-optimiser-paper ..."""
    found = ["without-finetuning"] if args.without_finetuning else []
    found += [
        f"{k.removeprefix('lambda_')}{getattr(args, k):g}"
        for k, usual in LAMBDAS.items()
        if getattr(args, k) != usual
    ]
    found += [f"{k}-{getattr(args, k)}" for k, usual in USUAL.items() if getattr(args, k) != usual]
    return "-".join(found)


def initial_networks(args):
    """Gen, Ide_x and, unless --without_finetuning, Ide_y; seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(args.seed, "dadfi"))
        networks = {
            "generator": Perturber(args.conv_dim, args.lim, args.bound),
            "ide_x": Recogniser(args.conv_dim),
            "ide_y": Recogniser(args.conv_dim),
        }
    if args.without_finetuning:
        del networks["ide_y"]
    return networks


def make_optimiser(args, network):
    if args.optimiser == "paper":
        return PaperAdam(network.parameters(), args.lr, BETAS, tau=1e-6)
    return torch.optim.Adam(network.parameters(), args.lr, betas=BETAS)


class Step:
    """One step of both recognisers, then one of the generator.

    Args:  networks, optimisers  dicts of initial_networks' names;  victims  of load_victims
           broken  per victim, names of photos -> (N, 3, H, W), their PGD-broken form x'_adv (E5-E6);  names
                   of the batches' photos
    """

    def __init__(self, args, ctx, batches, networks, optimisers, victims, broken, names, average=None):
        self.args, self.ctx, self.batches, self.networks, self.optimisers = (
            args,
            ctx,
            batches,
            networks,
            optimisers,
        )
        self.victims, self.broken, self.names, self.average = victims, broken, names, average

    def apply(self, name, loss, i):
        training.descend(
            loss,
            self.networks[name],
            self.optimisers[name],
            training.warm_then_linear(self.args.lr, i, self.args.num_steps),
            self.ctx,
        )

    def judge(self, name, x):
        with distributed.autocast(self.ctx.device, self.args.precision):
            return self.networks[name](x).float()

    def recognise(self, name, real, fake, i):
        """One step of a recogniser; its loss."""
        with distributed.autocast(self.ctx.device, self.args.precision):
            both = self.networks[name](torch.cat([real, fake]).detach()).float()
        loss = losses.recogniser_loss(*both.split([len(real), len(fake)]))
        self.apply(name, loss, i)
        return loss.detach()

    def __call__(self, i):
        args, generator = self.args, self.networks["generator"].train()
        x, labels, positions = self.batches.get(i)
        with distributed.autocast(self.ctx.device, args.precision):
            p = generator.perturbation(x)
        x_adv = (x + p).clamp(-1, 1)
        clean, aims, fakes, names = [], [], [], [self.names[r] for r in self.batches.rows(i).tolist()]
        for victim, broken in [] if args.without_finetuning else zip(self.victims, self.broken, strict=True):
            c = victim.random_conditions(
                labels, seeds.stepped(args.seed, i, positions.tolist(), "dadfi", victim.name)
            )
            with torch.no_grad():
                clean.append(victim(x, c))
                aims.append(victim(broken(names).to(x.device), c))
            fakes.append(victim(x_adv, c))

        scalars = {"ide_x": self.recognise("ide_x", x, x_adv, i)}
        if aims:  # one Ide_y for all victims: E9's sum but for a factor
            scalars["ide_y"] = self.recognise("ide_y", torch.cat(aims), torch.cat(fakes), i)
        scalars |= self.update_generator(x_adv, p, fakes, clean, aims, i)
        if self.average is not None:
            training.update_average(self.average, generator, args.ema)
        return scalars

    def update_generator(self, x_adv, p, fakes, clean, aims, i):
        """The step of Gen with frozen recognisers; dict of scalars to log."""
        args = self.args
        judges = [self.networks[n].requires_grad_(False) for n in ("ide_x", "ide_y") if n in self.networks]
        x_loss = losses.generator_loss(self.judge("ide_x", x_adv), args.gan_loss)
        y_losses = [losses.generator_loss(self.judge("ide_y", fake), args.gan_loss) for fake in fakes]
        hinge = losses.hinge_loss(p, args.lim)
        found = [losses.distance_loss(*each, self.ctx.mean) for each in zip(fakes, clean, aims, strict=True)]
        distances = [loss for loss, _ in found]
        self.apply(
            "generator",
            losses.total_loss(x_loss, y_losses, hinge, distances, **{k: getattr(args, k) for k in LAMBDAS}),
            i,
        )
        for judge in judges:
            judge.requires_grad_(True)
        scalars = {"g_x": x_loss, "g_hinge": hinge, "mean_p": p.abs().mean()}
        if y_losses:
            scalars["g_y"] = torch.stack(y_losses).sum()
            scalars |= {f"{v.name}_share": share for v, (_, share) in zip(self.victims, found, strict=True)}
        return {k: v.detach() for k, v in scalars.items()}


def shares(faces, seed):
    """The names to train on and, up to VALIDATED, those to validate on; one photo alone serves as both."""
    kept, held = held_out(faces.names, seed)
    return kept, (held or kept)[:VALIDATED]


def train(args, run, ctx, faces, victims, broken, release):
    """Train on the faces of split A that are not held out.

    Args:    broken   per victim, names of photos -> (N, 3, H, W), their PGD-broken form (E5-E6)
             release  see models.dadfi.validation.Validation
    Raises:  RunError if the generator has collapsed: no weights are written, last.pt stays. Of the ablation
             it is a finding
    """
    kept, held = shares(faces, args.seed)
    held, faces = faces.subset(held), faces.subset(kept)
    networks = {k: n.to(ctx.device) for k, n in initial_networks(args).items()}
    if ctx.device.type == "cuda":
        networks = {k: n.to(memory_format=torch.channels_last) for k, n in networks.items()}
    optimisers = {k: make_optimiser(args, n) for k, n in networks.items()}
    average = training.averaged(networks["generator"]) if args.ema else None
    final = average.module if average is not None else networks["generator"]
    # No mirroring: the PGD-broken photos are made once, and a mirrored one breaks less.
    step = Step(
        args,
        ctx,
        Batches(faces, args.batch_size, args.seed, ctx, flip=False),
        networks,
        optimisers,
        victims,
        broken,
        faces.names,
        average,
    )
    x, labels = held.floats(range(len(held))).to(ctx.device), held.labels.to(ctx.device)
    pgd = [photos(held.names).to(ctx.device) for photos in broken]
    validation = Validation(x, labels, victims, release, pgd, args.lim, args.seed) if ctx.is_main else None

    def on_save(done):
        files.make_folder(run.folder / "samples")
        images.save_png(run.folder / "samples" / f"{done:07d}.png", validation.grid(final.eval()))
        return validation.measure(final)

    parts = {
        **networks,
        **{f"{k}_optimiser": o for k, o in optimisers.items()},
        **({"average": average} if average is not None else {}),
    }
    training.loop(run, args, ctx, parts, step, on_save, "dadfi")
    if ctx.is_main:
        finding = validation.finding(final.eval())
        if finding and not args.without_finetuning:
            raise RunError(
                f"{run.folder}: the generator has collapsed, {finding}. Its state is in {run.last}, no"
                " weights were written; try another --lambda_distance, --lambda_x or --lr"
            )
        checkpoint.save_weights(
            run.folder / "weights.safetensors", final.state_dict(), describe(args, victims, finding)
        )
        ctx.print(
            f"done: {run.folder / 'weights.safetensors'}" + (f" (finding: {finding})" if finding else "")
        )


def describe(args, victims, finding):
    """What the weight file says of itself; JSON types."""
    return {
        "kind": "dadfi",
        "lim": args.lim,
        "bound": args.bound,
        "image_size": args.image_size,
        "victims": [v.describe() for v in victims],
        "finetuning": not args.without_finetuning,
        "variant": variant(args),
        "losses": {"gan_loss": args.gan_loss, **{k: getattr(args, k) for k in LAMBDAS}},
        "optimiser": args.optimiser,
        "trained_on": args.dataset,
        "steps": args.num_steps,
        "seed": args.seed,
        "ema": bool(args.ema),
        "finding": finding,
        "options": {"conv_dim": args.conv_dim},
    }


def basic_perturbations(args, ctx, faces, victims):
    """Make the PGD-broken photos that are not in the cache yet (E5-E6).  Returns (broken, release) as `train`
    takes them."""
    from attacks import build  # only this command needs an attack; libraries below scripts do not import it
    from pipeline.attacked import AttackedPhotos

    kept, held = shares(faces, args.seed)
    faces, broken = faces.subset(list(dict.fromkeys([*([] if args.without_finetuning else kept), *held]))), []
    for victim in victims:
        attack = build(
            "pgd",
            victim.translator,
            args.lim,
            steps=args.pgd_steps,
            step_size=args.pgd_step_size,
            target="clean",
            label="iterative",
            precision=args.precision,
        )
        photos = AttackedPhotos(
            attack,
            "iterative",
            victim.faces(faces),
            victim.attributes,
            Path(args.result_dir) / "attacked" / args.dataset,
            faces.preparation,
            args.seed,
        )
        photos.fill(ctx, args.batch_size, f"break {victim.name}")
        broken.append(photos.floats)
    return broken, attack.release  # the radius is the same for all


def main(argv=None):
    args = parse_args(argv)
    args.dataset = dataset_name(args)
    with distributed.session(args.device) as ctx:
        victims, columns = load_victims(args, ctx.device)
        faces = open_faces(args, columns=columns)
        # a size that cannot be divided is told before anything is written
        Batches(faces, args.batch_size, args.seed, ctx)
        ctx.print(json.dumps(runs.options_of(args), indent=2))
        if args.dry_run:
            return
        name = "-".join(filter(None, ["+".join(v.name for v in victims), variant(args)]))
        run = runs.open_run(
            Path(args.result_dir) / "dadfi" / args.dataset / "train" / name, args, ctx, "weights.safetensors"
        )
        if run.finished:
            ctx.print("this run is finished; nothing to do")
            return
        train(args, run, ctx, faces, victims, *basic_perturbations(args, ctx, faces, victims))


if __name__ == "__main__":
    cli.run(main)
