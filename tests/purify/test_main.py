"""python -m purify: any folder of photos."""

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from common import folder, images
from common.cli import UserError
from purify.__main__ import main
from tiny import weights_file

# width, height
SIZES = {"one.png": (20, 14), "two.jpg": (14, 20), "three.bmp": (8, 8), "four.webp": (5, 30)}


@pytest.fixture
def photos(tmp_path, faces):
    folder = tmp_path / "photos"
    folder.mkdir()
    picture = images.to_uint8(faces(1, 32)[0])[0]
    for name, (w, h) in SIZES.items():
        Image.fromarray(picture[:h, :w]).save(folder / name)
    return folder


def run(photos, *words, out="out"):
    folder = photos.parent / out
    main(
        [
            "--input",
            str(photos),
            "--output",
            str(folder),
            "--device",
            "cpu",
            "--num_workers",
            "1",
            *map(str, words),
        ]
    )
    return folder


def read(folder):
    return {p.name: images.load_png(p) for p in folder.glob("*.png")}


def test_what_is_said_is_of_all_photos_whenever_a_process_is_killed(photos, tmp_path, monkeypatch):
    """Levels and evaluations: killed before any of the images, or before the description."""
    for i, x in enumerate(np.linspace(20, 220, 4).astype(int)):  # more of one size, in batches of two
        Image.fromarray(np.full((8, 8, 3), x, np.uint8)).save(photos / f"more{i}.png")
    weights = weights_file(tmp_path / "w.safetensors")
    words = [
        "--defense_model_type",
        "one-step-plain",
        "--defense_weights",
        weights,
        "--ddpm_start_num",
        "auto",
    ]
    words += ["--fit", "resize", "--batch_size", 2]
    keys = ("purified_in_this_run", "nfe", "level_mean", "level_std")

    def said(folder):
        found = yaml.safe_load((folder / "purify.yaml").read_text())
        return [found[key] for key in keys]

    expected, written = said(run(photos, *words)), images.write_atomic
    assert expected[0] == 8

    class Killed(BaseException):
        pass

    for at in range(1, 10):
        count, out = [], f"killed{at}"

        def counted(path, data, at=at, count=count):
            count.append(path)
            if len(count) == at:
                raise Killed
            written(path, data)

        monkeypatch.setattr(images, "write_atomic", counted)
        describe = folder.Output.describe

        def described(self, parameters, facts, at=at, describe=describe):
            if at == 9 and "nfe" in facts:
                raise Killed
            describe(self, parameters, facts)

        monkeypatch.setattr(folder.Output, "describe", described)
        with pytest.raises(Killed):
            run(photos, *words, out=out)
        monkeypatch.undo()
        made = run(photos, *words, out=out)
        assert said(made) == pytest.approx(expected, rel=1e-6) and not (made / ".cost.json").exists()
    run(photos, *words)  # nothing is left to do, and nothing said anew
    assert said(photos.parent / "out") == expected


@pytest.mark.parametrize("mode", ["tile", "resize"])
def test_names_and_sizes_stay_and_the_description_is_complete(photos, tmp_path, mode):
    weights = weights_file(tmp_path / "w.safetensors")
    made = run(
        photos,
        "--defense_model_type",
        "ddpm",
        "--defense_weights",
        weights,
        "--ddpm_start_num",
        3,
        "--fit",
        mode,
    )
    assert {n: a.shape[:2] for n, a in read(made).items()} == {
        n.split(".")[0] + ".png": (h, w) for n, (w, h) in SIZES.items()
    }
    said = yaml.safe_load((made / "purify.yaml").read_text())
    assert (
        said["parameters"]["start"] == 3
        and said["parameters"]["fit"] == mode
        and said["parameters"]["seed"] == 0
    )
    assert (
        len(said["parameters"]["weights_sha256"]) == 64
        and said["seconds_per_image"] > 0
        and said["images"] == 4
    )
    assert said["nfe"] == 3 if mode == "resize" else said["nfe"] > 3


def test_result_depends_on_neither_batch_size_nor_limit_nor_interruption(photos, tmp_path):
    words = [
        "--defense_model_type",
        "ddpm",
        "--defense_weights",
        weights_file(tmp_path / "w.safetensors"),
        "--ddpm_start_num",
        4,
    ]
    whole = read(run(photos, *words))
    first = read(run(photos, *words, "--limit", 2, "--batch_size", 1, out="some"))
    assert len(first) == 2
    assert all(np.abs(first[n].astype(int) - whole[n]).max() <= 1 for n in first)
    rest = read(run(photos, *words, out="some"))  # the same command again makes what is missing
    assert rest.keys() == whole.keys() and all(np.array_equal(rest[n], first[n]) for n in first)
    other = read(run(photos, *words, "--seed", 1, out="seed"))
    assert any(not np.array_equal(other[n], whole[n]) for n in whole)


def test_one_file(photos):
    made = photos.parent / "single"
    main(
        [
            "--input",
            str(photos / "two.jpg"),
            "--output",
            str(made),
            "--defense_model_type",
            "jpeg",
            "--jpeg_quality",
            "50",
        ]
    )
    assert list(read(made)) == ["two.png"]
    assert yaml.safe_load((made / "purify.yaml").read_text())["parameters"]["quality"] == 50


def test_damaged_photos(photos):
    (photos / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(UserError, match="bad.png"):
        run(photos, "--defense_model_type", "blur")
    assert not (photos.parent / "out").exists()
    made = run(photos, "--defense_model_type", "blur", "--skip_damaged")
    assert len(read(made)) == 4 and yaml.safe_load((made / "purify.yaml").read_text())["skipped"] == [
        "bad.png"
    ]


def test_bad_input_writes_nothing(photos, tmp_path):
    weights = weights_file(tmp_path / "w.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "page.pt").write_text("<html>")
    before = {p: p.read_bytes() for p in photos.iterdir()}
    for words, found in [
        (["--output", str(photos), "--defense_model_type", "none"], "folder of the photos"),
        (["--input", str(tmp_path / "empty"), "--defense_model_type", "none"], "holds no images"),
        (["--input", str(tmp_path / "gone"), "--defense_model_type", "none"], "no such folder"),
        (["--defense_model_type", "ddpm"], "needs weights"),
        (["--defense_model_type", "ddpm", "--defense_weights", str(tmp_path / "page.pt")], "HTML"),
        (
            ["--defense_model_type", "ddpm", "--defense_weights", str(weights), "--ddpm_start_num", "500"],
            "from 1 to 300",
        ),
        (["--defense_model_type", "none", "--batch_size", "0"], "above 0"),
        (["--defense_model_type", "none", "--limit", "0"], "above 0"),
        (["--defense_model_type", "none", "--blur_sgima", "1"], "did you mean --blur_sigma"),
        (["--defense_model_type", "none", "--device", "cuda:99"], "usable GPUs"),
        (["--output", str(weights), "--defense_model_type", "none"], "is a file"),
    ]:
        with pytest.raises(UserError, match=found):
            run(photos, *words)
    assert not (tmp_path / "out").exists() and {p: p.read_bytes() for p in photos.iterdir()} == before


def test_two_photos_of_one_stem_and_images_of_other_parameters(photos):
    run(photos, "--defense_model_type", "jpeg")
    with pytest.raises(UserError, match="quality: 75 -> 50"):
        run(photos, "--defense_model_type", "jpeg", "--jpeg_quality", 50)
    Image.new("RGB", (8, 8)).save(photos / "one.jpg")
    with pytest.raises(UserError, match="same stem"):
        run(photos, "--defense_model_type", "none", out="new")


def test_dry_run_and_config(photos, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("defense_model_type: jpeg\njpeg_quality: 40\n")
    made = run(photos, "--config", tmp_path / "c.yaml", "--dry_run")
    assert not made.exists() and '"quality": 40' in capsys.readouterr().out


def test_scan_refuses_a_backdoored_purifier_or_leaves_out_photos_with_its_trigger(photos, tmp_path, capsys):
    from common import files
    from models.diffusion import triggers
    from purify.terd.verdict import Backdoored, Verdict, keep

    weights, sign = weights_file(tmp_path / "w.safetensors", image_size=16), triggers.trigger("stop_sign", 16)
    keep(
        Verdict("backdoored", "M_r 1", files.sha256(weights), "reduced", 1.0, 1.0, 1.0, sign, "r.json"),
        weights,
        tmp_path,
    )
    Image.fromarray(images.to_uint8(triggers.stamp(torch.full((3, 16, 16), 0.3), sign))).save(
        photos / "carrier.png"
    )
    words = ["--defense_model_type", "ddpm", "--defense_weights", weights, "--ddpm_start_num", 2, "--scan"]
    with pytest.raises(Backdoored):
        run(photos, *words)
    assert not (tmp_path / "out").exists()
    made = run(photos, *words, "screen")
    assert "carrier.png" not in read(made) and "left out" in capsys.readouterr().out
    said = yaml.safe_load((made / "purify.yaml").read_text())
    assert said["carry_the_trigger"] == ["carrier.png"] and said["scan"].startswith("backdoored")
