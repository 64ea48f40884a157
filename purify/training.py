"""How each purifier of train_defense.py is trained: what its options say, what it starts from, what it learns
from."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import attacks
from common import seeds
from common.distributed import Context, to_device
from common.errors import UserError
from common.runs import Run
from faces.celeba import FaceFolder
from models.dae import network as dae_network
from models.dae import train as dae_trainer
from models.diffusion import build
from models.diffusion import train as diffusion_trainer
from models.diffusion.denoiser import Denoiser
from models.translators import Translator, check_size
from pipeline.attacked import AttackedPhotos
from purify.training_one_step import prepare_robust, train_one_step, train_robust
from purify.training_options import AUTOENCODERS, Options, Photos, Work, metadata_of


def prepare(options: Options, translator: Translator | None, device: torch.device) -> Work:
    """The training of the purifier that the options name, checked and ready: call it with an open run.

    Args:   translator  what is attacked; one-step learns from its output, too
    Raises: UserError for weights and networks that do not fit the options
    """
    if options.defense_model_type in AUTOENCODERS:
        network, meta = prepare_autoencoder(options)
        return lambda run, ctx, photos: train_autoencoder(
            options, run, ctx, photos, translator, network, meta
        )
    if options.defense_model_type == "one-step-robust":
        network, meta = prepare_robust(options)
        return lambda run, ctx, photos: train_robust(options, run, ctx, photos, translator, network, meta)
    make, meta = prepare_diffusion(options, device)
    train = train_one_step if options.defense_model_type == "one-step" else train_ddpm
    return lambda run, ctx, photos: train(options, run, ctx, photos, translator, make, meta)


def cached_disruption(
    options: Options, ctx: Context, faces: FaceFolder, translator: Translator | None
) -> Callable[[list[int]], torch.Tensor]:
    """rows -> x_adv - x of the photos at those positions of `faces`, made once per photo and kept in the
    shared cache."""
    attack = attacks.build(
        options.attack_type,
        translator,
        options.train_noise_var,
        steps=options.attack_steps,
        target=options.attack_target,
        precision=options.precision,
    )
    photos = AttackedPhotos(
        attack,
        "original",
        faces,
        options.selected_attrs,
        Path(options.result_dir) / "attacked" / options.dataset,
        faces.preparation,
        options.seed,
    )
    photos.fill(ctx, options.batch_size, "disrupt A")
    return lambda rows: photos.floats([faces.names[r] for r in rows]) - faces.floats(rows)


def starting_point(options: Options, device: torch.device) -> Denoiser:
    """The network of --defense_weights.  Raises UserError for weights that cannot be trained on as the
    options say."""
    start = build.load(options.defense_weights, device, options.precision)
    if start.family != "ours":
        raise UserError(
            f"{options.defense_weights}: {start.family} weights can be tested, not trained on; give weights"
            " of this project"
        )
    if start.image_size != options.image_size:
        raise UserError(
            f"{options.defense_weights}: made for {start.image_size} pixels, --image_size is"
            f" {options.image_size}"
        )
    if options.max_timestep > start.max_timestep:
        raise UserError(
            f"{options.defense_weights}: trained up to t = {start.max_timestep}, --max_timestep is"
            f" {options.max_timestep}"
        )
    return start


def prepare_diffusion(options: Options, device: torch.device) -> tuple[Callable[..., Denoiser], dict]:
    """Function network -> Denoiser (None = a new network, seeded or from --defense_weights), and the metadata
    of its weights."""
    state = None
    if options.defense_weights:
        start = starting_point(options, device)
        network_options, state = start.meta["options"], start.network.state_dict()
    else:
        network_options = build.options_for(
            options.image_size,
            num_channels=options.num_channels,
            channel_mult=options.channel_mult,
            num_res_blocks=options.num_res_blocks,
            attention_resolutions=options.attention_resolutions,
            noise_schedule=options.noise_schedule,
        )
    meta = {
        "kind": "one-step" if options.defense_model_type == "one-step" else "diffusion",
        "options": network_options,
        "image_size": options.image_size,
        "max_timestep": options.max_timestep,
        **metadata_of(options),
    }

    def make(network: nn.Module | None = None) -> Denoiser:
        if network is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seeds.derive(options.seed, "diffusion"))
                network = build.create_network(network_options)
            if state is not None:
                network.load_state_dict(state)
        return build.denoiser(network, meta).to(device)

    return make, meta


def train_ddpm(
    options: Options,
    run: Run,
    ctx: Context,
    photos: Photos,
    translator: Translator | None,
    make: Callable[..., Denoiser],
    meta: dict,
) -> None:
    """Train a diffusion network on noise, half of it replaced by the disruption if there is one."""
    disruption = None
    if options.attack_type != "none":
        disruption = cached_disruption(options, ctx, photos.learned, translator)
    diffusion_trainer.train(options, run, ctx, photos.learned, photos.held, make, meta, disruption)


def train_autoencoder(
    options: Options,
    run: Run,
    ctx: Context,
    photos: Photos,
    translator: Translator | None,
    network: nn.Module,
    meta: dict,
) -> None:
    """Train a reformer: attacked photo in, clean photo out."""
    disruption = None
    if options.attack_type != "gaussian":
        disruption = cached_disruption(options, ctx, photos.learned, translator)

    def disrupted(x: torch.Tensor, rows: list[int], streams: seeds.Streams) -> torch.Tensor:
        if disruption is None:
            return (x + options.train_noise_var * streams.normal(x)).clamp(-1, 1)
        return x + to_device(disruption(rows), x.device)

    dae_trainer.train(options, run, ctx, photos.learned, photos.held, network.to(ctx.device), meta, disrupted)


def prepare_autoencoder(options: Options) -> tuple[nn.Module, dict]:
    """A new, seeded reformer and the metadata of its weights.  Raises UserError for photos of a size that it
    cannot take."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(options.seed, options.defense_model_type))
        network = dae_network.create(options.defense_model_type)
    check_size(options.image_size, network)
    return network, {
        "kind": "dae",
        "name": options.defense_model_type,
        "options": {},
        "image_size": options.image_size,
        **metadata_of(options),
    }
