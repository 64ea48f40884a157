"""Train one purifier on split A.

reads   <data_dir>/images_a/              (made by split_dataset.py), without its held-out part
writes  <result_dir>/<defense>/<dataset>/train/<attack>-eps<eps>/NNN/
        {options.yaml,log.jsonl,last.pt,samples/*.png,weights.safetensors}

One diffusion network (ddpm) serves ddpm, one-step-plain and diffpure; one-step is fine-tuned from it against
the translator.

  python train_defense.py --defense_model_type ddpm
  python train_defense.py --defense_model_type one-step --gan_weights 200000-G.ckpt
  torchrun --standalone --nproc_per_node=4 train_defense.py --defense_model_type ddpm
"""

import json
from pathlib import Path

import torch

import attacks
from common import cli, distributed, runs, seeds, training
from common.cli import UserError
from common.files import check_writable
from faces.celeba import held_out
from faces.flags import add_data_flags, dataset_name, open_faces
from models.dae import network as dae_network
from models.dae import train as dae_trainer
from models.diffusion import build
from models.diffusion import train as diffusion_trainer
from models.flags import add_translator_flags, translator_from_flags
from models.one_step import train as one_step_trainer
from models.translators import check_size
from pipeline.attacked import AttackedPhotos
from purify.trained import newest_training

DEFAULTS = {  # what a flag left alone stands for
    "ddpm": {
        "attack_type": "none",
        "num_steps": 100000,
        "lr": 2e-4,
        "batch_size": 32,
        "train_noise_var": 0.05,
    },
    "one-step": {
        "attack_type": "pgd",
        "num_steps": 20000,
        "lr": 1e-4,
        "batch_size": 16,
        "train_noise_var": 0.11,
    },
    "autoencoder": {
        "attack_type": "gaussian",
        "num_steps": 20000,
        "lr": 1e-3,
        "batch_size": 256,
        "train_noise_var": 0.05,
    },
}
# of one-step; others are told in the run folder's name
INGREDIENTS = {"photo_weight": 10.0, "fake_weight": 1.0, "clean_share": 0.1, "noise_share": 0.0}
AUTOENCODERS = (
    "defensive-model-1",
    "defensive-model-2",
    "defensive-model-1-fixed",
    "defensive-model-2-fixed",
)


def parse_args(argv=None):
    p = cli.ArgumentParser(prog="train_defense.py", description=__doc__)
    g = p.add_argument_group("what to train")
    g.add_argument(
        "--defense_model_type",
        choices=["ddpm", "one-step", *AUTOENCODERS],
        required=True,
        help="purifier to train",
    )
    g.add_argument(
        "--attack_type",
        choices=sorted(attacks.ATTACKS),
        default=None,
        help=(
            "disruption to learn from (default: ddpm none = ordinary noise; one-step pgd; autoencoders"
            " gaussian)"
        ),
    )
    g.add_argument(
        "--train_noise_var",
        type=cli.radius,
        default=None,
        metavar="EPS",
        help=(
            "L-inf radius of the attack, [-1,1] image units (0.05 = 6.4/255); for gaussian its standard"
            " deviation; for one-step the largest radius (default: 0.05; one-step 0.11)"
        ),
    )
    g.add_argument(
        "--attack_steps",
        type=cli.positive_int,
        default=None,
        help="steps of the attack (default: 10; one-step 3)",
    )
    g.add_argument(
        "--attack_target",
        choices=["gray", "clean", "input"],
        default=None,
        help="what the attack aims at (default: gray; one-step clean)",
    )
    g.add_argument(
        "--clean_share",
        type=cli.fraction,
        default=INGREDIENTS["clean_share"],
        help="one-step: share of undisturbed photos",
    )
    g.add_argument(
        "--noise_share",
        type=cli.fraction,
        default=INGREDIENTS["noise_share"],
        help="one-step: share of photos with Gaussian noise in place of the attack",
    )
    g.add_argument(
        "--photo_weight",
        type=cli.natural_float,
        default=INGREDIENTS["photo_weight"],
        help="one-step: weight of the loss on the photo",
    )
    g.add_argument(
        "--fake_weight",
        type=cli.natural_float,
        default=INGREDIENTS["fake_weight"],
        help="one-step: weight of the loss on the translator's output",
    )
    add_data_flags(p)
    g = p.add_argument_group("weights")
    add_translator_flags(g, "translator; needed by one-step and by attacks on it", named=False)
    g.add_argument(
        "--defense_weights",
        default=None,
        metavar="FILE",
        help="start from these weights; one-step's default is the newest finished ddpm training",
    )
    g.add_argument(
        "--data_augmentation", choices=["flip", "none"], default="flip", help="horizontal flips in training"
    )
    g = p.add_argument_group("diffusion network")
    g.add_argument(
        "--num_channels",
        type=cli.positive_int,
        default=None,
        help="channels of the first level (default: by image size)",
    )
    g.add_argument(
        "--channel_mult",
        default=None,
        metavar="1,2,2",
        help="channels of each level as multiples (default: by image size)",
    )
    g.add_argument(
        "--num_res_blocks",
        type=cli.positive_int,
        default=None,
        help="residual blocks a level (default: by image size)",
    )
    g.add_argument(
        "--attention_resolutions",
        default=None,
        metavar="16,8",
        help="sides with attention, pixels (default: by image size)",
    )
    g.add_argument(
        "--noise_schedule", choices=["linear", "cosine"], default="linear", help="betas over 1,000 steps"
    )
    g.add_argument(
        "--max_timestep",
        type=cli.positive_int,
        default=300,
        help="largest t that is trained and may be started from; 1000 = all",
    )
    g = training.add_training_flags(p, num_steps=None, lr=None, ema=0.999)
    cli.add_run_flags(p, batch_size=None, limit=True, resume=True).add_argument(
        "--batch_size", type=cli.positive_int, default=None, help="photos per step, over all processes"
    )
    args = p.parse_args(argv)
    return resolve(p, args)


def family(defense):
    return "autoencoder" if defense in AUTOENCODERS else defense


def resolve(p, args):
    """Fill in the defaults that depend on other flags and refuse what cannot work."""
    for key, value in DEFAULTS[family(args.defense_model_type)].items():
        if getattr(args, key) is None:
            setattr(args, key, value)
    one_step = args.defense_model_type == "one-step"
    args.attack_steps = args.attack_steps or (3 if one_step else 10)
    args.attack_target = args.attack_target or ("clean" if one_step else "gray")
    args.dataset = dataset_name(args)
    if args.attack_type == "none" and args.defense_model_type != "ddpm":
        p.error(f"{args.defense_model_type} learns from disruptions: give --attack_type gaussian, pgd, ...")
    if args.attack_type in attacks.FOR_TESTS:
        p.error(f"--attack_type {args.attack_type} is for testing: {attacks.FOR_TESTS[args.attack_type]}")
    if args.max_timestep > 1000:
        p.error(f"--max_timestep {args.max_timestep}: the schedule has 1000 steps")
    needs_gan = one_step or args.attack_type in attacks.GRADIENT
    if needs_gan and args.gan_weights is None:
        p.error(
            f"--attack_type {args.attack_type} for {args.defense_model_type} attacks a translator: give"
            " --gan_weights FILE"
        )
    if one_step and not (args.photo_weight or args.fake_weight):
        p.error("--photo_weight 0 --fake_weight 0 leave nothing to learn from: give one of them above 0")
    if one_step and args.clean_share + args.noise_share > 1:
        p.error(
            f"--clean_share {args.clean_share:g} and --noise_share {args.noise_share:g} are shares of the"
            " same photos: expected a sum of at most 1"
        )
    if one_step and args.defense_weights is None:
        newest = newest_training(args.result_dir, "ddpm", args.dataset)
        if newest is None:
            p.error(
                "one-step is fine-tuned from a diffusion network: train one first (python train_defense.py"
                f" --defense_model_type ddpm --data_dir {args.data_dir}), or give --defense_weights FILE"
            )
        args.defense_weights = str(newest)
    return args


def training_folder(args):
    """<defense>/<dataset>/train/<attack>-eps<eps>, and of one-step which ingredient, or translator, is
    another: pgd-eps0.11-fake0."""
    eps = args.train_noise_var if args.attack_type != "none" else 0
    name = f"{args.attack_type}-eps{eps:g}"
    if args.defense_model_type == "one-step":
        name += "".join(
            f"-{flag.split('_')[0]}{getattr(args, flag):g}"
            for flag, usual in INGREDIENTS.items()
            if getattr(args, flag) != usual
        )
        name += f"-{args.gan_type}" if args.gan_type != "stargan" else ""
    return Path(args.result_dir) / args.defense_model_type / args.dataset / "train" / name


def cached_disruption(args, ctx, faces, translator):
    """rows -> x_adv - x of the photos at those positions of `faces`, made once per photo and kept in the
    shared cache."""
    attack = attacks.build(
        args.attack_type,
        translator,
        args.train_noise_var,
        steps=args.attack_steps,
        target=args.attack_target,
        precision=args.precision,
    )
    photos = AttackedPhotos(
        attack,
        "original",
        faces,
        args.selected_attrs,
        Path(args.result_dir) / "attacked" / args.dataset,
        faces.preparation,
        args.seed,
    )
    photos.fill(ctx, args.batch_size, "disrupt A")
    return lambda rows: photos.floats([faces.names[r] for r in rows]) - faces.floats(rows)


def prepare_diffusion(args, device):
    """Function network -> Denoiser (None = a new network, seeded or from --defense_weights), and the metadata
    of its weights."""
    state = None
    if args.defense_weights:
        start = build.load(args.defense_weights, device, args.precision)
        if start.family != "ours":
            raise UserError(
                f"{args.defense_weights}: {start.family} weights can be tested, not trained on; give weights"
                " of this project"
            )
        if start.image_size != args.image_size:
            raise UserError(
                f"{args.defense_weights}: made for {start.image_size} pixels, --image_size is"
                f" {args.image_size}"
            )
        if args.max_timestep > start.max_timestep:
            raise UserError(
                f"{args.defense_weights}: trained up to t = {start.max_timestep}, --max_timestep is"
                f" {args.max_timestep}"
            )
        options, state = start.meta["options"], start.network.state_dict()
    else:
        options = build.options_for(
            args.image_size,
            num_channels=args.num_channels,
            channel_mult=args.channel_mult,
            num_res_blocks=args.num_res_blocks,
            attention_resolutions=args.attention_resolutions,
            noise_schedule=args.noise_schedule,
        )
    meta = {
        "kind": "one-step" if args.defense_model_type == "one-step" else "diffusion",
        "options": options,
        "image_size": args.image_size,
        "max_timestep": args.max_timestep,
        "trained_on": args.dataset,
        "steps": args.num_steps,
        "seed": args.seed,
        "ema": True,
        "attack": args.attack_type,
        "eps": args.train_noise_var if args.attack_type != "none" else 0,
    }

    def make(network=None):
        if network is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seeds.derive(args.seed, "diffusion"))
                network = build.create_network(options)
            if state is not None:
                network.load_state_dict(state)
        return build.denoiser(network, meta).to(device)

    return make, meta


def train_ddpm(args, run, ctx, faces, held, translator, prepared):
    make, meta = prepared
    diffusion_trainer.train(
        args,
        run,
        ctx,
        faces,
        held,
        make,
        meta,
        cached_disruption(args, ctx, faces, translator) if args.attack_type != "none" else None,
    )


def train_one_step(args, run, ctx, faces, held, translator, prepared):
    make, meta = prepared

    # Three steps that can cross the ball: a step of half the radius, at least two grey levels.
    def attack(eps):
        return attacks.build(
            args.attack_type,
            translator,
            eps,
            steps=args.attack_steps,
            step_size=max(eps / 2, 2 / 127.5),
            target=args.attack_target,
            label="target",
            precision=args.precision,
        )

    meta = {**meta, "gan_sha256": translator.sha256}
    disrupter = one_step_trainer.Disrupter(
        attack, args.train_noise_var, args.clean_share, args.noise_share, cli.EIGHT_BIT_STEP
    )
    one_step_trainer.train(args, run, ctx, faces, held, make(), translator, disrupter, make, meta)


def train_autoencoder(args, run, ctx, faces, held, translator, prepared):
    network, meta = prepared
    disruption = cached_disruption(args, ctx, faces, translator) if args.attack_type != "gaussian" else None

    def disrupted(x, rows, streams):
        if disruption is None:
            return (x + args.train_noise_var * streams.normal(x)).clamp(-1, 1)
        return x + disruption(rows).to(x.device)

    dae_trainer.train(args, run, ctx, faces, held, network.to(ctx.device), meta, disrupted)


def prepare_autoencoder(args):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(args.seed, args.defense_model_type))
        network = dae_network.create(args.defense_model_type)
    return network, {
        "kind": "dae",
        "name": args.defense_model_type,
        "options": {},
        "image_size": args.image_size,
        "trained_on": args.dataset,
        "steps": args.num_steps,
        "seed": args.seed,
        "ema": True,
        "attack": args.attack_type,
        "eps": args.train_noise_var,
    }


def main(argv=None):
    args = parse_args(argv)
    with distributed.session(args.device) as ctx:
        check_writable(args.result_dir)
        translator = (
            translator_from_flags(args, ctx.device, args.selected_attrs) if args.gan_weights else None
        )
        if translator is not None:
            check_size(args.image_size, translator)
        faces = open_faces(args)
        kept, validation = held_out(faces.names, args.seed)
        prepared = (
            prepare_autoencoder(args)
            if args.defense_model_type in AUTOENCODERS
            else prepare_diffusion(args, ctx.device)
        )
        if args.batch_size % ctx.world:
            raise UserError(f"--batch_size {args.batch_size} does not divide by {ctx.world} processes")
        ctx.print(json.dumps(runs.options_of(args), indent=2))
        if args.dry_run:
            return
        run = runs.open_run(training_folder(args), args, ctx, "weights.safetensors")
        if run.finished:
            ctx.print("this run is finished; nothing to do")
            return
        work = {"ddpm": train_ddpm, "one-step": train_one_step, "autoencoder": train_autoencoder}[
            family(args.defense_model_type)
        ]
        work(args, run, ctx, faces.subset(kept), faces.subset(validation), translator, prepared)
        ctx.print(f"done: {run.folder / 'weights.safetensors'}")


if __name__ == "__main__":
    cli.run(main)
