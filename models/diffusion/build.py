"""Build and load diffusion networks. The only file that imports guided_diffusion."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from common import checkpoint, cli, files, state_dicts
from common.cli import UserError
from models.diffusion import mindiffusion, official
from models.diffusion.denoiser import Denoiser, embed

# its gradient checkpointing, which we do not use, decorates with names that torch deprecates
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    from guided_diffusion import gaussian_diffusion, script_util, unet
    from guided_diffusion.respace import SpacedDiffusion, space_timesteps
unet.timestep_embedding = embed  # theirs makes every evaluation wait for the GPU

SCHEDULES = ("linear", "cosine", "ve")  # ve: variance exploding, in coordinates of unit variance
NORM_GROUPS = (1, 2, 4, 8, 16, 32)  # every level has a multiple of 32 channels
KINDS = ("diffusion", "one-step")
NAMES = {
    "stargan-generator": "a StarGAN generator (--gan_weights takes it)",
    "stargan-discriminator": "a StarGAN discriminator",
    "dae": "a denoising autoencoder (for --defense_model_type defensive-model-1, -2 and their -fixed forms)",
    "one-step-robust": "a robust purifier (for --defense_model_type one-step-robust)",
    "classifier": "an attribute classifier",
}


def default_options(image_size: int = 64) -> dict:
    """Options of our UNet: 1.1 million parameters below 128 pixels, wider and with attention from there
    on."""
    small = image_size < 128
    return {
        "image_size": image_size,
        "num_channels": 32 if small else 64,
        "channel_mult": "1,2,2" if small else "1,1,2,3,4",
        "num_res_blocks": 1,
        "attention_resolutions": "" if small else "16",
        "dropout": 0.0,
        "num_heads": 4,
        "num_head_channels": None,
        "use_scale_shift_norm": True,
        "resblock_updown": False,
        "use_new_attention_order": False,
        "learn_sigma": False,
        "norm_groups": 32,
    }


def options_for(image_size: int = 64, **given: Any) -> dict:
    """Complete options of a new network and its schedule; None = the default.  Raises UserError for what
    cannot be built."""
    diffusion = {k: given.pop(k, None) or v for k, v in official.DIFFUSION.items()}
    return {**network_options({"image_size": image_size, **given}), **diffusion}


def network_options(options: dict) -> dict:
    """The network's part of `options` with every missing one filled in.  Raises UserError for what the
    network cannot take."""
    given = {k: v for k, v in options.items() if v is not None and k not in official.DIFFUSION}
    unknown = [k for k in given if k not in official.NETWORK]
    if unknown:
        raise UserError(f"unknown network option {unknown[0]!r}{cli.nearest(unknown[0], official.NETWORK)}")
    full = {**default_options(given.get("image_size", 64)), **given}
    try:
        mult = [float(m) for m in full["channel_mult"].split(",")]
        sizes = [int(r) for r in full["attention_resolutions"].split(",") if r]
    except ValueError:
        raise UserError(
            f"--channel_mult {full['channel_mult']!r} and --attention_resolutions"
            f" {full['attention_resolutions']!r}: expected numbers separated by commas, as in 1,2,2 and 16,8"
        ) from None
    size, times = full["image_size"], 1 << (len(mult) - 1)
    if size % times:
        raise UserError(
            f"--image_size {size}: {len(mult)} levels (--channel_mult {full['channel_mult']}) need a multiple"
            f" of {times}"
        )
    if any(m <= 0 or full["num_channels"] * m % 32 for m in mult):
        raise UserError(
            f"--num_channels {full['num_channels']} with --channel_mult {full['channel_mult']}: every level"
            " needs a multiple of 32 channels (group norm of 32 groups)"
        )
    if full["norm_groups"] not in NORM_GROUPS:
        raise UserError(
            f"--norm_groups {full['norm_groups']}: expected one of {', '.join(map(str, NORM_GROUPS))}"
        )
    reached = [size >> level for level in range(len(mult))]
    if "attention_resolutions" not in given and 16 not in reached:
        sizes, full["attention_resolutions"] = [], ""
    if any(r not in reached for r in sizes):
        raise UserError(
            f"--attention_resolutions {full['attention_resolutions']}: at --image_size {size} the network's"
            f" levels are {', '.join(map(str, reached))} pixels wide"
        )
    if full["num_head_channels"] is None:
        full["num_head_channels"] = official.head_channels(
            [int(full["num_channels"] * mult[reached.index(r)]) for r in sizes]
            + [int(full["num_channels"] * mult[-1])]
        )
    return full


def create_network(options: dict) -> nn.Module:
    """guided-diffusion's UNet, (x (N, 3, H, W), times (N,)) -> (N, 3, H, W), or 6 channels with learn_sigma.

    `options`: as options_for returns them (missing ones and None take their default). Parameters are drawn
    from torch's global generator: a trainer seeds around this call.
    """
    o = network_options(options)
    mult = o["channel_mult"]
    # the library parses whole numbers only; its one fractional default has a name of its own
    if "." in mult:
        if tuple(map(float, mult.split(","))) != (0.5, 1, 1, 2, 2, 4, 4) or o["image_size"] != 512:
            raise UserError(f"--channel_mult {mult}: expected whole numbers")
        mult = ""
    network = script_util.create_model(
        o["image_size"],
        o["num_channels"],
        o["num_res_blocks"],
        channel_mult=mult,
        learn_sigma=o["learn_sigma"],
        use_checkpoint=False,
        # full-size attention never happens below one level more than the network has: their way to say none
        attention_resolutions=o["attention_resolutions"] or "1",
        num_heads=o["num_heads"],
        num_head_channels=o["num_head_channels"],
        use_scale_shift_norm=o["use_scale_shift_norm"],
        dropout=o["dropout"],
        resblock_updown=o["resblock_updown"],
        use_new_attention_order=o["use_new_attention_order"],
    )
    # the library's own 32 groups are one per channel where there are 32 channels, and lose an image's mean
    # colour
    for module in network.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.num_groups = o["norm_groups"]
    network.options = o
    network.size_multiple = 1 << (len(o["channel_mult"].split(",")) - 1)
    return network


def ve_betas(steps: int, low: float = 0.01, high: float = 50.0) -> np.ndarray:
    """(steps,) betas of x_t = x_0 + sigma_t eps with sigma geometric from `low` to `high`, seen at unit
    variance: x_t / sqrt(1 + sigma_t^2).

    The network then meets abar_t = 1 / (1 + sigma_t^2), and all that holds of a variance-preserving chain
    holds of it (Song et al. 2021, arXiv:2011.13456, Sec. 3.4, App. D.1; the scaling is Karras et al. 2022's
    c_in).
    """
    abar = 1 / (1 + np.geomspace(low, high, steps) ** 2)
    return 1 - abar / np.append(1.0, abar[:-1])


def kept_steps(steps: int, respacing: str) -> list[int]:
    """Sorted original steps of a respacing text: "" all, "30" evenly spaced, "10,15,20" per section, "ddim25"
    integer stride."""
    if not respacing:
        return list(range(steps))
    try:
        kept = sorted(space_timesteps(steps, str(respacing)))
    except ValueError:
        kept = []
    if not kept:  # of 0 and of numbers below it, too
        raise UserError(
            f"--respacing {respacing}: expected a number of steps from 1 to {steps}, counts per section as in"
            f" 10,15,20, or ddimN where an integer stride gives N steps of {steps} (ddim25, ddim50, ...)"
        )
    return kept


def create_diffusion(
    steps: int = 1000,
    schedule: str = "linear",
    learn_sigma: bool = False,
    respacing: str = "",
    rescale_timesteps: bool = False,
) -> SpacedDiffusion:
    """guided-diffusion's SpacedDiffusion: FIXED_LARGE variance, or a learned range with learn_sigma; predicts
    the noise."""
    if schedule not in SCHEDULES:
        known = " or ".join(SCHEDULES)
        raise UserError(f"--noise_schedule {schedule}: expected {known}{cli.nearest(schedule, SCHEDULES)}")
    kept = kept_steps(steps, respacing)
    if schedule == "ve":
        if learn_sigma:
            raise UserError("--noise_schedule ve: has no learned variance")
        return SpacedDiffusion(
            use_timesteps=set(kept),
            betas=ve_betas(steps),
            model_mean_type=gaussian_diffusion.ModelMeanType.EPSILON,
            model_var_type=gaussian_diffusion.ModelVarType.FIXED_LARGE,
            loss_type=gaussian_diffusion.LossType.MSE,
            rescale_timesteps=rescale_timesteps,
        )
    return script_util.create_gaussian_diffusion(
        steps=steps,
        learn_sigma=learn_sigma,
        noise_schedule=schedule,
        rescale_timesteps=rescale_timesteps,
        timestep_respacing=str(respacing),
    )


def tables(
    steps: int = 1000, schedule: str = "linear", learn_sigma: bool = False, rescale_timesteps: bool = False
) -> Callable[[str], dict[str, np.ndarray]]:
    """respacing text -> the library's constants of the reverse steps, as Denoiser wants them."""

    def of(respacing):
        d = create_diffusion(steps, schedule, learn_sigma, respacing, rescale_timesteps)
        kept = np.asarray(d.timestep_map)
        constants = {
            "kept": d.timestep_map,
            "times": kept * (1000 / steps if rescale_timesteps else 1),
            "alphas_bar": d.alphas_cumprod,
            "mean_x0": d.posterior_mean_coef1,
            "mean_x": d.posterior_mean_coef2,
        }
        if learn_sigma:
            return {
                **constants,
                "log_variance": np.log(d.betas),
                "log_variance_small": d.posterior_log_variance_clipped,
            }
        large = d.betas.copy()
        if len(large) > 1:
            large[0] = d.posterior_variance[1]  # as the library's FIXED_LARGE
        return {**constants, "log_variance": np.log(large)}

    return of


def denoiser(network: nn.Module, meta: dict, family: str = "ours", **more: Any) -> Denoiser:
    """Wrap a network of create_network; a training one stays trainable.

    Args:  meta  {"kind", "options": {network and schedule}, "max_timestep"} as it stands in the metadata of
                 our weights
           more  precision and sha256 of Denoiser
    """
    o = {**official.DIFFUSION, **meta["options"]}
    steps = o["diffusion_steps"]
    of = tables(steps, o["noise_schedule"], network.options["learn_sigma"], o["rescale_timesteps"])
    return Denoiser(
        network,
        of,
        family=family,
        image_size=network.options["image_size"],
        size_multiple=network.size_multiple,
        max_timestep=min(meta.get("max_timestep") or steps, steps),
        meta=meta,
        **more,
    ).to(next(network.parameters()).device)


def load(path: Path | str, device: torch.device | str = "cpu", precision: str = "fp32") -> Denoiser:
    """A frozen float32 Denoiser from a weight file: ours (safetensors or a training's last.pt),
    guided-diffusion's or minDiffusion's.

    precision "bf16" runs the network under autocast; the weights stay float32.
    Raises UserError, one line, for a file that is missing, damaged, hostile or holds another network.
    """
    with state_dicts.reading(path, "weights of a diffusion network"):
        loaded = _load(Path(path), precision).eval().requires_grad_(False)
    return loaded.to(device, memory_format=torch.channels_last)  # faster on CPUs too


def _load(path, precision):
    state, meta = _last(path) if path.name == "last.pt" else checkpoint.read_weights(path)
    common = {"precision": precision, "sha256": files.sha256(path)}
    if meta.get("kind", KINDS[0]) not in KINDS:
        raise UserError(f"{path}: expected diffusion weights, found {NAMES.get(meta['kind'], meta['kind'])}")
    if official.is_guided(state):
        return _guided(path, state, meta, common)
    if mindiffusion.is_mindiffusion(state):
        network = mindiffusion.network_from(state, path)
        return Denoiser(
            network,
            lambda respacing: mindiffusion.tables(kept_steps(1000, respacing)),
            family="mindiffusion",
            image_size=128,
            size_multiple=network.size_multiple,
            clip=False,
            meta={"kind": "diffusion"},
            **common,
        )
    raise UserError(
        f"{path}: expected diffusion weights (ours, guided-diffusion's or minDiffusion's), found"
        f" {_what(state)}"
    )


def _guided(path, state, meta, common):
    ours = bool(meta.get("options"))
    if not ours:
        override, diffusion, max_timestep = official.side_file(path)
        options = {**official.options_of(state, path, override.get("image_size")), **override, **diffusion}
        meta = {"kind": "diffusion", "options": options, "max_timestep": max_timestep}
    state_dicts.check_options(meta["options"], state, path)
    with torch.device("meta"):  # no drawing of parameters that are replaced at once
        network = create_network(meta["options"])
    if wrong := state_dicts.differing(network.state_dict(), state):
        raise UserError(
            f"{path}: its tensors do not fit the network that its options describe ({len(wrong)} differ,"
            f" first {wrong[0]}); "
            + ("the file is damaged" if ours else f"give the right options in {path}.yaml")
        )
    network.load_state_dict(state, assign=True)
    return denoiser(network, meta, "ours" if ours else "guided-diffusion", **common)


def _last(path):
    """State_dict and metadata of a training's last.pt: its moving average where it has one.  Raises UserError
    if it is another training's."""
    saved = checkpoint.load_state(path)
    parts, flags = saved["parts"], saved["options"]
    state = checkpoint.part_of(saved, path, "average", "network")
    if not official.is_guided(state):
        raise UserError(
            f"{path}: expected the training state of a diffusion network, found one with {', '.join(parts)}"
        )
    options = {
        **official.options_of(state, path, flags.get("image_size") or 64),
        "norm_groups": flags.get("norm_groups") or 32,
        "diffusion_steps": 1000,
        "noise_schedule": flags.get("noise_schedule") or "linear",
    }
    kind = "one-step" if flags.get("defense_model_type") == "one-step" else "diffusion"
    return state, {
        "kind": kind,
        "options": options,
        "max_timestep": flags.get("max_timestep"),
        "steps": saved["step"],
    }


def _what(state):
    keys = list(state)
    if "conv1.weight" in state and "main.0.weight" in state:
        return NAMES["stargan-discriminator"]
    if "main.0.weight" in state:
        return NAMES["stargan-generator"]
    return "tensors named " + ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
