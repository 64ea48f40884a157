"""How the purifiers of one evaluation are trained: one-step, and one-step-robust, with what it grows from and
the attacks through itself that it learns from."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

import attacks
from attacks.through import ThroughDefence
from common import checkpoint, cli, seeds
from common.distributed import Context
from common.errors import UserError
from common.runs import Run
from models.diffusion.denoiser import Denoiser
from models.one_step import train as one_step_trainer
from models.one_step_robust.network import BLOCKS, WIDTH, RobustNetwork
from models.translators import Translator
from purify.dae import load as load_autoencoder
from purify.one_step import OneStepRobust, load_robust
from purify.training_options import Options, Photos, metadata_of


def prepare_robust(options: Options) -> tuple[nn.Module, dict]:
    """The network of one-step-robust and the metadata of its weights.

    New and seeded, or grown from --defense_weights, whose three convolutions are its own: those of
    defensive-model-2-fixed, or of one-step-robust; a branch that is there stays, else a new one adds nothing
    yet.
    Raises: UserError for other weights, and for sizes that do not fit them
    """
    start, options_of_start, state = options.defense_weights, {}, {}
    if start and checkpoint.read_meta(start).get("kind") == "dae":
        begun = load_autoencoder(Path(start), "defensive-model-2-fixed")
        options_of_start, state = {"width": begun.convs[0].out_channels, "blocks": 0}, begun.state_dict()
    elif start:
        begun, meta = load_robust(start)
        options_of_start, state = meta["options"], begun.state_dict()
    width, blocks = options_of_start.get("width", WIDTH), options_of_start.get("blocks") or BLOCKS
    asked = {"width": options.num_channels, "blocks": options.num_res_blocks}
    size = {k: own if asked[k] is None else asked[k] for k, own in (("width", width), ("blocks", blocks))}
    if start and (size["width"] != width or options_of_start["blocks"] not in (0, size["blocks"])):
        raise UserError(
            f"{start}: a network of {width} channels and {options_of_start['blocks']} blocks, found"
            f" --num_channels {size['width']} and --num_res_blocks {size['blocks']}; leave these out"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(options.seed, options.defense_model_type))
        network = RobustNetwork(**size)
    network.load_state_dict({**network.state_dict(), **state})
    return network, {
        "kind": "one-step-robust",
        "options": size,
        "image_size": options.image_size,
        **metadata_of(options),
    }


def _attack(
    options: Options, attacked: Translator | ThroughDefence, step: float, eps: float
) -> Callable[..., torch.Tensor]:
    """The training's attack of radius eps; step: of that radius, at least two grey levels."""
    return attacks.build(
        options.attack_type,
        attacked,
        eps,
        steps=options.attack_steps,
        step_size=max(step * eps, 2 / 127.5),
        target=options.attack_target,
        label="target",
        precision=options.precision,
    ).disrupt


def train_one_step(
    options: Options,
    run: Run,
    ctx: Context,
    photos: Photos,
    translator: Translator,
    make: Callable[..., Denoiser],
    meta: dict,
) -> None:
    """Fine-tune a diffusion network on disruptions that are made as it learns."""

    def wrap(network: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        denoiser = make(network)
        return lambda x: denoiser.x0(x, one_step_trainer.STEP)

    # three steps of half the radius can cross the ball
    attack, network = partial(_attack, options, translator, 0.5), make().network
    _train(options, run, ctx, photos, translator, network, wrap, attack, None, meta)


def train_robust(
    options: Options,
    run: Run,
    ctx: Context,
    photos: Photos,
    translator: Translator,
    network: nn.Module,
    meta: dict,
) -> None:
    """Train one-step-robust on disruptions that know it as it is at that step."""

    def through(network: nn.Module, eps: float) -> Callable[..., torch.Tensor]:
        return _attack(options, ThroughDefence(translator, OneStepRobust(network)), 0.7, eps)

    network = network.to(ctx.device)
    attack = partial(through, network)
    _train(options, run, ctx, photos, translator, network, lambda network: network, attack, through, meta)


def _train(options, run, ctx, photos, translator, network, wrap, attack, through, meta):
    """models.one_step.train with the disruptions of the options; of an attack through the network itself the
    radius rises over the first third."""
    disrupter = one_step_trainer.Disrupter(
        attack,
        options.train_noise_var,
        options.clean_share,
        options.noise_share,
        cli.EIGHT_BIT_STEP,
        ramp=options.num_steps // 3 if through else 0,
    )
    one_step_trainer.train(
        options,
        run,
        ctx,
        photos.learned,
        photos.held,
        network,
        wrap,
        translator,
        disrupter,
        through,
        {**meta, "gan_sha256": translator.sha256},
    )
