"""What is this file: weights, a training's state, or a perturbation. It is read as data, nothing in it is
ever executed.

reads   one file: our safetensors and last.pt, official StarGAN and StarGAN-v2, guided-diffusion,
        minDiffusion, Inception, a perturbation (.pt, .npy)
writes  nothing

  python -m tools.describe models/stargan/demo.safetensors
  python -m tools.describe results/ddpm/CelebA/train/none-eps0/000/last.pt
"""

import json
from dataclasses import dataclass
from pathlib import Path

from attacks.universal import load_perturbation
from common import checkpoint, cli, files, filetypes, registry, state_dicts
from common.cli import UserError
from common.training import all_finite
from metrics.fid import INCEPTION_SHA
from models.detector.imagenet import recognise
from models.diffusion import build, mindiffusion, official
from models.translators import TRANSLATORS, load_translator
from purify import dae

# of normalisation layers: no parameters
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
USES = {
    **{f"{name}-generator": f"--gan_weights with --gan_type {name}" for name in TRANSLATORS},
    "dadfi": "--attack_weights of --attack_type dadfi",
    "diffusion": "--defense_weights of ddpm, diffpure and one-step-plain",
    "one-step": "--defense_weights of one-step",
    "one-step-robust": "--defense_weights of one-step-robust",
    "dae": "--defense_weights of {name}",
    "classifier": "--classifier_weights",
    "depois-mimic": "--depois_weights of python -m purify.depois",
    "imagenet": "--weights of train_detector.py",
    "detector": "--detector_weights of python -m models.detector",
    "inception": "--inception_weights",
    "perturbation": "--perturbation of --attack_type universal",
}
NOT_USABLE = {
    "stargan-discriminator": "a discriminator: the translator is the G of the pair; a training takes both"
    " from its last.pt (--init_from)"
}
LOADERS = {  # of kinds that are only tried: what loads a file, or refuses it
    "dadfi": "models.dadfi.network:load_perturber",
    "classifier": "models.classifier.network:load_classifier",
    "depois-mimic": "models.depois.network:load_mimic",
    "detector": "models.detector.network:load_detector",
    "inception": "metrics.fid:read_inception",
    "one-step-robust": "purify.one_step:load_robust",
}

KINDS_OF_PURIFIERS = {"ddpm": "diffusion", "one-step": "one-step", "one-step-robust": "one-step-robust"}


@dataclass(frozen=True, kw_only=True)
class Options:
    file: Path
    debug: bool


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="tools.describe", description=__doc__)
    p.add_argument("file", type=Path, metavar="CHECKPOINT", help="the file to look at")
    return cli.resolve(Options, p.parse_args(argv))


def count(state: dict) -> int:
    """Parameters of a state_dict, buffers that belong to no one left out."""
    return sum(v.numel() for k, v in state.items() if not k.endswith(STATISTICS))


def dtypes(path: Path) -> str:
    """Number formats of a safetensors file, as they are stored: "F16", "F16, F32"."""
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    return ", ".join(sorted({t["dtype"] for name, t in header.items() if name != "__metadata__"}))


def describe(path: Path | str) -> dict:
    """JSON dict of what a file is, in the order in which it is printed.

    Keys: file, bytes, sha256, format, kind, family, parameters, weights (which ones are meant, where there
    are raw and averaged ones), then what the file says of options (of the network), flags (of a training),
    attributes, image_size, step, trained_on; used_as (the flag that takes it) or not_usable (why nothing
    here does).
    Raises: UserError, one line, for a file that is missing, damaged, an HTML page or a pickle with code,
            and for weights that are no finite numbers
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, give a file inside it")
    if not path.exists():
        raise UserError(f"{path}: no such file")
    filetypes.check_regular(path)
    with state_dicts.reading(path, "any file that is known here"):
        return _describe(path)


def _describe(path):
    of_file = {"file": str(path), "bytes": path.stat().st_size, "sha256": files.sha256(path)}
    if path.suffix.lower() == ".npy":
        return of_file | {"format": "numpy array"} | _perturbation(path)
    if checkpoint.is_safetensors(path):
        state, meta = checkpoint.read_weights(path)
        return (
            of_file
            | {"format": f"safetensors, {dtypes(path)}"}
            | _weights(path, state, meta, of_file["sha256"])
        )
    content = checkpoint.read_torch(path)
    if not isinstance(content, dict):
        return of_file | {"format": "torch file"} | _perturbation(path)
    if content.get("format") == checkpoint.FORMAT and "parts" in content:
        return of_file | {"format": "torch file, training state"} | _training(path)
    inner, average = state_dicts.unwrapped(content)
    of_file |= {"format": "torch file"} | ({"weights": _averaged(average)} if average else {})
    if isinstance(inner.get("generator"), dict) and "mapping_network" in inner:
        return (
            of_file
            | {
                "kind": "starganv2-generator",
                "family": "StarGAN-v2, official names",
                "holds": ", ".join(map(str, inner)),
            }
            | _usable("starganv2-generator", path, {})
        )
    return of_file | _weights(path, *checkpoint.read_weights(path), of_file["sha256"])


def _averaged(name):
    return f"the averaged ones ({name}), not the raw ones beside them"


def _perturbation(path):
    p = load_perturbation(path)
    largest = float(p.abs().max())
    return {
        "kind": "perturbation",
        "family": "universal perturbation",
        "shape": list(p.shape),
        "largest": f"{largest:.4f} in [-1, 1] units = {largest * 127.5:.2f} grey levels",
        "used_as": USES["perturbation"],
    }


def _training(path):
    """last.pt of one of our trainings."""
    content = checkpoint.load_state(path)
    if not all_finite(content["parts"]):
        raise UserError(
            f"{path}: holds numbers that are not finite (NaN or infinity); begin that training anew"
        )
    parts, options = content["parts"], content["options"]
    name = options.get("defense_model_type")
    kind = _kind_of_training(parts, name)
    network = parts.get("generator") or parts.get("network") or parts.get("critic") or {}
    description = {
        "kind": kind,
        "family": "ours",
        "holds": ", ".join(parts),
        "parameters": count(network),
        "weights": next((_averaged(name) for name in parts if name.endswith("average")), None),
        "flags": {k: v for k, v in options.items() if v not in (None, False, "")},
        "attributes": options.get("selected_attrs"),
        "image_size": options.get("image_size"),
        "step": f"{content['step']} of {options.get('num_steps', '?')}",
        "trained_on": options.get("dataset"),
    }
    continued = "continued by its own command with --resume"
    if kind.endswith("-generator") or kind in ("diffusion", "one-step"):
        return description | _usable(kind, path, network) | {"training": continued}
    return description | {"used_as": continued}


def _kind_of_training(parts, name):
    """name: --defense_model_type of the training, None where it has none."""
    if "ide_x" in parts:
        return "dadfi"
    if "critic" in parts:
        return "depois-mimic"
    if "generator" in parts:
        return (
            "starganv2"
            if "mapping_network" in parts
            else "stgan"
            if "transfer.0.up.weight" in parts["generator"]
            else "stargan"
        ) + "-generator"
    return "classifier" if name is None else KINDS_OF_PURIFIERS.get(name, "dae")


def _weights(path, state, meta, sha256):
    kind, family = _kind(state, meta, sha256)
    name = meta.get("name", "")
    description = {"kind": kind, "family": family, "parameters": count(state)}
    for key, said in (
        ("options", "options"),
        ("attributes", "attributes"),
        ("image_size", "image_size"),
        ("steps", "step"),
        ("trained_on", "trained_on"),
    ):
        if meta.get(key) is not None:
            description[said] = meta[key]
    rest = {
        k: v
        for k, v in meta.items()
        if k not in ("kind", "format", "options", "attributes", "image_size", "steps", "trained_on")
    }
    return description | ({"also": rest} if rest else {}) | _usable(kind, path, state, name)


def _kind(state, meta, sha256):
    """(kind, family) from the metadata, else from the names of the tensors."""
    if meta.get("kind"):
        return meta["kind"], "ours"
    if "main.0.weight" in state:
        return (
            "stargan-discriminator" if "conv1.weight" in state else "stargan-generator"
        ), "StarGAN, official names"
    if official.is_guided(state):
        return "diffusion", "guided-diffusion"
    if mindiffusion.is_mindiffusion(state):
        return "diffusion", "minDiffusion (NaiveUnet)"
    if "features.0.0.weight" in state or "layer1.0.conv1.weight" in state:
        return "imagenet", "torchvision, ImageNet"
    if "Mixed_7c.branch1x1.conv.weight" in state or "Mixed_7c.branch_pool.conv.weight" in state:
        standard = sha256.startswith(INCEPTION_SHA)
        return (
            "inception",
            (
                "Inception 2015-12-05, the standard one of FID"
                if standard
                else "Inception v3, not the standard one of FID"
            ),
        )
    return "unknown", "tensors named " + ", ".join(list(state)[:3]) + (", ..." if len(state) > 3 else "")


def _usable(kind, path, state, name=""):
    """Load it as its user would; what the network itself says goes first."""
    if kind not in USES:
        return {"not_usable": NOT_USABLE.get(kind, "no command of this project takes these weights")}
    try:
        if kind in LOADERS:
            registry.load(LOADERS[kind])(path)
        elif kind == "dae":
            dae.load(path, name)
        elif kind == "imagenet":
            return {"used_as": USES[kind], "network": recognise(state, path)}
        elif kind in ("diffusion", "one-step"):
            return _denoiser(path)
        else:
            return _translator(path, kind)
    except UserError as e:
        return {"not_usable": str(e)}
    return {"used_as": USES[kind].format(name=name)}


def _translator(path, kind):
    translator = load_translator(path, gan_type=kind.removesuffix("-generator"))
    return {
        "options": translator.options,
        "parameters": sum(p.numel() for p in translator.parameters()),
        "used_as": USES[kind],
    }


def _denoiser(path):
    denoiser = build.load(path)
    return {
        "options": denoiser.meta.get("options")
        or {"n_feat": denoiser.network.init_conv.main[0].weight.shape[0]},
        "parameters": sum(p.numel() for p in denoiser.network.parameters()),
        "image_size": denoiser.image_size,
        "max_timestep": denoiser.max_timestep,
        "used_as": USES[denoiser.kind],
    }


def text(description: dict) -> str:
    """The description as lines `key  value`."""
    lines = []
    for key, value in description.items():
        if value is None or value == {}:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items() if v is not None)
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        elif isinstance(value, int):
            value = f"{value:,}"
        lines.append(f"{key.replace('_', ' '):14s}{value}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    print(text(describe(parse_args(argv).file)))


if __name__ == "__main__":
    cli.run(main)
