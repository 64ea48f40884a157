"""The flags of train_detector.py and of models.detector.export: what a detector is trained and tested on,
and what their defaults come to."""

import argparse
import re
from dataclasses import dataclass

from attacks.flags import add_attack_flags, refuse_target
from common import cli
from evaluation.detector_protocol import add_protocol_flags
from evaluation.detector_stage import OUTSIDE, DetectorOptions
from faces.flags import add_data_flags, dataset_name
from models.detector import imagenet
from models.detector import network as networks
from models.flags import add_translator_flags
from purify.defences import DEFENCES
from purify.flags import add_purifier_flags, add_through_flag, options_of, resolve_defence, resolve_through
from purify.trained import default_translator
from report.kinds.detector_words import SELF_BLENDED

CONDITIONS = ("clean", "disrupted", "purified", "filtered")
# what decides a network and its training, and no sample
TRAINING = ("detector", "weights", "base", "epochs", "lr", "lr_schedule", "data_augmentation", "batch_size")
OTHERS = ("seeds", "resume", "scores", "scores_name")  # that no sample depends on either


@dataclass(frozen=True, kw_only=True)
class Options(DetectorOptions):
    """What the flags say, resolved."""

    seeds: list[int]


def add_flags(p: cli.ArgumentParser, network: bool = True) -> None:
    """Add all flags of train_detector.py; without `network` those that decide samples alone, the values of
    the others None."""
    add_training_flags(p, network)
    add_protocol_flags(p)
    add_data_flags(p, "b and images_c")
    g = p.add_argument_group("translator")
    add_translator_flags(
        g,
        "translator: official 200000-G.ckpt or 100000_nets_ema.ckpt, or ours; default: the newest finished"
        " training",
    )
    g.add_argument(
        "--adv_gan_weights",
        default=None,
        metavar="FILE",
        help="for adv-train, adv-train-blur, both and lora-patch, whose training fakes it makes",
    )
    g.add_argument(
        "--gan_training_data",
        default=None,
        help="what the translator was trained on, for the record (the official one: all of CelebA)",
    )
    add_purifier_flags(p, DEFENCES, default="none")
    g.add_argument(
        "--defense_noise",
        default=None,
        metavar="ATTACK",
        help="without --defense_weights: the disruption that the purifier was trained on",
    )
    add_attack_flags(p)
    add_through_flag(p.add_argument_group("attack on the defence"), "the purifier of --condition purified")
    if network:
        add_scores_flags(p)
    g = cli.add_run_flags(p, batch_size=64 if network else None, resume=network)
    g.add_argument(
        "--limit",
        type=cli.positive_int,
        default=None,
        metavar="N",
        help="use the first N photos of B, and of C",
    )
    g.add_argument(
        "--image_batch_size",
        type=cli.batch_or_auto,
        default=16,
        help="photos at a time that are disrupted, purified and translated; auto: " + cli.AUTO_SUITS,
    )


def add_scores_flags(p: cli.ArgumentParser) -> None:
    """Add the group "a detector trained elsewhere"."""
    g = p.add_argument_group("a detector trained elsewhere, on what models.detector.export has written")
    g.add_argument(
        "--scores",
        nargs="+",
        default=None,
        metavar="FILE",
        help="train nothing: write the record of these scores of the test images; CSV with the columns name"
        " (real/000001.jpg, fake/000001.jpg, or an exported frame), probability (of fake) and, if need be,"
        " test_set (clean, disrupted, purified)",
    )
    g.add_argument(
        "--scores_name", default=None, metavar="NAME", help="what tables call the detector of --scores"
    )


def add_training_flags(p: cli.ArgumentParser, network: bool = True) -> None:
    """Add the group "what to train"; without `network` only what the samples depend on, the rest is None."""
    g = p.add_argument_group("what to train")
    g.add_argument("--condition", choices=CONDITIONS, required=True, help="what the photos of B went through")
    g.add_argument(
        "--poison_rate",
        type=cli.fraction,
        default=None,
        metavar="R",
        help="share of B's photos that are disrupted (default: 1; clean 0)",
    )
    g.add_argument(
        "--kept_names",
        default=None,
        metavar="FILE",
        help=(
            "samples of B to keep, a line each: 000001.jpg = photo and fake, real/000001.jpg,"
            " fake/000001.jpg; a line `# filter: NAME` above them names the filter; needed by filtered; with"
            " purified: drop, then purify"
        ),
    )
    g.add_argument(
        "--training_fakes",
        choices=["translator", SELF_BLENDED],
        default="translator",
        help="self-blended: no translator makes the training fakes, each is its photo blended into itself",
    )
    if not network:
        p.set_defaults(**dict.fromkeys((*TRAINING, *OTHERS)))
        return
    g.add_argument("--detector", choices=list(networks.DETECTORS), default="mobilenet_v2", help="the network")
    g.add_argument(
        "--weights",
        default=None,
        metavar="FILE|imagenet|none",
        help=(
            "ImageNet weights of the base: .pth or safetensors; imagenet = torchvision's, downloaded if need"
            " be (default: torchvision's where it has them on this machine, else none)"
        ),
    )
    g.add_argument(
        "--base",
        choices=networks.BASES,
        default=None,
        help=(
            "frozen: the weights stay; finetuned: they are trained on; layernorm: the LayerNorms alone are"
            " (default: layernorm where there are some, else frozen; without weights scratch)"
        ),
    )
    g.add_argument(
        "--seeds",
        type=cli.natural_int,
        nargs="+",
        default=None,
        metavar="S",
        help="one training each; --seed draws what they share: attack, who is disrupted, domains, validation"
        " (default: 0 1 2; of --scores 0)",
    )
    g.add_argument(
        "--epochs",
        type=cli.positive_int,
        default=20,
        help="passes over the training set, rounded up to whole batches; fixed, nothing is selected",
    )
    g.add_argument("--lr", type=cli.positive_float, default=1e-3, help="Adam's learning rate in epoch 0")
    g.add_argument(
        "--lr_schedule",
        choices=["tutorial", "linear"],
        default=None,
        help=(
            "tutorial: a tenth from epoch 3, a hundredth from 16; linear: towards 0 (default: tutorial, from"
            " scratch linear)"
        ),
    )
    g.add_argument(
        "--data_augmentation",
        choices=["flip", "none"],
        default="flip",
        help="mirror half of the images in training",
    )


def refuse_self_blended(p: cli.ArgumentParser, parsed: argparse.Namespace, defense: str) -> None:
    """Refuse what has no meaning where no translator makes the training fakes."""
    if parsed.training_fakes == SELF_BLENDED and parsed.kept_names is not None:
        p.error(
            "--training_fakes self-blended makes fakes that no filter has judged; drop --kept_names, or give"
            " --training_fakes translator"
        )
    if parsed.training_fakes == SELF_BLENDED and parsed.train_gan:
        p.error("--training_fakes self-blended asks no translator; drop --train_gan")
    if parsed.training_fakes == SELF_BLENDED and DEFENCES[defense].translator != "standard":
        p.error(
            f"--training_fakes self-blended asks no translator, {defense} is one; give"
            " another --defense_model_type"
        )


def _outside(p, parsed):
    """What stands for a network in the record of a detector that was trained elsewhere."""
    for name in TRAINING:
        if getattr(parsed, name) != p.get_default(name):
            p.error(f"--scores trains nothing; drop --{name}")
    if not re.fullmatch(r"\w[\w.+-]*", parsed.scores_name or ""):
        p.error(
            "--scores needs --scores_name, letters, digits and . _ + - that name the detector in tables"
            + (f"; found {parsed.scores_name!r:.60}" if parsed.scores_name else "")
        )
    if parsed.scores_name in networks.DETECTORS:
        p.error(f"--scores_name {parsed.scores_name}: is one of ours; give another name")
    if len(parsed.seeds or [0]) > 1:
        p.error("--scores are those of one training; name its seed with --seeds")
    nothing = dict.fromkeys(TRAINING)
    return {**nothing, "detector": parsed.scores_name, "base": OUTSIDE, "seeds": parsed.seeds or [0]}


def _network(p, parsed):
    """The values of TRAINING and the seeds that depend on other flags."""
    if parsed.scores:
        return _outside(p, parsed)
    if parsed.scores_name is not None:
        p.error("--scores_name names the detector of --scores; give both, or neither")
    seeds = parsed.seeds or [0, 1, 2]
    if parsed.batch_size < 2:
        p.error("--batch_size 1: batch normalisation needs two images or more")
    if len(set(seeds)) < len(seeds):
        p.error(f"--seeds {' '.join(map(str, seeds))}: each seed once")
    if parsed.resume not in (None, "auto") and len(seeds) > 1:
        p.error("--resume RUN continues one training: name its seed with --seeds, or give --resume alone")
    networks.check_base(parsed.detector, parsed.base or "scratch")
    weights = imagenet.find_imagenet_weights(parsed.detector, parsed.weights, download=not parsed.dry_run)
    tuned = "layernorm" if networks.tunes_layernorms(parsed.detector) else "frozen"
    base = parsed.base or (tuned if weights else "scratch")
    if (base == "scratch") != (weights is None):
        p.error(
            f"--base {base} of {parsed.detector} "
            + (
                "takes no --weights; give --weights none"
                if weights
                else "needs ImageNet weights: --weights FILE or imagenet"
            )
        )
    schedule = parsed.lr_schedule or ("linear" if base == "scratch" else "tutorial")
    return {
        "seeds": seeds,
        "weights": str(weights) if weights else None,
        "base": base,
        "lr_schedule": schedule,
    }


def resolve(
    p: cli.ArgumentParser, parsed: argparse.Namespace, kind: type[Options] = Options, network: bool = True
) -> Options:
    """The values that the flags of add_flags stand for, defaults that depend on other flags among them;
    refuses what cannot be trained.  kind  Options, or a class of them with a command's own"""
    defence = resolve_defence(parsed)
    defense = defence["defense_model_type"]
    refuse_target(p, parsed)
    resolve_through(p, parsed)
    if parsed.attack_through == "self" and defense == "none":
        if parsed.attack_type != "worst":
            p.error(
                "--attack_through self is the purifier of --condition purified; name one: --attack_through"
                " one-step"
            )
        parsed.attack_through = None  # the default of worst, and there is nothing to go through
    if parsed.condition == "purified" and defense == "none":
        p.error("--condition purified needs --defense_model_type: one-step, jpeg, ddpm, ...")
    if parsed.condition != "purified" and defense != "none":
        p.error(
            f"--condition {parsed.condition} purifies nothing; drop --defense_model_type"
            f" {defense}, or give --condition purified"
        )
    if parsed.condition == "filtered" and parsed.kept_names is None:
        p.error("--condition filtered needs --kept_names FILE, the samples that a filter has kept")
    if parsed.condition not in ("filtered", "purified") and parsed.kept_names is not None:
        p.error(
            f"--condition {parsed.condition} filters nothing; drop --kept_names, or give --condition"
            " filtered, or purified for both"
        )
    clean = parsed.condition == "clean"
    poison_rate = parsed.poison_rate
    if poison_rate is None:
        poison_rate = 0.0 if clean else 1.0
    if clean and poison_rate:
        p.error(f"--condition clean with --poison_rate {poison_rate:g} is --condition disrupted")
    if parsed.condition == "disrupted" and not poison_rate:
        p.error("--condition disrupted with --poison_rate 0 is --condition clean")
    if parsed.attack_type == "none" and poison_rate:
        p.error(
            f"--attack_type none disrupts nothing; give --poison_rate 0 (found {poison_rate:g}), or an attack"
        )
    dataset = dataset_name(parsed)
    gan_weights = parsed.gan_weights or default_translator(
        parsed.result_dir, dataset, parsed.gan_type, parsed.data_dir, parsed.image_size
    )
    refuse_self_blended(p, parsed, defense)
    return options_of(
        kind,
        parsed,
        defence,
        dataset=dataset,
        gan_weights=gan_weights,
        poison_rate=poison_rate,
        **(_network(p, parsed) if network else {}),
    )
