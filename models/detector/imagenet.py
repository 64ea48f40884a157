"""ImageNet weights of a detector's base: where torchvision keeps its own, how files of them are told apart,
and how they are loaded."""

from importlib import import_module
from pathlib import Path

import torch

from common import checkpoint, files, state_dicts
from common.cli import UserError
from models.detector.network import DETECTORS, TORCHVISION, Detector, Trunk, takes_imagenet


def hub_file(name: str) -> tuple[Path, str]:
    """Where torchvision keeps its own ImageNet weights of a network once it has loaded them, and their
    address."""
    weights = import_module("torchvision.models").get_model_weights(name).DEFAULT
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name, weights.url


def find_imagenet_weights(name: str, asked: str | None = None, download: bool = True) -> Path | None:
    """The file of a base's weights: `asked`, or what torchvision has on this machine; None = from scratch.

    Args:    asked  a path, "imagenet" (torchvision's own, loaded from its address if need be and `download`),
                    "none", or None = torchvision's own if it is here
    Raises:  UserError for a detector that has none, and when the address does not answer
    """
    if not takes_imagenet(name) or asked == "none":
        if asked not in (None, "none"):
            raise UserError(
                f"--weights {asked}: there are no ImageNet weights of {name}; leave the flag out, or choose"
                f" one of {', '.join(filter(takes_imagenet, DETECTORS))}"
            )
        return None
    if asked not in (None, "imagenet"):
        return Path(asked)
    path, url = hub_file(name)
    if path.is_file():
        return path
    if asked is None or not download:
        return path if asked else None
    files.make_folder(path.parent)
    try:
        torch.hub.download_url_to_file(
            url, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False
        )
    except (OSError, RuntimeError) as e:
        raise UserError(
            f"--weights imagenet: {url} cannot be loaded ({' '.join(str(e).split())[:80]}); load it elsewhere"
            " and give --weights FILE"
        ) from e
    return path


def _as_of_now(state, wanted):
    """A state_dict as the networks name its parts now. Older files of torchvision lack the counters of batch
    normalisation, of no use here; those of transformers call the layers of a block otherwise."""
    for old, new in ((".mlp.linear_1.", ".mlp.0."), (".mlp.linear_2.", ".mlp.3.")):
        state = {k.replace(old, new): v for k, v in state.items()}
    return {**{k: v for k, v in wanted.items() if k.endswith("num_batches_tracked")}, **state}


def recognise(state: dict, path: Path | str) -> str:
    """The name in TORCHVISION whose ImageNet weights a state_dict holds, with or without their 1,000 classes.
    Raises UserError."""
    for name, (_, classes) in TORCHVISION.items():
        with torch.device("meta"):  # shapes alone
            wanted = Trunk(name).network.state_dict()
        shapes = {k: v.shape for k, v in _as_of_now(state, wanted).items() if not k.startswith(classes)}
        if shapes == {k: v.shape for k, v in wanted.items()}:
            return name
    raise UserError(f"{path}: not torchvision's weights of {', '.join(TORCHVISION)}")


def load_imagenet(detector: Detector, path: Path | str) -> Detector:
    """Put torchvision's ImageNet weights (.pth or safetensors, with or without their 1,000 classes) into a
    detector's base.

    Raises UserError for a file that is missing, damaged, or of another network.
    """
    state, _ = checkpoint.read_weights(path)
    state = {k: v for k, v in state.items() if not k.startswith(TORCHVISION[detector.name][1])}
    wanted = detector.trunk.network.state_dict()
    state = detector.trunk.fitted(_as_of_now(state, wanted))
    if wrong := state_dicts.differing(wanted, state):
        raise UserError(
            f"{path}: not torchvision's weights of {detector.name}: {len(wrong)} tensors differ, first"
            f" {wrong[0]}; give its own file, or --weights none"
        )
    detector.trunk.network.load_state_dict(state)
    return detector
