import csv
import io

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from attacks import folder
from attacks.__main__ import main
from common import checkpoint, images
from common.cli import UserError


@pytest.fixture
def weights(tmp_path, tiny_generator):
    path = tmp_path / "G.safetensors"
    meta = {
        "kind": "stargan-generator",
        "options": {"conv_dim": 4},
        "attributes": ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"],
    }
    checkpoint.save_weights(path, tiny_generator.state_dict(), meta)
    return path


@pytest.fixture
def command(tmp_path, weights, face_folder):
    """command(*flags) runs the CLI on four photos; returns the output folder."""
    photos = face_folder(4)

    def run(*flags, output="out", gan=True):
        main(
            [
                "--input",
                str(photos),
                "--output",
                str(tmp_path / output),
                "--device",
                "cpu",
                "--num_workers",
                "1",
                "--attack_steps",
                "2",
                *(["--gan_weights", str(weights)] if gan else []),
                *map(str, flags),
            ]
        )
        return tmp_path / output

    run.photos = photos
    return run


def rows(out):
    return list(csv.DictReader(open(out / "attack.csv")))


def levels(source, out):
    """Largest change in grey levels."""
    return np.abs(images.load_png(source).astype(int) - images.load_png(out).astype(int)).max()


def test_names_sizes_and_what_was_reached(command):
    Image.fromarray(images.to_uint8(torch.rand(3, 21, 34) * 2 - 1)).save(command.photos / "wide one.PNG")
    out = command()
    assert {p.name for p in out.glob("*.png")} == {
        "000001.png",
        "000002.png",
        "000003.png",
        "000004.png",
        "wide one.png",
    }
    for name in ("000001.png", "wide one.png"):
        assert (
            Image.open(out / name).size
            == Image.open(command.photos / name.replace("one.png", "one.PNG")).size
        )
    found = {r["file"]: r for r in rows(out)}
    assert (
        found["wide one.png"]["source"],
        found["wide one.png"]["width"],
        found["wide one.png"]["height"],
    ) == ("wide one.PNG", "34", "21")
    for name, row in found.items():
        reached = levels(command.photos / row["source"], out / name)
        assert reached == 6 and float(row["linf"]) == pytest.approx(reached / 127.5, abs=1e-5)
    saved = yaml.safe_load((out / "attack.yaml").read_text())
    assert (
        saved["parameters"]["eps"] == 0.05
        and saved["parameters"]["attack"] == "pgd"
        and saved["parameters"]["labels"] == "zeros"
    )


def test_batches_of_any_size_give_the_same_images(command):
    one, all_at_once = command("--batch_size", 1, output="one"), command("--batch_size", 4, output="four")
    pairs = [
        (images.load_png(one / f"00000{i}.png"), images.load_png(all_at_once / f"00000{i}.png"))
        for i in (1, 2, 3, 4)
    ]
    assert np.mean([a != b for a, b in pairs]) <= 0.01


def test_image_size_resizes_and_crops(command):
    out = command("--image_size", 18)
    assert Image.open(out / "000001.png").size == (18, 18)
    assert [r["width"] for r in rows(out)] == ["18"] * 4


def test_existing_images_are_kept_and_missing_ones_made_again(command, capsys):
    out = command()
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.glob("*.png")}
    (out / "000002.png").unlink()
    (out / "attack.csv").unlink()  # as a run leaves it that was killed
    command()
    after = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.glob("*.png")}
    assert after.keys() == before.keys() and after["000001.png"] == before["000001.png"]
    assert (
        np.mean(
            images.load_png(out / "000002.png") != np.asarray(Image.open(io.BytesIO(before["000002.png"][1])))
        )
        <= 0.01
    )
    assert len(rows(out)) == 4 and all(float(r["linf"]) > 0.04 for r in rows(out))
    assert "1 photos disrupted" in capsys.readouterr().out


def test_images_of_other_parameters_are_refused(command):
    out = command("--limit", 2)
    assert len(rows(out)) == 2
    command()  # more of the same photos is the same attack
    with pytest.raises(UserError, match="attack_target|target: gray -> clean"):
        command("--attack_target", "clean")
    with pytest.raises(UserError, match="seed: 0 -> 1"):
        command("--seed", 1)
    (out / "attack.yaml").unlink()
    with pytest.raises(UserError, match="without an attack.yaml"):
        command()


def test_own_labels_change_the_attack(command):
    zeros, own = (
        command(output="zeros"),
        command("--attr_path", command.photos / "list_attr_celeba.txt", output="own"),
    )
    assert levels(zeros / "000001.png", own / "000001.png") > 0
    assert (
        yaml.safe_load((own / "attack.yaml").read_text())["parameters"]["labels"]["attributes"][0]
        == "Black_Hair"
    )


@pytest.mark.parametrize("flags", [["--attack_type", "gaussian"], ["--attack_type", "none"]])
def test_controls_need_no_translator(command, flags):
    out = command(*flags, gan=False)
    assert len(list(out.glob("*.png"))) == 4


@pytest.mark.parametrize(
    "flags, said",
    [
        (["apgd", "--apgd_steps", "2", "--apgd_restarts", "1"], {"steps": 2, "restarts": 1}),
        (["square", "--square_queries", "3"], {"queries": 3}),
        (["low-frequency", "--apgd_steps", "2", "--attack_grid", "4"], {"steps": 2, "grid": 4}),
        (["pgd", "--attack_jpeg", "60"], {"jpeg": "60-60"}),
    ],
)
def test_the_attacks_that_declare_more_take_their_flags(command, flags, said):
    out = command("--attack_type", *flags)
    saved = yaml.safe_load((out / "attack.yaml").read_text())["parameters"]
    assert {k: saved[k] for k in said} == said
    assert all(0 < float(r["linf"]) <= 0.0471 for r in rows(out))


def test_a_universal_perturbation_is_crafted_saved_and_applied_again(command, tmp_path):
    file = tmp_path / "a new folder" / "universal.pt"
    crafted = command("--attack_type", "universal", "--save_perturbation", file, output="crafted")
    applied = command("--attack_type", "universal", "--perturbation", file, output="applied", gan=False)
    assert levels(crafted / "000003.png", applied / "000003.png") == 0
    assert levels(command.photos / "000003.png", applied / "000003.png") == 6
    with pytest.raises(UserError, match="exists; give it as --perturbation"):
        command("--attack_type", "universal", "--save_perturbation", file, output="third")


def test_damaged_photos_stop_before_anything_is_written_or_are_listed(command, tmp_path, capsys):
    (command.photos / "000002.png").write_bytes((command.photos / "000002.png").read_bytes()[:200])
    with pytest.raises(UserError, match="000002.png: damaged"):
        command()
    assert not (tmp_path / "out").exists()
    out = command("--skip_damaged")
    assert sorted(p.name for p in out.glob("*.png")) == ["000001.png", "000003.png", "000004.png"]
    assert "000002.png" in capsys.readouterr().out
    assert yaml.safe_load((out / "attack.yaml").read_text())["skipped_damaged"] == ["000002.png"]


def test_a_folder_of_damaged_photos_only(command):
    for path in command.photos.glob("*.png"):
        path.write_bytes(b"not an image")
    with pytest.raises(UserError, match="none of its 4 images"):
        command("--skip_damaged")


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--test_noise_var", "0.001"], "one 8-bit step"),
        (["--test_noise_var", "nan"], "above 0"),
        (["--test_noise_var", "-0.05"], "above 0"),
        (["--test_noise_var", "3"], "to 2"),
        (["--attack_type", "pdg"], "did you mean pgd"),
        (["--attack_typ", "pgd"], "did you mean --attack_type"),
        (["--attack_label", "target"], "unknown value 'target'"),
        (["--batch_size", "0"], "above 0"),
        (["--limit", "0"], "above 0"),
        (["--device", "cuda:99"], "usable GPUs"),
        (["--perturbation", "p.pt"], "is for --attack_type universal"),
        (["--attack_type", "universal"], "needs --perturbation"),
        (["--attack_type", "universal", "--perturbation", "missing.pt"], "missing.pt: no such"),
        (["--attack_type", "universal", "--save_perturbation", "p.png"], "ends in .pt"),
        (["--save_perturbation", "p.pt"], "--attack_type universal"),
        (["--selected_attrs", "Male"], "--attr_path"),
        (["--image_size", "4"], "at least 8"),
        (["--config", "missing.yaml"], "missing.yaml"),
    ],
)
def test_refusals_write_nothing(command, tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        command(*flags)
    assert not (tmp_path / "out").exists()


def test_wrong_folders_and_weights(command, tmp_path, weights):
    base = ["--input", str(command.photos), "--output", str(tmp_path / "out"), "--device", "cpu"]
    with pytest.raises(UserError, match="give --gan_weights"):
        main(base)
    with pytest.raises(UserError, match="missing.ckpt: no such"):
        main([*base, "--gan_weights", "missing.ckpt"])
    base += ["--gan_weights", str(weights)]
    with pytest.raises(UserError, match="nowhere: no such folder"):
        main([*base, "--input", str(tmp_path / "nowhere")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        main([*base, "--input", str(tmp_path / "empty")])
    for source in (command.photos, command.photos / "000001.png"):
        with pytest.raises(UserError, match="originals are never touched"):
            main([*base, "--input", str(source), "--output", str(command.photos)])
    with pytest.raises(UserError, match="is a file"):
        main([*base, "--output", str(weights)])
    assert not (tmp_path / "out").exists()


def test_two_photos_of_one_stem_and_photos_without_a_row_are_refused(command):
    extra = command.photos / "000001.bmp"
    Image.new("RGB", (16, 16)).save(extra)
    with pytest.raises(UserError, match="same stem"):
        command()
    extra.rename(command.photos / "000009.bmp")
    with pytest.raises(UserError, match="no row for 000009.bmp"):
        command("--attr_path", command.photos / "list_attr_celeba.txt")


def test_photos_of_several_sizes_share_no_crafted_perturbation(command, tmp_path):
    Image.new("RGB", (16, 16)).save(command.photos / "small.png")
    with pytest.raises(UserError, match="--image_size"):
        command("--attack_type", "universal", "--save_perturbation", tmp_path / "u.pt")
    assert not (tmp_path / "u.pt").exists() and not (tmp_path / "out").exists()


def test_one_file_dry_run_and_config(command, tmp_path, weights, capsys):
    config = tmp_path / "attack.yaml"
    config.write_text(f"attack_type: bim\nattack_steps: 1\ngan_weights: {weights}\ndevice: cpu\n")
    one = [
        "--input",
        str(command.photos / "000003.png"),
        "--output",
        str(tmp_path / "out"),
        "--config",
        str(config),
    ]
    main([*one, "--dry_run"])
    assert '"attack_type": "bim"' in capsys.readouterr().out and not (tmp_path / "out").exists()
    main(one)
    assert [p.name for p in (tmp_path / "out").glob("*.png")] == ["000003.png"]


@pytest.mark.parametrize("h, w", [(8, 8), (9, 10), (11, 8)])
def test_padding_reaches_the_next_multiple_and_keeps_the_photo(h, w):
    x = torch.rand(1, 3, h, w)
    padded = folder.pad_to(x, 4)
    assert (
        padded.shape[-2] % 4 == padded.shape[-1] % 4 == 0
        and padded.shape[-2] - h < 4
        and padded.shape[-1] - w < 4
    )
    assert torch.equal(padded[..., :h, :w], x)


def test_the_worst_of_several_attacks_on_a_folder(command):
    few = "--apgd_steps 2 --apgd_restarts 1 --square_queries 3 --attack_grid 4".split()
    out = command("--attack_type", "worst", "--attack_label", "joint", *few)
    saved = yaml.safe_load((out / "attack.yaml").read_text())["parameters"]
    assert (
        list(saved["members"]) == ["apgd", "square", "low-frequency"]
        and saved["members"]["apgd"]["steps"] == 2
    )
    assert sorted(p.name for p in out.glob("*.png")) == [f"{k:06d}.png" for k in (1, 2, 3, 4)]
