"""How one-step-robust is trained: what it grows from, and the attacks through itself that it learns from."""

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
from models.one_step import train as one_step_trainer
from models.one_step_robust.network import BLOCKS, WIDTH, RobustNetwork
from models.translators import Translator
from purify.dae import load as load_autoencoder
from purify.one_step import OneStepRobust, load_robust
from purify.training_options import Options, Photos


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
        "trained_on": options.dataset,
        "steps": options.num_steps,
        "seed": options.seed,
        "ema": True,
        "attack": options.attack_type,
        "eps": options.train_noise_var,
    }


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

    # Steps that cross the ball twice over.
    def attack(network: nn.Module, eps: float) -> Callable[..., torch.Tensor]:
        return attacks.build(
            options.attack_type,
            ThroughDefence(translator, OneStepRobust(network)),
            eps,
            steps=options.attack_steps,
            step_size=max(0.7 * eps, 2 / 127.5),
            target=options.attack_target,
            label="target",
            precision=options.precision,
        ).disrupt

    meta = {**meta, "gan_sha256": translator.sha256}
    network = network.to(ctx.device)
    disrupter = one_step_trainer.Disrupter(
        partial(attack, network),
        options.train_noise_var,
        options.clean_share,
        options.noise_share,
        cli.EIGHT_BIT_STEP,
        ramp=options.num_steps // 3,
    )
    one_step_trainer.train(
        options,
        run,
        ctx,
        photos.learned,
        photos.held,
        network,
        lambda network: network,
        translator,
        disrupter,
        attack,
        meta,
    )
