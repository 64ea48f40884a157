"""python -m models.detector: any folder of faces."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from common import checkpoint, images
from common.cli import UserError
from models.detector import pictures
from models.detector.__main__ import main
from models.detector.network import Detector, load_detector

# width, height
SIZES = {
    "one.png": (40, 28),
    "two.jpg": (28, 40),
    "three.bmp": (16, 16),
    "four.webp": (50, 64),
    "one.jpg": (32, 32),
}


@pytest.fixture
def weights(tmp_path):
    """A detector of 32-pixel photos that tells bright from dark ones apart: the first channel of its network
    is their mean."""
    net = Detector("meso4", 32)
    state = {
        k: torch.zeros_like(v) if k.endswith(("weight", "bias")) else v for k, v in net.state_dict().items()
    }
    for k in (0, 4, 8, 12):
        state[f"trunk.body.{k}.weight"][0, 0, 2 if k else 1, 2 if k else 1] = 1
        state[f"trunk.body.{k + 2}.weight"][0] = 1
    state["trunk.body.0.weight"][0, :, 1, 1] = 1 / 3
    # grey levels from 0 to 2, so that ReLU lets them through
    state["trunk.body.0.bias"][0] = 1
    state["head.1.weight"][0, 0], state["head.4.weight"][1, 0], state["head.4.bias"][1] = 1, 4, -4
    net.load_state_dict(state)
    return save(tmp_path / "d.safetensors", net)


def save(path, net, **meta):
    checkpoint.save_weights(
        path,
        net.state_dict(),
        {"kind": "detector", "options": net.options, "condition": "clean", "trained_on": "toy", **meta},
    )
    return path


@pytest.fixture
def photos(tmp_path, faces):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, (name, (w, h)) in enumerate(SIZES.items()):
        picture = images.to_uint8(faces(1, 64, seed=i)[0])[0, :h, :w] // 3
        Image.fromarray(picture + np.uint8(0 if i % 2 else 150)).save(folder / name)
    return folder


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr("models.detector.__main__.save_pictures", lambda *words: None)


def run(photos, weights, *words, out="out"):
    folder = photos.parent / out
    main(
        [
            "--input",
            str(photos),
            "--output",
            str(folder),
            "--detector_weights",
            str(weights),
            "--device",
            "cpu",
            "--num_workers",
            "1",
            *map(str, words),
        ]
    )
    return folder


def rows(folder):
    return [
        (r["name"], float(r["probability_fake"]), r["verdict"])
        for r in csv.DictReader((folder / "scores.csv").open(newline=""))
    ]


def test_every_photo_is_scored_and_the_pictures_show_the_ends(photos, weights, monkeypatch, capsys):
    shown, grid = [], pictures.score_grid

    def noted(x, names, p):
        shown.append((names, p, images.to_uint8(x)))
        return grid(x, names, p)

    monkeypatch.setattr(pictures, "score_grid", noted)
    folder = run(photos, weights)
    found = rows(folder)
    assert (folder / "scores.csv").read_text().startswith("name,probability_fake,verdict\n")
    # two photos of one stem are two rows
    assert [name for name, _, _ in found] == sorted(SIZES)
    net = load_detector(weights)
    for name, p, verdict in found:
        whole = images.read_rgb(photos / name)
        side = min(whole.size)
        left, top = round((whole.width - side) / 2), round((whole.height - side) / 2)
        square = whole.crop((left, top, left + side, top + side)).resize((32, 32), Image.BILINEAR)
        with torch.no_grad():
            assert p == pytest.approx(
                float(net(images.to_float(np.asarray(square))[None]).softmax(1)[0, 1]), abs=2e-6
            )
        assert 0 <= p <= 1 and verdict == ("fake" if p >= 0.5 else "real")
    assert {verdict for _, _, verdict in found} == {"real", "fake"}
    by_p = [name for name, _, _ in sorted(found, key=lambda row: row[1])]
    assert [names for names, _, _ in shown] == [by_p[::-1], by_p]
    for names, p, x in shown:
        assert p.tolist() == pytest.approx([dict((n, v) for n, v, _ in found)[n] for n in names], abs=1e-6)
        assert all(
            np.array_equal(image, np.asarray(images.center_crop_resize(images.read_rgb(photos / n), 0, 32)))
            for n, image in zip(names, x, strict=True)
        )
    assert {p.name for p in folder.iterdir()} == {"scores.csv", "most_fake.png", "most_real.png"}
    assert all(min(Image.open(folder / f"{name}.png").size) > 200 for name in ("most_fake", "most_real"))
    said = capsys.readouterr().out
    assert (
        "5 photos, meso4 trained on clean photos of toy, 32 x 32 pixels" in said
        and "3 of 5 look fake" in said
    )


@pytest.mark.usefixtures("no_pictures")
def test_batch_size_limit_and_earlier_scores(photos, weights):
    whole = rows(run(photos, weights))
    single = rows(run(photos, weights, "--batch_size", 1, out="single"))
    assert [(n, v) for n, _, v in single] == [(n, v) for n, _, v in whole]
    assert [p for _, p, _ in single] == pytest.approx([p for _, p, _ in whole], abs=1e-5)
    # earlier scores are replaced
    assert [n for n, _, _ in rows(run(photos, weights, "--limit", 2))] == sorted(SIZES)[:2]
    assert rows(run(photos / "two.jpg", weights, out="../one")) == [r for r in whole if r[0] == "two.jpg"]


@pytest.mark.usefixtures("no_pictures")
def test_the_crop_is_that_of_the_flag(photos, weights):
    edge = np.full((48, 48, 3), 255, np.uint8)
    # bright around a dark centre
    edge[16:32, 16:32] = 0
    Image.fromarray(edge).save(photos / "edge.png")

    def of(found):
        return next(p for name, p, _ in found if name == "edge.png")

    assert (
        of(rows(run(photos, weights))) > 0.9
        and of(rows(run(photos, weights, "--celeba_crop_size", 16))) < 0.1
    )


@pytest.mark.usefixtures("no_pictures")
def test_damaged_photos(photos, weights, capsys):
    (photos / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(UserError, match="bad.png: damaged"):
        run(photos, weights)
    assert not (photos.parent / "out").exists()
    assert [n for n, _, _ in rows(run(photos, weights, "--skip_damaged"))] == sorted(SIZES)
    assert f"skipped, {photos / 'bad.png'}: damaged" in capsys.readouterr().out


def test_bad_input_writes_nothing(photos, weights, tmp_path):
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "bad.png").write_bytes(b"x")
    (tmp_path / "page.pt").write_text("<html>")
    (tmp_path / "link").symlink_to(photos)
    other = save(tmp_path / "g.safetensors", Detector("meso4", 32), kind="stargan-generator")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.*")}
    for words, found in [
        (["--output", photos], "is the folder of the photos"),
        (["--output", tmp_path / "link"], "is the folder of the photos"),
        (["--input", photos / "one.png", "--output", photos], "is the folder of the photos"),
        (["--input", tmp_path / "gone"], "no such folder"),
        (["--input", tmp_path / "empty"], "holds no images"),
        (["--input", tmp_path / "broken"], "bad.png: damaged"),
        (["--input", tmp_path / "broken", "--skip_damaged"], "all 1 images are damaged"),
        (["--output", weights], "cannot be written"),
        (
            ["--detector_weights", other],
            "g.safetensors: expected a detector trained by train_detector.py, found stargan-generator",
        ),
        (["--detector_weights", tmp_path / "page.pt"], "HTML"),
        (["--detector_weights", tmp_path / "none.safetensors"], "no such weight file"),
        (["--batch_size", "0"], "above 0"),
        (["--limit", "0"], "above 0"),
        (["--detector_wieghts", "x"], "did you mean --detector_weights"),
        (["--device", "cuda:99"], "usable GPUs"),
    ]:
        with pytest.raises(UserError, match=found):
            run(photos, weights, *words)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.*")} == before and not (tmp_path / "out").exists()


def test_a_dry_run_checks_and_writes_nothing(photos, weights, capsys):
    folder = run(photos, weights, "--dry_run")
    assert not folder.exists() and "5 photos, meso4" in capsys.readouterr().out
    (photos / "bad.png").write_bytes(b"x")
    with pytest.raises(UserError, match="bad.png"):
        run(photos, weights, "--dry_run")
