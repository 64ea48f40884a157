import gzip
import io
import json
import os
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from common import checkpoint
from common.cli import UserError


def torch_bytes(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def tar_bytes(names, **options):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, **options) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
    return buffer.getvalue()


def zip_bytes(files, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def npz_bytes():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


def npy_bytes():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


GOOD = torch_bytes({"a": torch.zeros(3)})
TAR = {"mode": "w"}
TABLE = b"\0" * 100 + bytes.fromhex("db4775248b80fb57")
FILES = {
    "legacy": (
        "w.pth",
        tar_bytes(["sys_info", "pickle", "tensors", "storages"], **TAR),
        "first PyTorch versions",
    ),
    "tar": ("w.pth", tar_bytes(["w.pth"], **TAR), "a tar archive; unpack it"),
    "old tar": (
        "w.pth",
        tar_bytes(["w.pth"], mode="w", format=tarfile.GNU_FORMAT),
        "a tar archive; unpack it",
    ),
    "tar.gz": ("w.pth", tar_bytes(["w.pth"], mode="w:gz"), "a gzip archive; unpack it"),
    "gzip": ("w.pth", gzip.compress(GOOD), "a gzip archive; unpack it"),
    "zip": ("w.pth", zip_bytes({"w.pth": GOOD}), "a zip archive .of w.pth.; unpack it"),
    "npz": ("w.npz", npz_bytes(), "NumPy arrays .*not a PyTorch file"),
    "npy": ("w.pt", npy_bytes(), "a NumPy array; not a PyTorch file"),
    "h5": ("w.pth", b"\x89HDF\r\n\x1a\n" + b"\0" * 600, "an HDF5 file .Keras.; not a PyTorch file"),
    "index": ("w.ckpt", TABLE, "the index of a TensorFlow checkpoint; not a PyTorch file"),
    "data": ("w.ckpt.data-00000-of-00001", b"\0" * 99, "a TensorFlow checkpoint's data; not a PyTorch file"),
    "list": ("checkpoint", b'model_checkpoint_path: "m"', "the list of a TensorFlow training's files"),
    "pb": ("m.pb", b"\x08\x01\x12", "a TensorFlow graph; not a PyTorch file"),
    "onnx": ("m.onnx", b"\x08\x01\x12", "an ONNX model; not a PyTorch file"),
    "script": ("m.pt", zip_bytes({"m/data.pkl": b"", "m/constants.pkl": b""}), "a TorchScript archive"),
    "picture": ("w.pth", b"\x89PNG\r\n", "a picture; give the weight file"),
    "bomb": (
        "w.pt",
        zip_bytes({"w/data.pkl": b"", "w/data/0": bytes(1 << 24)}, zipfile.ZIP_DEFLATED),
        "unpacks to",
    ),
    "empty": ("w.pt", b"", "0 bytes.; copy or download it again"),
    "cut": ("w.pt", GOOD[:-100], "truncated .its end is missing.; copy or download it again"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_another_type_is_named_with_the_remedy_that_fits(tmp_path, kind):
    name, data, words = FILES[kind]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=words) as e:
        checkpoint.read_weights(tmp_path / name)
    assert str(e.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(e.value)
    assert ("download it again" in str(e.value)) == (kind in ("empty", "cut"))


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "loop.pt").symlink_to(tmp_path / "loop.pt")
    for name, words in (
        ("pipe.pt", "a pipe or a device"),
        ("loop.pt", "cannot be read"),
        ("n" * 300, "cannot"),
    ):
        for read in (checkpoint.read_weights, checkpoint.read_meta, checkpoint.load_state):
            with pytest.raises(UserError, match=words):
                read(tmp_path / name)
    with pytest.raises(UserError, match="a pipe or a device"):
        checkpoint.read_weights("/dev/zero")


@pytest.mark.parametrize("end", [0, 1000, -100])
def test_a_training_state_that_is_cut_says_what_is_lost(tmp_path, end):
    checkpoint.save_state(tmp_path / "last.pt", 20, {}, net={"a": torch.zeros(999)})
    data = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(data[:end] if end else b"")
    with pytest.raises(UserError, match="state is lost: begin anew without --resume$"):
        checkpoint.load_state(tmp_path / "last.pt")
    lines = [json.dumps({"step": step}) + "\n" for step in (10, 20)]
    (tmp_path / "log.jsonl").write_text("".join(lines))
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"its log reaches step 20.: begin anew .*, or go on from .*weights"):
        checkpoint.load_state(tmp_path / "last.pt")


@pytest.mark.parametrize("change", [{"options": None}, {"parts": []}, {"step": "7"}])
def test_a_training_state_that_lacks_a_part_is_refused(tmp_path, change):
    whole = {"format": 1, "step": 1, "options": {}, "parts": {}}
    torch.save(whole | change, tmp_path / "last.pt")
    with pytest.raises(UserError, match=f"its {next(iter(change))} is a "):
        checkpoint.load_state(tmp_path / "last.pt")


@pytest.mark.parametrize("name", ["w.pth.tar", "w.index", "w.pb", "w"])
def test_weights_are_weights_whatever_their_name(tmp_path, name):
    for new in (True, False):
        torch.save({"a": torch.ones(3)}, tmp_path / name, _use_new_zipfile_serialization=new)
        assert torch.equal(checkpoint.read_weights(tmp_path / name)[0]["a"], torch.ones(3))
