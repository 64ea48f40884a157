import io
import multiprocessing
import os
import pickle
import time
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from common import checkpoint
from common.cli import UserError


def torch_bytes(value, **kwargs):
    buffer = io.BytesIO()
    torch.save(value, buffer, **kwargs)
    return buffer.getvalue()


WEIGHTS = {"a.weight": torch.linspace(-1, 1, 600).reshape(20, 30), "a.bias": torch.zeros(20)}


def test_training_state_round_trip(tmp_path):
    net = nn.Linear(3, 2)
    adam = torch.optim.Adam(net.parameters(), 0.1)
    net(torch.ones(1, 3)).sum().backward()
    adam.step()
    checkpoint.save_state(
        tmp_path / "last.pt", 7, {"lr": 0.1, "names": ["x"]}, net=net, adam=adam, plain={"n": 3}
    )
    state = checkpoint.load_state(tmp_path / "last.pt")
    assert (state["step"], state["options"], state["parts"]["plain"]) == (
        7,
        {"lr": 0.1, "names": ["x"]},
        {"n": 3},
    )
    assert torch.equal(state["parts"]["net"]["weight"], net.weight)
    torch.optim.Adam(net.parameters()).load_state_dict(state["parts"]["adam"])
    assert os.listdir(tmp_path) == ["last.pt"]


@pytest.mark.parametrize("change", [{"format": 2}, {"format": None}, {"format": "1"}, {"parts": None}])
def test_a_state_of_another_format_is_not_read_as_one_of_this(tmp_path, change):
    path = tmp_path / "last.pt"
    checkpoint.save_state(path, 7, {}, plain={"n": 3})
    state = {**torch.load(path, weights_only=True), **change}
    torch.save({k: v for k, v in state.items() if v is not None}, path)
    with pytest.raises(UserError, match=r"not a training state of this project \(format 1\)"):
        checkpoint.load_state(path)


def test_safetensors_round_trip_with_float16_widened(tmp_path):
    state = {**WEIGHTS, "count": torch.tensor([3])}
    for half in (False, True):
        checkpoint.save_weights(
            tmp_path / "w.safetensors", state, {"kind": "x", "options": {"c": 5}}, half=half
        )
        back, meta = checkpoint.read_weights(tmp_path / "w.safetensors")
        assert meta == {"format": 1, "kind": "x", "options": {"c": 5}}
        assert back["a.weight"].dtype == torch.float32 and back["count"].dtype == torch.int64
        expected = WEIGHTS["a.weight"].half().float() if half else WEIGHTS["a.weight"]
        assert torch.equal(back["a.weight"], expected)
        size = (tmp_path / "w.safetensors").stat().st_size
        assert (size < 2400) == half


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s},
        lambda s: {"module." + k: v for k, v in s.items()},
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_torch_state_dicts_of_others(tmp_path, wrap, legacy):
    (tmp_path / "w.ckpt").write_bytes(
        torch_bytes(
            wrap({k: v.double() for k, v in WEIGHTS.items()}), _use_new_zipfile_serialization=not legacy
        )
    )
    back, meta = checkpoint.read_weights(tmp_path / "w.ckpt")
    assert list(back) == list(WEIGHTS) and meta == {} and back["a.weight"].dtype == torch.float32
    assert torch.allclose(back["a.weight"], WEIGHTS["a.weight"])


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("hostile-code-ran",)


GOOD = torch_bytes(WEIGHTS)
LEGACY = torch_bytes(WEIGHTS, _use_new_zipfile_serialization=False)
DAMAGED = {
    "zip_cut": (GOOD[:-200], "truncated"),
    "zip_cut_early": (GOOD[:40], "truncated"),
    "legacy_cut": (LEGACY[:-9], "truncated"),
    "legacy_cut_early": (LEGACY[:150], "truncated"),
    "empty": (b"", "truncated or not a weight file"),
    "bytes": (bytes(range(200, 256)) * 9, "not a weight file"),
    "html": (b"  <!DOCTYPE html><html><body>Sign in</body></html>", "HTML page"),
    "text": (b"hello world, I am no weights\n", "a text file, not weights (begins 'hello world"),
    "number": (b"12345", "a text file"),
    "json": (b'{"message": "Not Found"}', "a text file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    "module": (torch_bytes(nn.Conv2d(1, 1, 1)), "holds more than tensors"),
    "list": (torch_bytes([torch.ones(2)]), "expected a dict of tensors (a state_dict), found list"),
    "numbers": (torch_bytes({"a": 1, "b": 2}), "found dict of a, b"),
    "no_tensors": (torch_bytes({}), "expected a dict of tensors"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_is_no_weight_file_is_one_line_that_says_what_it_is(tmp_path, name):
    data, expected = DAMAGED[name]
    (tmp_path / "w.pt").write_bytes(data)
    with pytest.raises(UserError) as e:
        checkpoint.read_weights(tmp_path / "w.pt")
    assert expected in str(e.value) and str(tmp_path / "w.pt") in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("protocol", ["torch", 0, 1, 2, 3, 4, 5])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    hostile = {"w": Hostile()}
    Path("w.pt").write_bytes(
        torch_bytes(hostile) if protocol == "torch" else pickle.dumps(hostile, protocol=protocol)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would be a second line
        with pytest.raises(
            UserError, match="a text file, not weights" if protocol == 0 else "holds more than tensors"
        ):
            checkpoint.read_weights("w.pt")
    assert os.listdir(tmp_path) == ["w.pt"]


def test_every_cut_of_a_file_is_refused(tmp_path):
    checkpoint.save_weights(tmp_path / "w.safetensors", WEIGHTS, {"kind": "x"})
    whole = (tmp_path / "w.safetensors").read_bytes()
    for data in (whole, GOOD, LEGACY):
        for end in range(0, len(data) - 1, len(data) // 25):
            (tmp_path / "cut").write_bytes(data[:end])
            with pytest.raises(UserError):
                checkpoint.read_weights(tmp_path / "cut")


def test_damaged_safetensors(tmp_path):
    checkpoint.save_weights(tmp_path / "w", WEIGHTS, {"kind": "x"})
    whole = (tmp_path / "w").read_bytes()
    for data in (whole[:-100], whole.replace(b'{\\"format\\"', b'[\\"format\\"')):
        assert data != whole
        (tmp_path / "w").write_bytes(data)
        with pytest.raises(UserError, match="truncated or damaged safetensors"):
            checkpoint.read_weights(tmp_path / "w")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="no such weight file"):
        checkpoint.read_weights(tmp_path / "none.pt")
    with pytest.raises(UserError, match="is a folder"):
        checkpoint.read_weights(tmp_path)
    with pytest.raises(UserError, match="not a training state"):
        (tmp_path / "w.pt").write_bytes(GOOD)
        checkpoint.load_state(tmp_path / "w.pt")


def test_a_training_state_is_not_taken_for_weights(tmp_path):
    checkpoint.save_state(tmp_path / "last.pt", 1, {}, net=WEIGHTS)
    with pytest.raises(UserError, match="found dict of format, step"):
        checkpoint.read_weights(tmp_path / "last.pt")


def write_for_ever(path, saved):
    torch.set_num_threads(1)
    for step in range(10**6):
        checkpoint.save_state(path, step, {}, net={"w": torch.full((500_000,), float(step))})
        saved.release()


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path, processes = tmp_path / "last.pt", multiprocessing.get_context("fork")
    saved = processes.Semaphore(0)
    writer = processes.Process(target=write_for_ever, args=(path, saved))
    writer.start()
    for _ in range(3):
        assert saved.acquire(timeout=60)
    time.sleep(0.005)
    writer.kill()
    writer.join()
    state = checkpoint.load_state(path)
    assert state["step"] >= 2 and bool((state["parts"]["net"]["w"] == state["step"]).all())


def test_a_writer_killed_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    checkpoint.save_state(path, 1, {}, net=WEIGHTS)
    before = path.read_bytes()

    class Dies(io.FileIO):
        def write(self, data):
            super().write(bytes(data)[:100])
            raise KeyboardInterrupt

    monkeypatch.setattr("builtins.open", lambda name, mode: Dies(name, mode))
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save_state(path, 2, {}, net=WEIGHTS)
    monkeypatch.undo()
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["last.pt"]


def test_metadata_alone(tmp_path):
    path = tmp_path / "w.safetensors"
    checkpoint.save_weights(path, {"a": torch.zeros(3)}, {"kind": "toy"})
    assert checkpoint.read_meta(path) == checkpoint.read_weights(path)[1] == {"format": 1, "kind": "toy"}
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match="truncated or damaged"):
        checkpoint.read_meta(path)
    with pytest.raises(UserError, match="no such weight file"):
        checkpoint.read_meta(tmp_path / "gone.safetensors")
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pt")
    assert checkpoint.read_meta(tmp_path / "w.pt") == {}
