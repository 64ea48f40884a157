import os

import numpy as np
import pytest
import torch

from attacks import build
from attacks.universal import fitted, load_perturbation, save_perturbation
from common import images
from common.cli import UserError


def ramp(h, w):
    return torch.linspace(-0.2, 0.2, 3 * h * w).reshape(3, h, w)


def test_it_is_the_same_for_all_photos_clipped_to_eps_and_released_on_the_grid(faces):
    x, c = faces(4)
    p = ramp(32, 32)
    x_adv = build("universal", None, 0.05, perturbation=p)(x, c[:, None], None)
    inside = (x + 0.05).le(1) & (x - 0.05).ge(-1)
    levels = ((x_adv - x) * 127.5).round()
    assert torch.equal(levels[inside], (127.5 * p).round().clamp(-6, 6).expand_as(x)[inside])
    assert x_adv.abs().max() <= 1 and torch.equal(images.quantise(x_adv), x_adv)


def test_resize_and_tile():
    p = ramp(4, 4)
    assert torch.equal(fitted(p, 4, 4, "resize"), p)
    tiled = fitted(p, 6, 9, "tile")
    assert (
        tiled.shape == (3, 6, 9)
        and torch.equal(tiled[:, :4, :4], p)
        and torch.equal(tiled[:, 4:, 8:], p[:, :2, :1])
    )
    assert torch.equal(fitted(p, 3, 2, "tile"), p[:, :3, :2])
    larger = fitted(p, 8, 8, "resize")
    assert larger.shape == (3, 8, 8) and larger.min() >= p.min() and larger.max() <= p.max()
    # bilinear, pixel centres: between the first two pixels of a row at a quarter of the way
    assert larger[0, 0, 1] == pytest.approx(float(0.75 * p[0, 0, 0] + 0.25 * p[0, 0, 1]), abs=1e-6)


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 3, 5, 7)])
def test_files_of_both_kinds_and_shapes_load(tmp_path, shape):
    p = torch.rand(shape) * 0.1 - 0.05
    torch.save(p, tmp_path / "p.pt")
    np.save(tmp_path / "p.npy", p.numpy())
    for name in ("p.pt", "p.npy"):
        assert torch.equal(load_perturbation(tmp_path / name), p.reshape(3, 5, 7))
    save_perturbation(tmp_path / "again.pt", p.reshape(3, 5, 7))
    assert torch.equal(load_perturbation(tmp_path / "again.pt"), p.reshape(3, 5, 7))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, 4, 4),
        torch.ones(4, 4),
        torch.ones(2, 3, 4, 4),
        torch.full((3, 4, 4), 8.0),
        torch.full((3, 4, 4), float("nan")),
        torch.ones(3, 4, 4, dtype=torch.int64),
        torch.ones(3, 0, 4),
        {"p": torch.ones(3, 4, 4)},
    ],
)
def test_other_tensors_are_refused_by_name(tmp_path, tensor):
    torch.save(tensor, tmp_path / "p.pt")
    with pytest.raises(UserError, match="p.pt: expected"):
        load_perturbation(tmp_path / "p.pt")


def test_missing_damaged_and_hostile_files_are_refused(tmp_path):
    import pickle

    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01")
    (tmp_path / "page.pt").write_text("<!DOCTYPE html><html>404</html>")
    np.save(tmp_path / "objects.npy", np.array([print], dtype=object), allow_pickle=True)
    np.save(tmp_path / "whole.npy", np.ones((3, 4, 4), np.int32))
    (tmp_path / "code.pt").write_bytes(pickle.dumps(print, protocol=2))
    for name in ("none.npy", "none.pt", "cut.npy", "page.pt", "objects.npy", "whole.npy", "code.pt"):
        with pytest.raises(UserError, match=name):
            load_perturbation(tmp_path / name)


def test_definition_follows_the_values_not_the_file():
    keys = [
        str(build("universal", None, eps, perturbation=p, fit=fit).definition())
        for p, eps, fit in (
            (ramp(4, 4), 0.05, "tile"),
            (ramp(4, 4), 0.05, "tile"),
            (-ramp(4, 4), 0.05, "tile"),
            (ramp(4, 4), 0.05, "resize"),
            (ramp(4, 4), 0.06, "tile"),
        )
    ]
    assert keys[0] == keys[1] and len(set(keys)) == 4


def test_it_needs_a_file():
    with pytest.raises(UserError, match="--perturbation"):
        build("universal", None, 0.05)


def test_files_that_are_not_what_they_claim_are_refused(tmp_path):
    np.savez(tmp_path / "p.npz", p=np.ones((3, 4, 4)))
    (tmp_path / "p.npz").rename(tmp_path / "zip.npy")
    np.save(tmp_path / "short.npy", np.ones((3, 4, 4)))
    header = (tmp_path / "short.npy").read_bytes().replace(b"(3, 4, 4)", b"(3, 400000, 400000)")
    (tmp_path / "short.npy").write_bytes(header)
    torch.save(torch.ones(3, 4, 4).to_sparse(), tmp_path / "sparse.pt")
    torch.save(torch.ones(1).expand(3, 1 << 20, 1 << 20), tmp_path / "huge.pt")
    torch.save(torch.ones(3, 1, 1 << 15), tmp_path / "wide.pt")
    os.mkfifo(tmp_path / "pipe.npy")
    for name in ("zip.npy", "short.npy", "sparse.pt", "huge.pt", "wide.pt", "pipe.npy"):
        with pytest.raises(UserError, match=f"{name}: ") as e:
            load_perturbation(tmp_path / name)
        assert "\n" not in str(e.value)
