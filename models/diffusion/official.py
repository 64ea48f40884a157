"""What network a state_dict in guided-diffusion's format holds: flags read from the shapes of its tensors, or
from a side file.

Shapes do not say the image size, the width of attention heads, the attention order or the schedule. The
defaults here are those of the public face checkpoints (FFHQ of DPS and P2-weighting, CelebA-HQ of RePaint);
`<file>.yaml` beside the weights overrides any.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import torch
import yaml

from common import cli
from common.cli import UserError

# the library's defaults
SIZES = {(0.5, 1, 1, 2, 2, 4, 4): 512, (1, 1, 2, 2, 4, 4): 256, (1, 1, 2, 3, 4): 128, (1, 2, 3, 4): 64}
DIFFUSION = {"diffusion_steps": 1000, "noise_schedule": "linear", "rescale_timesteps": False}
NETWORK = (
    "image_size",
    "num_channels",
    "channel_mult",
    "num_res_blocks",
    "attention_resolutions",
    "dropout",
    "num_heads",
    "num_head_channels",
    "use_scale_shift_norm",
    "resblock_updown",
    "use_new_attention_order",
    "learn_sigma",
    "norm_groups",
)
NOT_USED = (
    "model_path",
    "use_checkpoint",
    "use_fp16",
    "num_heads_upsample",
    "timestep_respacing",
    "use_kl",
    "rescale_learned_sigmas",
    "max_timestep",
)
OFF = ("class_cond", "predict_xstart")  # known, and refused when on


def is_guided(state: dict[str, torch.Tensor]) -> bool:
    """Whether these are the keys of guided-diffusion's UNet."""
    return "time_embed.0.weight" in state and "input_blocks.0.0.weight" in state and "out.2.weight" in state


def head_channels(widths: Iterable[int]) -> int:
    """Channels per attention head: 64, or -1 (num_heads decides) where a width is no multiple of 64."""
    return 64 if all(w % 64 == 0 for w in widths) else -1


def options_of(state: dict[str, torch.Tensor], path: Path | str, image_size: int | None = None) -> dict:
    """Options of the UNet in `state`.  Raises UserError if it is class-conditional or no such network.

    image_size None = the size to which the library's default channel multipliers belong.
    """
    if "label_emb.weight" in state:
        raise UserError(
            f"{path}: a class-conditional diffusion network ({state['label_emb.weight'].shape[0]} classes);"
            " purification has no class to give it, use an unconditional one"
        )
    try:
        return _options_of(state, path, image_size)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as e:
        raise UserError(
            f"{path}: looks like guided-diffusion's UNet but is not one (at {' '.join(str(e).split())[:80]})"
        ) from e


def _options_of(state, path, image_size):
    blocks = 1 + max(int(m.group(1)) for k in state if (m := re.match(r"input_blocks\.(\d+)\.", k)))
    # the layer that doubles the size ends one output block per level
    ups = {
        m.group(1): m.group(2)
        for k in state
        if (m := re.match(r"output_blocks\.(\d+)\.[12]\.(conv\.weight|in_layers\.0\.weight)", k))
    }
    levels = len(ups) + 1
    if blocks % levels:
        raise ValueError(f"{blocks} input blocks on {levels} levels")
    # residual blocks and the layer before them (first convolution or halving)
    per_level = blocks // levels
    width = state["time_embed.0.weight"].shape[1]
    widths = [
        state[f"input_blocks.{1 + level * per_level}.0.out_layers.3.weight"].shape[0]
        for level in range(levels)
    ]
    mult = tuple(w / width for w in widths)
    attended = [
        level for level in range(levels) if f"input_blocks.{1 + level * per_level}.1.qkv.weight" in state
    ]
    image_size = image_size or SIZES.get(mult)
    text = ",".join(f"{m:g}" for m in mult)
    if image_size is None:
        raise UserError(
            f"{path}: channel multipliers {text} do not tell the image size; write `image_size: N` into"
            f" {path}.yaml"
        )
    first = state["input_blocks.1.0.out_layers.3.weight"].shape[0]
    return {
        "image_size": image_size,
        "num_channels": width,
        "channel_mult": text,
        "num_res_blocks": per_level - 1,
        "attention_resolutions": ",".join(str(image_size >> level) for level in attended),
        "dropout": 0.0,
        "num_heads": 4,
        "num_head_channels": head_channels([widths[level] for level in attended] + widths[-1:]),
        "use_scale_shift_norm": state["input_blocks.1.0.emb_layers.1.weight"].shape[0] == 2 * first,
        "resblock_updown": any(kind.startswith("in_layers") for kind in ups.values()),
        "use_new_attention_order": False,
        "learn_sigma": state["out.2.weight"].shape[0] == 6,
        "norm_groups": 32,
    }


def side_file(path: Path | str) -> tuple[dict, dict, int | None]:
    """Overrides in `<file>.yaml`: (network options, diffusion options, max_timestep or None).  Raises
    UserError for unknown keys."""
    side = Path(f"{path}.yaml")
    if not side.is_file():
        return {}, dict(DIFFUSION), None
    try:
        values = yaml.safe_load(side.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise UserError(f"{side}: not valid YAML ({' '.join(str(e).split())})") from e
    if not isinstance(values, dict):
        raise UserError(f"{side}: expected `option: value` lines, found a {type(values).__name__}")
    known = [*NETWORK, *DIFFUSION, *NOT_USED, *OFF]
    for key, value in values.items():
        if key not in known:
            raise UserError(f"{side}: unknown key {key!r}{cli.nearest(str(key), known)}")
        if key in OFF and value:
            raise UserError(
                f"{side}: {key} is on; only unconditional networks that predict the noise can purify"
            )
    network = {k: values[k] for k in NETWORK if k in values}
    for key in ("attention_resolutions", "channel_mult"):  # 16 and [1, 2] are as good as "16" and "1,2"
        if key in network:
            value = network[key]
            network[key] = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return network, {k: values.get(k, v) for k, v in DIFFUSION.items()}, values.get("max_timestep")
