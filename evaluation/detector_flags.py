"""The flags of train_detector.py: what a detector is trained and tested on, and what their defaults come
to."""

import argparse
from dataclasses import dataclass

from attacks.flags import refuse_target
from common import cli
from evaluation.detector_stage import DetectorOptions
from faces.flags import dataset_name
from models.detector import imagenet
from models.detector import network as networks
from purify.defences import DEFENCES
from purify.flags import options_of, resolve_defence
from purify.trained import default_translator
from report.kinds.detector_rows import SELF_BLENDED

CONDITIONS = ("clean", "disrupted", "purified", "filtered")


@dataclass(frozen=True, kw_only=True)
class Options(DetectorOptions):
    """What the flags say, resolved."""

    seeds: list[int]


def add_training_flags(p: cli.ArgumentParser) -> None:
    """Add the group "what to train"."""
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
        default=[0, 1, 2],
        metavar="S",
        help="one training each; --seed draws what they share: attack, who is disrupted, domains, validation",
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
    g.add_argument(
        "--training_fakes",
        choices=["translator", SELF_BLENDED],
        default="translator",
        help="self-blended: no translator makes the training fakes, each is its photo blended into itself",
    )


def refuse_self_blended(p: cli.ArgumentParser, parsed: argparse.Namespace, defense: str) -> None:
    """Refuse what has no meaning where no translator makes the training fakes."""
    if parsed.training_fakes == SELF_BLENDED and parsed.kept_names is not None:
        p.error(
            "--training_fakes self-blended makes fakes that no filter has judged; drop --kept_names, or give"
            " --training_fakes translator"
        )
    if parsed.training_fakes == SELF_BLENDED and DEFENCES[defense].translator != "standard":
        p.error(
            f"--training_fakes self-blended asks no translator, {defense} is one; give"
            " another --defense_model_type"
        )


def resolve(p: cli.ArgumentParser, parsed: argparse.Namespace) -> Options:
    """The values that the flags stand for, defaults that depend on other flags among them; refuses what
    cannot be trained."""
    defence = resolve_defence(parsed)
    defense = defence["defense_model_type"]
    refuse_target(p, parsed)
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
    if parsed.batch_size < 2:
        p.error("--batch_size 1: batch normalisation needs two images or more")
    if len(set(parsed.seeds)) < len(parsed.seeds):
        p.error(f"--seeds {' '.join(map(str, parsed.seeds))}: each seed once")
    if parsed.resume not in (None, "auto") and len(parsed.seeds) > 1:
        p.error("--resume RUN continues one training: name its seed with --seeds, or give --resume alone")
    dataset = dataset_name(parsed)
    gan_weights = parsed.gan_weights or default_translator(
        parsed.result_dir, dataset, parsed.gan_type, parsed.data_dir, parsed.image_size
    )
    refuse_self_blended(p, parsed, defense)
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
    return options_of(
        Options,
        parsed,
        defence,
        dataset=dataset,
        gan_weights=gan_weights,
        poison_rate=poison_rate,
        weights=str(weights) if weights else None,
        base=base,
        lr_schedule=parsed.lr_schedule or ("linear" if base == "scratch" else "tutorial"),
    )
