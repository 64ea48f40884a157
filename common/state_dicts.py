"""Dicts of tensors as others write them: which of several they mean, their keys without wrappers, their
numbers looked through, and networks rebuilt from them."""

import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from common.errors import RunError, UserError

T = TypeVar("T", bound=nn.Module)
# what a file calls the dict of its weights, and that of their moving average
RAW = ("state_dict", "model", "model_state_dict", "params", "network", "net", "weights")
AVERAGED = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema_model",
    "ema_model_state_dict",
    "params_ema",
    "ema",
    "average",
    "averaged",
)
LARGEST = 1 << 16  # of a whole number that a file says of its network
SIZES = {"image_size": 1 << 12, "diffusion_steps": 100_000}  # largest of those that no tensor shows
REPEATED = ("blocks", "repeat", "layers", "downs")  # options that count what has tensors of its own
HEADER = {  # what the metadata of our weights may say, by its type
    "kind": str,
    "name": str,
    "options": dict,
    "attributes": list,
    "classes": list,
    "image_size": int,
    "max_timestep": int,
    "steps": int,
    "attack": str,
    "eps": int | float,
    "sha256": str,
    "gan_sha256": str,
    "trained_on": str,
    "backdoor": dict,
    "victims": list,
}


def unwrapped(content: Any) -> tuple[Any, str | None]:
    """What a training's file holds around its weights, taken off: {model}, {state_dict, state_dict_ema}, ...

    Where there are raw and averaged weights, the averaged ones are meant; what only the raw ones have (the
    counters of a normalisation) is theirs.
    Returns: (the innermost dict, or `content` itself;  the key of an average that was chosen, or None)
    """
    told = None
    while isinstance(content, dict) and not is_state(content):
        raw = next((content[k] for k in RAW if isinstance(content.get(k), dict)), None)
        name = next((k for k in AVERAGED if is_state(unwrapped(content.get(k))[0])), None)
        if name is not None:
            content, told, raw = unwrapped(content[name])[0], name, unwrapped(raw)[0]
            content, raw = stripped(content), stripped(raw) if is_state(raw) else {}
            return (raw | content if set(content) < set(raw) else content), told
        if raw is None:
            break
        content = raw
    return content, told


def is_state(value: Any) -> bool:
    """Whether this is a dict of tensors."""
    return isinstance(value, dict) and bool(value) and all(torch.is_tensor(v) for v in value.values())


def stripped(state: dict) -> dict:
    """A state_dict with the keys of the bare network: what torch.compile, DataParallel, AveragedModel and a
    trainer's class around it add goes.  A key that two tensors would then have stays as it is."""
    plain = {_bare(str(k)): v for k, v in state.items() if _bare(str(k)) != "n_averaged"}
    if plain and all(k.startswith("model.") for k in plain):
        plain = {k.removeprefix("model."): v for k, v in plain.items()}
    whole = len(plain) == sum(_bare(str(k)) != "n_averaged" for k in state)
    return plain if whole else state


def _bare(key):
    key, before = re.sub(r"(^|\.)_orig_mod(?=\.)", "", key).removeprefix("."), None
    while key != before:
        key, before = key.removeprefix("module."), key
    return key


def tell_average(path: Path | str, name: str | None) -> None:
    """Say once that of a file with raw and averaged weights the averaged ones are used; name None: it has
    none."""
    first = not (distributed.is_available() and distributed.is_initialized() and distributed.get_rank())
    if name is not None and first:
        _tell(f"{path}: holds raw and averaged weights, the averaged ones ({name}) are used")


@cache
def _tell(line):
    print(line, file=sys.stderr, flush=True)


def checked(state: dict[str, torch.Tensor], path: Path | str) -> dict[str, torch.Tensor]:
    """The state_dict in float32, every number of it looked at.

    Raises: UserError for a value that is not finite, for whole or logical numbers in place of weights (the
            counters of normalisations alone are whole), and for sparse tensors and others that are more than
            what the file stores of them
    """
    for name, value in state.items():
        counts = value.dtype == torch.int64 and value.numel() <= 1
        if not (value.is_floating_point() or counts) or value.is_quantized:
            raise UserError(
                f"{path}: {name} holds {str(value.dtype).removeprefix('torch.')} numbers, expected floats;"
                " give the weights before they were quantised or converted"
            )
        check_stored(value, f"{path}: {name}")
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    for name, value in state.items():
        if value.is_floating_point() and not is_finite(value):
            bad = int((~value.isfinite()).sum())
            raise UserError(
                f"{path}: {bad} of {value.numel()} values of {name} are not finite (NaN or infinity); the"
                " file is damaged, or its training went astray: copy it again or give an earlier one"
            )
    return state


def check_stored(value: torch.Tensor, where: str) -> None:
    """Raises UserError for a tensor that is not dense or larger than what is stored of it."""
    if value.layout != torch.strided or value.is_meta:
        raise UserError(f"{where} is no dense tensor ({value.layout}); save it as one (.to_dense())")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise UserError(
            f"{where} claims {value.numel():,} values, and fewer are stored; save it anew (.contiguous())"
        )


def is_finite(value: torch.Tensor) -> bool:
    """Whether a dense floating-point tensor is free of NaN and infinity, in one pass and without a copy."""
    return not value.numel() or all(map(math.isfinite, map(float, value.detach().aminmax())))


def check_header(meta: Any, path: Path | str) -> dict:
    """The metadata of a weight file if it is a dict whose values have the types that loaders count on.
    Raises UserError."""
    if not isinstance(meta, dict):
        raise UserError(f"{path}: its metadata is a {type(meta).__name__}, expected a dict; copy it again")
    for key, kind in HEADER.items():
        value = meta.get(key)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise UserError(
                f"{path}: its metadata says {key} {str(value)[:40]!r}, expected a"
                f" {getattr(kind, '__name__', 'number')}; copy it again, or train it again"
            )
    for key in ("attributes", "classes"):
        if not all(isinstance(name, str) for name in meta.get(key) or ()):
            raise UserError(f"{path}: its metadata says {key} that are no names; copy it again")
    check_options(meta, {}, path)
    return meta


def check_options(options: dict, state: dict, path: Path | str) -> None:
    """Raises UserError for sizes that a network of these tensors cannot have, before anything is built by
    them.  state {} = those alone that no tensor shows."""
    for key, value in options.items():
        if not state and key not in SIZES:
            continue
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, bool) or not isinstance(number, int | float):
                if isinstance(number, str) and len(number) > 200:
                    raise UserError(f"{path}: its option {key} is {len(number)} letters long; copy it again")
                continue
            counts = any(word in key for word in REPEATED)
            least = 1 if key in SIZES else -math.inf
            most = SIZES.get(key, len(state) if counts else LARGEST)
            if not (math.isfinite(number) and least <= number <= most):
                raise UserError(
                    f"{path}: says {key} {number}, which its tensors cannot have (at most {most:g}); the file"
                    " is damaged: copy it again"
                )


@contextmanager
def reading(path: Path | str, what: str) -> Iterator[None]:
    """What a loader of `what` stumbles over inside (a key that lacks, a shape, a type) becomes a UserError
    that names the file; so does one that speaks of a flag which the file's header stands for."""
    try:
        yield
    except UserError as e:
        if str(Path(path)) in str(e):
            raise
        raise UserError(f"{path}: {e}") from e
    except (RunError, OSError, MemoryError):
        raise
    except Exception as e:  # a damaged header can break whatever reads it
        if "out of memory" in str(e).lower():
            raise
        raise UserError(
            f"{path}: its content and its header do not fit {what} ({type(e).__name__}:"
            f" {' '.join(str(e).split())[:100]}); copy it again, or train it again"
        ) from e


def differing(wanted: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that one of two state_dicts lacks, else of those of another shape."""
    return sorted(set(wanted) ^ set(state)) or [k for k in wanted if wanted[k].shape != state[k].shape]


def rebuilt(
    make: Callable[..., T], options: dict, state: dict[str, torch.Tensor], path: Path | str, what: str
) -> T:
    """make(**options) with the weights of `state`, which are compared with it before it takes any memory.
    Raises UserError."""
    with reading(path, what):
        check_options(options, state, path)
        try:
            # torch warns of sizes that are about to be refused
            with warnings.catch_warnings(action="ignore"), torch.device("meta"):
                wrong = differing(make(**options).state_dict(), state)
        except UserError as e:
            raise ValueError(str(e)) from e  # speaks of a flag that nobody gave
        if wrong:
            raise ValueError(f"{len(wrong)} tensors differ, first {wrong[0]}")
        network = make(**options)
        network.load_state_dict(state)
    return network
