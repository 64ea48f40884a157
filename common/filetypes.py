"""Files that are given for weights and are something else: told by their first bytes, with what to do about
each."""

import os
import stat
import tarfile
import zipfile
from pathlib import Path

from common.errors import UserError

HEAD = 512  # bytes: as far as the mark of a tar archive
UNPACK = "unpack it and give the weight file that is inside"
OTHER = "not a PyTorch file; convert it to a state_dict of PyTorch or to safetensors"
MARKS = {  # first bytes -> what that is, what to do
    b"\x1f\x8b": ("a gzip archive", f"{UNPACK} (tar xzf, or gunzip)"),
    b"BZh": ("a bzip2 archive", UNPACK),
    b"\xfd7zXZ\0": ("an xz archive", UNPACK),
    b"\x28\xb5\x2f\xfd": ("a zstd archive", UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", UNPACK),
    b"Rar!": ("a rar archive", UNPACK),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file (Keras)", OTHER),
    b"\x93NUMPY": ("a NumPy array", OTHER),
    b"GGUF": ("a GGUF file", OTHER),
    b"\x89PNG": ("a picture", "give the weight file"),
    b"\xff\xd8\xff": ("a picture", "give the weight file"),
    b"%PDF": ("a PDF document", "give the weight file"),
    b"model_checkpoint_path:": ("the list of a TensorFlow training's files", OTHER),
}
SUFFIXES = {  # of formats without a mark
    ".pb": "a TensorFlow graph",
    ".meta": "a TensorFlow graph",
    ".index": "the index of a TensorFlow checkpoint",
    ".data-00000-of-00001": "a TensorFlow checkpoint's data",
    ".tflite": "a TensorFlow Lite model",
    ".onnx": "an ONNX model",
    ".msgpack": "a Flax checkpoint",
}
TABLE = bytes.fromhex("57fb808b247547db")[::-1]  # ends a TensorFlow index, a LevelDB table
LEGACY = {"pickle", "storages", "tensors"}  # in the tar that the first PyTorch versions wrote
BOMB = 8  # times its size that an archive may unpack to: torch.save does not compress


def check_regular(path: Path | str) -> None:
    """Raises UserError unless `path` is a file that can be read from its beginning to an end: no folder, no
    pipe, no device."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise UserError(f"{path}: no such weight file") from None
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read ({getattr(e, 'strerror', None) or e})") from e
    if stat.S_ISDIR(mode):
        raise UserError(f"{path}: is a folder, expected a weight file")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: is a pipe or a device, expected a weight file")


def read_head(path: Path | str) -> bytes:
    """The first HEAD bytes.  Raises UserError as check_regular, and for a file that cannot be read."""
    check_regular(path)
    try:
        with open(path, "rb") as f:
            return f.read(HEAD)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from e


def check_type(path: Path | str, head: bytes) -> None:
    """Raises UserError, with the remedy that fits, for a file that is known to be no weights of PyTorch.

    head: what read_head gave; a file of safetensors is none of these
    """
    if head.lstrip()[:1] == b"<":
        _refuse(
            path, "an HTML page, not weights (a download page saved under this name)", "download it again"
        )
    if head.startswith(b"version https://git-lfs"):
        _refuse(path, "a git-lfs pointer, not the weights it points to", "fetch them with `git lfs pull`")
    for mark, (what, remedy) in MARKS.items():
        if head.startswith(mark):
            _refuse(path, what, remedy)
    if head[4:8] == b"TFL3":
        _refuse(path, SUFFIXES[".tflite"], OTHER)
    torch_like = head[:2] == b"PK" or head[:1] == b"\x80"  # a zip, a pickle: whatever its name
    for suffix, what in () if torch_like else SUFFIXES.items():
        if str(path).lower().endswith(suffix) or (suffix == ".index" and _end(path) == TABLE):
            _refuse(path, what, OTHER)
    if head[257:262] == b"ustar" or _is_old_tar(head):
        _check_tar(path)
    if head[:2] == b"PK" and zipfile.is_zipfile(path):
        _check_zip(path)


def _refuse(path, what, remedy):
    raise UserError(f"{path}: this is {what}; {remedy}")


def _end(path):
    with open(path, "rb") as f:
        f.seek(max(0, os.path.getsize(path) - len(TABLE)))
        return f.read()


def _is_old_tar(head):
    """Whether a block has the check sum of a tar's header, which archives before `ustar` have too."""
    try:
        return len(head) == HEAD and sum(head[:148] + b" " * 8 + head[156:]) == int(
            head[148:156].strip(b"\0 "), 8
        )
    except ValueError:
        return False


def _check_tar(path):
    try:
        with tarfile.open(path) as archive:
            names = {name.removeprefix("./") for name in archive.getnames()}
    except (tarfile.TarError, OSError):
        names = set()
    if LEGACY & names:
        _refuse(
            path,
            "a checkpoint in the tar format of the first PyTorch versions, which is not read as data alone",
            "if you trust it, load it there with torch.load(FILE, weights_only=False) and save its state_dict"
            " again with torch.save",
        )
    _refuse(path, "a tar archive", f"{UNPACK} (tar xf)")


def _check_zip(path):
    """Of a zip: one of torch.save's passes that does not unpack to many times its size."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # damaged: reading it says so
    names = [e.filename for e in entries]
    if any(name.endswith("constants.pkl") for name in names):
        _refuse(path, "a TorchScript archive, code and weights", "save its state_dict with torch.save")
    if any(name.endswith("data.pkl") for name in names):
        size, unpacked = os.path.getsize(path), sum(e.file_size for e in entries)
        if unpacked > max(BOMB * size, 1 << 20):
            _refuse(
                path,
                f"a compressed archive that unpacks to {unpacked:,} bytes, {unpacked // size} times its size",
                "save it again with torch.save, which does not compress",
            )
        return
    if names and all(name.endswith(".npy") for name in names):
        _refuse(path, "a file of NumPy arrays (.npz)", OTHER)
    if any(name.endswith((".weights.h5", "config.json")) for name in names) and str(path).endswith(".keras"):
        _refuse(path, "a Keras model", OTHER)
    _refuse(path, f"a zip archive (of {names[0] if names else 'nothing'})", UNPACK)
