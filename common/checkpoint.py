"""Weights and training states: self-describing, written whole or not at all, read as data and never as code.

Training states are one dict of tensors, numbers, strings, lists and dicts. Released weights are safetensors
(float16, widened on load) whose metadata holds what is needed to rebuild the network.
"""

import io
import json
import warnings
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load as load_safetensors_bytes
from safetensors.torch import save as save_safetensors_bytes

from common import filetypes, seeds, state_dicts
from common.cli import UserError
from common.files import write_atomic

FORMAT = 1


class Cut(UserError):
    """A torch file that is not whole."""

    def __init__(self, what: str):
        super().__init__(f"{what}; copy or download it again")
        self.what = what


def save_state(path: Path | str, step: int, options: dict, **parts: object) -> None:
    """Write a training state: `parts` are state_dicts (or objects that have one); `options` holds JSON types
    only."""
    state = {
        "format": FORMAT,
        "step": step,
        "options": options,
        "parts": {k: p.state_dict() if hasattr(p, "state_dict") else p for k, p in parts.items()},
        "streams": seeds.VERSION,
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getbuffer(), durable=True)


def load_state(path: Path | str) -> dict:
    """Read what save_state wrote; "streams", the version of the random streams, is 1 where it says none.

    Raises UserError if the file is missing, damaged or something else; of one that is cut off, it says what
    is lost.
    """
    try:
        state = read_torch(path)
    except Cut as e:
        raise UserError(f"{e.what}; {_lost(Path(path))}") from e
    if not isinstance(state, dict) or state.get("format") != FORMAT or "parts" not in state:
        raise UserError(f"{path}: not a training state of this project (format {FORMAT})")
    for key, kind in (("parts", dict), ("options", dict), ("step", int)):
        if not isinstance(state.get(key), kind):
            raise UserError(
                f"{path}: a damaged training state, its {key} is a {type(state.get(key)).__name__}, expected"
                f" a {kind.__name__}; begin anew without --resume"
            )
    return {"streams": 1, **state}


def _lost(path):
    """What is left of a training whose state is no longer whole."""
    try:
        steps = [json.loads(line)["step"] for line in (path.parent / "log.jsonl").read_text().splitlines()]
    except (OSError, ValueError, KeyError, TypeError):
        steps = []
    reached = f" (its log reaches step {steps[-1]})" if steps else ""
    weights = path.parent / "weights.safetensors"
    further = f", or go on from {weights}" if weights.is_file() else ""
    return f"the training's state is lost{reached}: begin anew without --resume{further}"


def part_of(saved: dict, path: Path | str, *names: str) -> dict[str, torch.Tensor]:
    """The state_dict of the first of `names` that a training's state has a part of: as a rule the moving
    average, then the network itself.  {} without any.

    Args:   saved  what load_state gave of `path`
    Raises: UserError for numbers that are no weights, see state_dicts.checked
    """
    there = [name for name in names if saved["parts"].get(name)]
    if not there:
        return {}
    if len(there) > 1:
        state_dicts.tell_average(path, there[0])
    state = saved["parts"][there[0]]
    if not state_dicts.is_state(state):
        raise UserError(f"{path}: its part {there[0]} is no state_dict; give another training's file")
    return state_dicts.checked(state_dicts.stripped(state), path)


def save_weights(path: Path | str, state_dict: dict, meta: dict, half: bool = False) -> None:
    """Write weights as safetensors; `meta` (JSON types) rebuilds the network. half = float16, for files that
    are released."""
    tensors = {
        k: (v.half() if half and v.is_floating_point() else v).detach().cpu().contiguous()
        for k, v in state_dict.items()
    }
    content = save_safetensors_bytes(tensors, {"meta": json.dumps({"format": FORMAT, **meta})})
    write_atomic(path, content, durable=True)


def read_weights(path: Path | str) -> tuple[dict, dict]:
    """Read any weight file as data: safetensors, or a torch file of tensors and plain containers.

    Keys are those of the bare network; of raw and averaged weights the averaged ones are read, and that is
    said, see state_dicts.

    Returns (state_dict with float32 tensors, all finite; meta dict or {}).
    Raises UserError, one line, for a file that is missing, truncated, something else than weights, or a
    pickle with code in it, and for tensors that are no finite weights.
    """
    path = Path(path)
    if is_safetensors(path):
        data = path.read_bytes()
        with _safetensors(path):
            tensors = load_safetensors_bytes(data)
            meta = json.loads(_header(data).get("__metadata__", {}).get("meta", "{}"))
        return state_dicts.checked(state_dicts.stripped(tensors), path), state_dicts.check_header(meta, path)
    loaded, average = state_dicts.unwrapped(read_torch(path))
    if not state_dicts.is_state(loaded):
        raise UserError(
            f"{path}: expected a dict of tensors (a state_dict), found {type(loaded).__name__}"
            + (" of " + ", ".join(map(str, list(loaded)[:4])) if isinstance(loaded, dict) else "")
        )
    state = state_dicts.checked(state_dicts.stripped(loaded), path)
    state_dicts.tell_average(path, average)
    return state, {}


def read_meta(path: Path | str) -> dict:
    """The metadata of a weight file, {} where it has none, without reading its tensors.

    Raises UserError for a file that is missing or damaged.
    """
    if not is_safetensors(path):
        return {}
    with _safetensors(path), safe_open(path, "pt") as file:
        meta = json.loads((file.metadata() or {}).get("meta", "{}"))
    return state_dicts.check_header(meta, path)


@contextmanager
def _safetensors(path):
    try:
        yield
    except Exception as e:  # the header can be any JSON
        raise UserError(
            f"{path}: truncated or damaged safetensors file ({' '.join(str(e).split())[:100]}); copy it again"
        ) from e


def _header(data):
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def is_safetensors(path: Path | str) -> bool:
    """Whether a file begins as safetensors do.  Raises UserError if it cannot be read."""
    head = filetypes.read_head(path)
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 26


def read_torch(path: Path | str) -> Any:
    """Read any torch file as data: tensors, numbers, strings, lists and dicts, on the CPU.

    Raises UserError, one line, for a file that is missing, truncated, of another type (which is named, with
    what to do about it), or a pickle that holds anything else (classes, functions: such a file can run code
    when it is opened, and is not opened).
    """
    path, head = Path(path), filetypes.read_head(path)
    if not head:
        raise Cut(f"{path}: truncated or not a weight file (0 bytes)")
    filetypes.check_type(path, head)
    if head[:2] == b"PK" and not zipfile.is_zipfile(path):
        raise Cut(f"{path}: truncated (its end is missing)")
    try:
        # about the pickle's version; what matters of it is raised
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # torch raises many kinds for a damaged file
        message = " ".join(str(e).split())
        # 0x80 opens a pickle: the reader knows every opcode that tensors need
        if (
            "GLOBAL" in message
            or "Unsupported class" in message
            or (head[:1] == b"\x80" and "Unsupported operand" in message)
        ):
            raise UserError(
                f"{path}: a pickle that holds more than tensors; it may run code when opened and is refused. "
                "Save its state_dict and give that file"
            ) from e
        if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
            raise UserError(
                f"{path}: a text file, not weights (begins {head[:24].decode()!r}); give the weight file"
                " itself"
            ) from e
        raise Cut(f"{path}: truncated or not a weight file ({type(e).__name__})") from e
