"""Train one purifier on split A.

reads   <data_dir>/images_a/              (made by split_dataset.py), without its held-out part
writes  <result_dir>/<defense>/<dataset>/train/<attack>-eps<eps>/NNN/
        {options.yaml,log.jsonl,last.pt,samples/*.png,weights.safetensors}

One diffusion network (ddpm) serves ddpm, one-step-plain, diffpure and gridpure; one-step is fine-tuned from
it against the translator; one-step-robust learns from attacks through itself.

  python train_defense.py --defense_model_type ddpm
  python train_defense.py --defense_model_type one-step --gan_weights 200000-G.ckpt
  python train_defense.py --defense_model_type one-step-robust --gan_weights 200000-G.ckpt
  torchrun --standalone --nproc_per_node=4 train_defense.py --defense_model_type ddpm
"""

import argparse
from pathlib import Path

import attacks
from common import cli, distributed, runs, training
from common.cli import UserError
from common.files import check_writable
from faces.celeba import learned_and_held
from faces.flags import add_data_flags, dataset_name, open_faces
from models.flags import add_translator_flags, translator_from_flags
from models.translators import check_size
from purify.trained import INGREDIENTS, newest_training, training_name
from purify.training import prepare
from purify.training_options import AUTOENCODERS, Options, Photos

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
    "one-step-robust": {
        "attack_type": "pgd",
        "num_steps": 20000,
        "lr": 5e-4,
        "batch_size": 16,
        "train_noise_var": 0.085,
    },
    "autoencoder": {
        "attack_type": "gaussian",
        "num_steps": 20000,
        "lr": 1e-3,
        "batch_size": 256,
        "train_noise_var": 0.05,
    },
}


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="train_defense.py", description=__doc__)
    g = p.add_argument_group("what to train")
    g.add_argument(
        "--defense_model_type",
        choices=["ddpm", "one-step", "one-step-robust", *AUTOENCODERS],
        required=True,
        help="purifier to train",
    )
    g.add_argument(
        "--attack_type",
        choices=sorted(attacks.ATTACKS),
        default=None,
        help=(
            "disruption to learn from (default: ddpm none = ordinary noise; one-step pgd; autoencoders"
            " gaussian; one-step-robust pgd through itself)"
        ),
    )
    g.add_argument(
        "--train_noise_var",
        type=cli.radius,
        default=None,
        metavar="EPS",
        help=(
            "L-inf radius of the attack, [-1,1] image units (0.05 = 6.4/255); for gaussian its standard"
            " deviation; for one-step and one-step-robust the largest radius (default: 0.05; one-step 0.11;"
            " robust 0.085)"
        ),
    )
    g.add_argument(
        "--attack_steps",
        type=cli.positive_int,
        default=None,
        help="steps of the attack (default: 10; one-step and robust 3)",
    )
    g.add_argument(
        "--attack_target",
        choices=["gray", "clean", "input"],
        default=None,
        help="what the attack aims at (default: gray; one-step and robust clean)",
    )
    g.add_argument(
        "--clean_share",
        type=cli.fraction,
        default=None,
        help="one-step, one-step-robust: share of undisturbed photos (default: 0.1; robust 0.15)",
    )
    g.add_argument(
        "--noise_share",
        type=cli.fraction,
        default=None,
        help=(
            "one-step, one-step-robust: share of photos with Gaussian noise in place of the attack"
            " (default: 0; robust 0.05)"
        ),
    )
    g.add_argument(
        "--photo_weight",
        type=cli.natural_float,
        default=None,
        help="one-step, one-step-robust: weight of the loss on the photo (default: 10; robust 1)",
    )
    g.add_argument(
        "--fake_weight",
        type=cli.natural_float,
        default=None,
        help="one-step, one-step-robust: weight of the loss on the translator's output (default: 1)",
    )
    add_data_flags(p)
    g = p.add_argument_group("weights")
    add_translator_flags(g, "translator; needed by one-step and by attacks on it", named=False)
    g.add_argument(
        "--defense_weights",
        default=None,
        metavar="FILE",
        help=(
            "start from these weights (default: of one-step the newest finished ddpm training, of"
            " one-step-robust that of defensive-model-2-fixed, if there is one)"
        ),
    )
    g.add_argument(
        "--data_augmentation", choices=["flip", "none"], default="flip", help="horizontal flips in training"
    )
    g = p.add_argument_group("diffusion network")
    g.add_argument(
        "--num_channels",
        type=cli.positive_int,
        default=None,
        help="channels of the first level (default: by image size; one-step-robust 112)",
    )
    g.add_argument(
        "--channel_mult",
        default=None,
        metavar="1,2,2",
        help="channels of each level as multiples (default: by image size)",
    )
    g.add_argument(
        "--num_res_blocks",
        type=cli.natural_int,
        default=None,
        help=(
            "residual blocks a level (default: by image size); one-step-robust: at a quarter of the scale"
            " (default: 3; 0 = no branch)"
        ),
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
    training.add_training_flags(p, num_steps=None, lr=None, ema=0.999)
    cli.add_run_flags(p, batch_size=None, limit=True, resume=True).add_argument(
        "--batch_size", type=cli.batch_number, default=None, help="photos per step, over all processes"
    )
    return resolve(p, p.parse_args(argv))


def resolve(p: cli.ArgumentParser, parsed: argparse.Namespace) -> Options:
    """The values of a training: the defaults that depend on other flags filled in.

    Raises: UserError for what cannot work
    """
    defense = parsed.defense_model_type
    one_step, robust = defense == "one-step", defense == "one-step-robust"
    defaults = DEFAULTS["autoencoder" if defense in AUTOENCODERS else defense]
    defaults = defaults | INGREDIENTS.get(defense, INGREDIENTS["one-step"])
    filled = {k: v if getattr(parsed, k) is None else getattr(parsed, k) for k, v in defaults.items()}
    dataset, attack = dataset_name(parsed), filled["attack_type"]
    if attack == "none" and defense != "ddpm":
        p.error(f"{defense} learns from disruptions: give --attack_type gaussian, pgd, ...")
    if attack in attacks.FOR_TESTS:
        p.error(f"--attack_type {attack} is for testing: {attacks.FOR_TESTS[attack]}")
    if parsed.max_timestep > 1000:
        p.error(f"--max_timestep {parsed.max_timestep}: the schedule has 1000 steps")
    if (one_step or robust or attack not in attacks.WITHOUT_TRANSLATOR) and parsed.gan_weights is None:
        p.error(f"--attack_type {attack} for {defense} attacks a translator: give --gan_weights FILE")
    if robust and attack not in attacks.GRADIENT:
        p.error(
            f"--attack_type {attack}: one-step-robust learns from an attack through itself, which takes"
            f" gradients; one of: {', '.join(attacks.GRADIENT)}"
        )
    if parsed.num_res_blocks == 0 and not robust:
        p.error("--num_res_blocks 0: for one-step-robust alone, which then has no branch")
    if (one_step or robust) and not (filled["photo_weight"] or filled["fake_weight"]):
        p.error("--photo_weight 0 --fake_weight 0 leave nothing to learn from: give one of them above 0")
    if (one_step or robust) and filled["clean_share"] + filled["noise_share"] > 1:
        p.error(
            f"--clean_share {filled['clean_share']:g} and --noise_share {filled['noise_share']:g} are shares"
            " of the same photos: expected a sum of at most 1"
        )
    weights = parsed.defense_weights
    if one_step and weights is None:
        newest = newest_training(parsed.result_dir, "ddpm", dataset)
        if newest is None:
            p.error(
                "one-step is fine-tuned from a diffusion network: train one first (python train_defense.py"
                f" --defense_model_type ddpm --data_dir {parsed.data_dir}), or give --defense_weights FILE"
            )
        weights = str(newest)
    if robust and weights is None:
        newest = newest_training(parsed.result_dir, "defensive-model-2-fixed", dataset)
        weights = newest and str(newest)
    return cli.resolve(
        Options,
        parsed,
        **filled,
        attack_steps=parsed.attack_steps or (3 if one_step or robust else 10),
        attack_target=parsed.attack_target or ("clean" if one_step or robust else "gray"),
        dataset=dataset,
        defense_weights=weights,
    )


def training_folder(options: Options) -> Path:
    """<defense>/<dataset>/train/<attack>-eps<eps>, and of one-step which ingredient, or translator, is
    another: pgd-eps0.11-fake0."""
    parent = Path(options.result_dir) / options.defense_model_type / options.dataset / "train"
    return parent / training_name(runs.options_of(options))


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    with distributed.session(options.device) as ctx:
        check_writable(options.result_dir)
        translator = (
            translator_from_flags(options, ctx.device, options.selected_attrs)
            if options.gan_weights
            else None
        )
        if translator is not None:
            check_size(options.image_size, translator)
        photos = Photos(*learned_and_held(open_faces(options), options.seed))
        train = prepare(options, translator, ctx.device)
        if options.batch_size % ctx.world:
            raise UserError(f"--batch_size {options.batch_size} does not divide by {ctx.world} processes")
        run = runs.begin(options, ctx, training_folder(options), "weights.safetensors")
        if run is None:
            return
        train(run, ctx, photos)
        ctx.print(f"done: {run.folder / 'weights.safetensors'}")


if __name__ == "__main__":
    cli.run(main)
