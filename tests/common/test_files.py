import hashlib
import os

import pytest

from common import files
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
