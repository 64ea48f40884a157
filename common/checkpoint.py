"""Weights and training states: self-describing, written whole or not at all, read as data and never as code.

Training states are one dict of tensors, numbers, strings, lists and dicts. Released weights are safetensors
(float16, widened on load) whose metadata holds what is needed to rebuild the network.
"""

import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_safetensors_bytes
from safetensors.torch import save as save_safetensors_bytes

from common import seeds
from common.cli import UserError
from common.files import write_atomic

FORMAT = 1


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

    Raises UserError if the file is missing, damaged or something else.
    """
    state = read_torch(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT or "parts" not in state:
        raise UserError(f"{path}: not a training state of this project (format {FORMAT})")
    return {"streams": 1, **state}


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

    Returns (state_dict with float32 tensors, meta dict or {}).
    Raises UserError, one line, for a file that is missing, truncated, an HTML page, or a pickle with code in
    it.
    """
    path = Path(path)
    if is_safetensors(path):
        data = path.read_bytes()
        try:
            tensors = load_safetensors_bytes(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            meta = json.loads(header.get("__metadata__", {}).get("meta", "{}"))
        except Exception as e:
            raise UserError(
                f"{path}: truncated or damaged safetensors file ({' '.join(str(e).split())[:100]}); copy it"
                " again"
            ) from e
        return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, meta
    loaded, meta = read_torch(path), {}
    if isinstance(loaded, dict):
        for key in ("state_dict", "model"):
            if isinstance(loaded.get(key), dict):
                loaded = loaded[key]
                break
    if not isinstance(loaded, dict) or not loaded or not all(torch.is_tensor(v) for v in loaded.values()):
        raise UserError(
            f"{path}: expected a dict of tensors (a state_dict), found {type(loaded).__name__}"
            + (" of " + ", ".join(map(str, list(loaded)[:4])) if isinstance(loaded, dict) else "")
        )
    return {
        k.removeprefix("module."): v.float() if v.is_floating_point() else v for k, v in loaded.items()
    }, meta


def read_meta(path: Path | str) -> dict:
    """The metadata of a weight file, {} where it has none, without reading its tensors.

    Raises UserError for a file that is missing or damaged.
    """
    if not is_safetensors(path):
        return {}
    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {}).get("meta", "{}"))
    except (SafetensorError, ValueError) as e:
        raise UserError(
            f"{path}: truncated or damaged safetensors file ({' '.join(str(e).split())[:100]}); copy it again"
        ) from e


def is_safetensors(path: Path | str) -> bool:
    """Whether a file begins as safetensors do.  Raises UserError if it cannot be read."""
    head = _head(path)
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 26


def _head(path):
    try:
        with open(path, "rb") as f:
            return f.read(64)
    except FileNotFoundError:
        raise UserError(f"{path}: no such weight file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, expected a weight file") from None
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from e


def read_torch(path: Path | str) -> Any:
    """Read any torch file as data: tensors, numbers, strings, lists and dicts, on the CPU.

    Raises UserError, one line, for a file that is missing, truncated, text, an HTML page, or a pickle that
    holds anything else (classes, functions: such a file can run code when it is opened, and is not opened).
    """
    path, head = Path(path), _head(path)
    if head.lstrip()[:1] == b"<":
        raise UserError(
            f"{path}: this is an HTML page, not weights (a download page saved under this name); download it"
            " again"
        )
    if head.startswith(b"version https://git-lfs"):
        raise UserError(
            f"{path}: this is a git-lfs pointer, not the weights it points to; fetch them with `git lfs pull`"
        )
    if head[:2] == b"PK" and not zipfile.is_zipfile(path):
        raise UserError(f"{path}: truncated (its end is missing); copy or download it again")
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
        if head and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
            raise UserError(
                f"{path}: a text file, not weights (begins {head[:24].decode()!r}); give the weight file"
                " itself"
            ) from e
        raise UserError(
            f"{path}: truncated or not a weight file ({type(e).__name__}); copy or download it again"
        ) from e
