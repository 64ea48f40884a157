import hashlib
import os

import numpy as np
import pytest
import torch

from common import checkpoint, files, images
from common.cli import UserError


def test_write_atomic_text_and_bytes(tmp_path):
    files.write_atomic(tmp_path / "a", "é")
    files.write_atomic(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"second" and os.listdir(tmp_path) == ["a"]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, {"b": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError):
        files.write_atomic(path, "half")
    assert path.read_text() == '{\n  "b": 1\n}\n' and os.listdir(tmp_path) == ["a.json"]


def test_a_durable_file_reaches_the_disk_before_its_name_does(tmp_path, monkeypatch):
    done, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda n: (done.append(os.readlink(f"/proc/self/fd/{n}")), sync(n)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("renamed"), replace(a, b)))
    files.write_atomic(tmp_path / "a", "x", durable=True)
    file, renamed, folder = done
    assert ".a." in file and renamed == "renamed" and folder == str(tmp_path)
    files.write_atomic(tmp_path / "a", "y")
    assert done[3:] == ["renamed"]


@pytest.mark.parametrize("write", [files.write_atomic, files.append])
def test_a_full_disk_names_the_file(write):
    with pytest.raises(OSError) as e:
        with files.naming("out/a.txt"):
            raise OSError(28, "No space left on device")
    assert e.value.filename == "out/a.txt" and e.value.errno == 28
    with pytest.raises(OSError) as e:
        write("/dev/null/a", "x")
    assert e.value.filename == "/dev/null/a"


def test_a_file_may_be_kept_under_a_second_name(tmp_path, monkeypatch):
    first, kept = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    files.keep_as(first, kept)
    assert first.read_text() == kept.read_text() == "1"
    files.write_atomic(first, "2")
    files.keep_as(first, kept)
    assert kept.read_text() == "2"
    files.write_atomic(first, "3")

    def none(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    files.keep_as(first, kept)
    assert kept.read_text() == "3" and os.listdir(tmp_path) == ["b"]


def whole_files(folder):
    images.save_png(folder / "a.png", np.zeros((4, 5, 3), np.uint8), {"x": 1})
    files.write_json(folder / "a.json", {"x": [1, 2]})
    checkpoint.save_weights(
        folder / "a.safetensors", {"w": torch.ones(3), "v": torch.ones(2, 2)}, {"kind": "x"}
    )
    files.write_atomic(folder / "a.csv", "name\n")
    return sorted(folder.iterdir())


def test_what_a_power_cut_leaves_is_not_whole(tmp_path):
    assert not files.is_whole(tmp_path / "none") and not files.is_whole(tmp_path)
    for path in whole_files(tmp_path):
        data = path.read_bytes()
        assert files.is_whole(path), path
        damages = [b"", b"\0" * len(data), data[: len(data) // 2], data[:7]]
        for damage in damages[: 2 if path.suffix == ".csv" else None]:
            path.write_bytes(damage)
            assert not files.is_whole(path), (path, damage)


def test_json_holds_no_nan(tmp_path):
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not os.listdir(tmp_path)


def test_sha256_of_a_file_longer_than_a_block(tmp_path):
    data = os.urandom((1 << 20) + 17)
    (tmp_path / "a").write_bytes(data)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_keys_ignore_the_order_of_a_dict_but_nothing_else():
    assert files.key_of({"a": 1, "b": [1, 2]}) == files.key_of({"b": [1, 2], "a": 1})
    assert len({files.key_of(v) for v in ({"a": 1}, {"a": 2}, {"a": [1, 2]}, {"a": [2, 1]}, {"b": 1})}) == 5
    assert files.key_of({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


def test_make_folder(tmp_path):
    assert files.make_folder(tmp_path / "a" / "b").is_dir()
    files.make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="file"):
            files.make_folder(path)


def test_check_writable(tmp_path, monkeypatch):
    files.check_writable(tmp_path / "not" / "there" / "yet")
    assert not os.listdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        files.check_writable(tmp_path / "file" / "below")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(UserError, match="cannot be written"):
        files.check_writable(tmp_path)


def test_litter_is_what_nobody_can_still_rename(tmp_path):
    """Of this machine's ended processes, and what is older than a day; other files are nobody's business."""
    old, new = f".a.png.elsewhere.{2**22 + 1}.tmp", f".b.png.elsewhere.{2**22 + 1}.tmp"
    dead, mine = f".c.png.{files.HOST}.{2**22 + 1}.tmp", files.temporary_name(tmp_path / "d").name
    other = (".tmp", "x.tmp", f"c.{files.HOST}.{2**22 + 1}.tmp", f".c.{files.HOST}.x.tmp", ".hidden")
    for name in (old, new, dead, mine, *other):
        (tmp_path / name).write_text("")
    os.utime(tmp_path / old, (0, 0))
    os.utime(tmp_path / other[0], (0, 0))
    files.sweep(tmp_path)
    assert set(os.listdir(tmp_path)) == {new, mine, *other}
    files.sweep(tmp_path / "none")
