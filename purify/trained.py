"""Which weights a defence uses when none are named: the newest finished training of it, else one line with
the command that makes them."""

from pathlib import Path

from common import checkpoint, runs
from common.cli import UserError
from models.flags import translator_from_flags
from models.translators import TRAINED_BY, check_size, load_translator
from purify.defences import DEFENCES, trained_by
from purify.flags import purifier_from_flags

TRAINED_AS = {
    "ddpm": "ddpm",
    "diffpure": "ddpm",
    "one-step-plain": "ddpm",
    "one-step": "one-step",
    "defensive-model-1": "defensive-model-1",
    "defensive-model-2": "defensive-model-2",
    "defensive-model-1-fixed": "defensive-model-1-fixed",
    "defensive-model-2-fixed": "defensive-model-2-fixed",
}


def newest_training(result_dir, defense, dataset, noise=None):
    """weights.safetensors of the newest finished training of a defence, of the disruption `noise` ("pgd" or
    "pgd-eps0.05") if given; or None.

    A variant (pgd-eps0.11-fake0) is found by its full name alone.
    """

    def wanted(kind):
        attack, _, rest = kind.rpartition("-eps")
        return noise == kind or noise in (None, attack) and "-" not in rest

    return _newest(Path(result_dir) / defense / dataset / "train", wanted)


def newest_translator(result_dir, dataset, adversarial=False, gan_type="stargan"):
    """weights.safetensors of the newest finished training of an ordinary or adversarially trained translator,
    or None."""
    return _newest(
        Path(result_dir) / gan_type / dataset / "train", lambda kind: kind.startswith("adv-") == adversarial
    )


def _newest(parent, wanted):
    kinds = sorted(p for p in parent.iterdir() if wanted(p.name)) if parent.is_dir() else []
    found = [
        run / "weights.safetensors"
        for kind in kinds
        if (run := runs.newest_finished(kind, "weights.safetensors"))
    ]
    return max(found, key=lambda f: f.stat().st_mtime, default=None)


def weights_of(defense, args):
    """The weight file of a purifier that needs one (None for jpeg and the like): --defense_weights, else the
    newest training.

    Raises UserError naming the command that trains it.
    """
    if defense not in TRAINED_AS:
        return None
    found = newest_training(args.result_dir, TRAINED_AS[defense], args.dataset, args.defense_noise)
    if found is None:
        noise = f" on {args.defense_noise}" if args.defense_noise else ""
        raise UserError(
            f"{defense} has no finished training{noise} below"
            f" {Path(args.result_dir) / TRAINED_AS[defense] / args.dataset}: run"
            f" `{training_command(defense, args)}`, or give --defense_weights FILE"
        )
    return str(found)


def training_command(defense, args):
    """The command line that trains the weights of a defence."""
    gan_type = "" if args.gan_type == "stargan" else f" --gan_type {args.gan_type}"
    return (
        trained_by(defense).replace("FILE", f"{args.gan_weights}{gan_type}")
        + f" --data_dir {args.data_dir} --image_size {args.image_size}"
    )


def adversarial_translator_of(args):
    """--adv_gan_weights, else the newest adversarially trained translator.  Raises UserError naming the
    command that trains one."""
    found = args.adv_gan_weights or newest_translator(args.result_dir, args.dataset, adversarial=True)
    if found is None:
        raise UserError(
            f"{args.defense_model_type} needs an adversarially trained translator: run `python -m"
            f" models.stargan.train --adversarial both --init_from .../last.pt --data_dir {args.data_dir}"
            f" --image_size {args.image_size}`, or give --adv_gan_weights FILE"
        )
    return str(found)


def default_translator(args):
    """The newest finished training of an ordinary translator.  Raises UserError naming the command that
    trains one."""
    newest = newest_translator(args.result_dir, args.dataset, gan_type=args.gan_type)
    if newest is None:
        official = "the official 200000-G.ckpt, or " if args.gan_type == "stargan" else ""
        raise UserError(
            f"--gan_weights FILE is needed: {official}train one ({TRAINED_BY[args.gan_type]} --data_dir"
            f" {args.data_dir} --image_size {args.image_size})"
        )
    return str(newest)


def load_defence(args, ctx, translators=None):
    """(purifier, weights file or None, standard translator, translator of the defence).

    translators: file -> Translator, those that were loaded before; what is loaded here joins them.
    """
    translators = {} if translators is None else translators
    defence, c_dim = DEFENCES[args.defense_model_type], len(args.selected_attrs)
    weights = args.defense_weights or weights_of(defence.purifier, args)
    purifier = purifier_from_flags(args, weights, name=defence.purifier, device=ctx.device)
    if defence.translator == "adversarial" and args.gan_type != "stargan":
        raise UserError(
            f"--defense_model_type {args.defense_model_type} is made for --gan_type stargan, the one that is"
            f" trained adversarially; found {args.gan_type}"
        )
    if args.gan_weights not in translators:
        translators[args.gan_weights] = translator_from_flags(args, ctx.device, args.selected_attrs)
    standard = translators[args.gan_weights]
    check_size(args.image_size, standard, purifier)
    if defence.translator == "standard":
        return purifier, weights, standard, standard
    file = adversarial_translator_of(args)
    key = f"adversarial {file}"  # the same file may be the ordinary translator too
    if key not in translators:
        translators[key] = load_translator(file, ctx.device, c_dim)
    return purifier, weights, standard, translators[key]


def trained_noise(weights):
    """The disruption that the weights were trained on: from their run folder, or from what the file says;
    `none` without weights."""
    if weights is None:
        return "none"
    path = Path(weights)
    if path.parent.parent.parent.name == "train":
        return path.parent.parent.name
    meta = checkpoint.read_weights(path)[1] if path.name != "last.pt" else {}
    return f"{meta['attack']}-eps{meta['eps']:g}" if "attack" in meta else path.stem
