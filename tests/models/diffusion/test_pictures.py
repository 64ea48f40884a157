"""Images to learn from besides faces: digits, and any folder of images."""

import numpy as np
import pytest
import torch
from PIL import Image

from common import cli
from common.cli import UserError
from models.diffusion import pictures, train


@pytest.fixture
def folder(tmp_path):
    """Twelve images in CIFAR's layout: a folder per class, equal names in each."""
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "cifar" / "train" / label).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(
                tmp_path / "cifar" / "train" / label / f"{i:04d}.png"
            )
    return tmp_path / "cifar"


def opened(images, *words):
    return pictures.open_pictures(train.parse_args(["--images", str(images), "--image_size", "16", *words]))


def test_digits_are_grey_and_fill_their_range():
    found = pictures.digits(16)
    assert (
        len(found) == len(set(found.names)) == 1797
        and found.pixels.shape == (1797, 16, 16, 3)
        and found.pixels.dtype == np.uint8
    )
    assert (found.pixels == found.pixels[..., :1]).all()
    x = found.floats(range(50))
    assert (
        x.shape == (50, 3, 16, 16)
        and x.dtype == torch.float32
        and float(x.min()) == -1
        and 0.9 < float(x.max()) <= 1
    )


def test_digits_at_their_own_size_are_the_librarys():
    from sklearn.datasets import load_digits

    ours = sorted(p.tobytes() for p in pictures.digits(8).pixels[..., 0])
    assert ours == sorted(p.tobytes() for p in np.rint(load_digits().images * (255 / 16)).astype(np.uint8))


def test_a_folder_per_class_is_read_in_the_order_of_names(folder):
    found = pictures.of_folder(folder, 12)
    assert found.names == [f"train/{label}/{i:04d}.png" for label in ("cat", "dog") for i in range(6)]
    first = np.asarray(Image.open(folder / "train/cat/0000.png"))
    assert (found.pixels[0] == first).all() and found.labels.shape == (12, 0)
    assert pictures.of_folder(folder, 16).pixels.shape == (12, 16, 16, 3)


def test_other_files_are_passed_over_and_other_modes_become_rgb(folder):
    (folder / "labels.txt").write_text("0\n")
    Image.new("L", (5, 9), 200).save(folder / "grey.PNG")
    Image.new("RGBA", (9, 5), (10, 20, 30, 255)).save(folder / "with_alpha.png")
    found = pictures.of_folder(folder, 8)
    grey, colour = (found.pixels[found.names.index(name)] for name in ("grey.PNG", "with_alpha.png"))
    assert len(found) == 14 and (grey == 200).all() and (colour == (10, 20, 30)).all()


def test_subset_keeps_names_and_images_together(folder):
    found = pictures.of_folder(folder, 12)
    some = found.subset([found.names[7], found.names[2]])
    assert (
        some.names == ["train/dog/0001.png", "train/cat/0002.png"]
        and (some.pixels == found.pixels[[7, 2]]).all()
        and len(some) == 2
    )
    assert torch.equal(some.floats([1]), found.floats(np.array([2])))


def test_held_out_images_are_not_learned_from(folder):
    for source, n in ((folder, 12), ("digits", 1797)):
        learned, held = opened(source)
        assert (
            len(held) == -(-n // 10)
            and len(learned) + len(held) == n
            and not set(learned.names) & set(held.names)
        )
        assert opened(source)[1].names == held.names != opened(source, "--seed", "1")[1].names


def test_limit_takes_the_first_images(folder):
    whole = pictures.of_folder(folder, 16)
    learned, held = opened(folder, "--limit", "5")
    assert sorted(learned.names + held.names) == whole.names[:5]
    assert (
        sum(map(len, opened("digits", "--limit", "30"))) == 30
        and sum(map(len, opened(folder, "--limit", "99"))) == 12
    )
    (folder / "train/dog/0005.png").write_bytes(b"beyond the limit")
    assert sum(map(len, opened(folder, "--limit", "11"))) == 11


def test_faces_are_opened_as_everywhere(tmp_path, face_folder):
    face_folder(12, tmp_path / "data" / "images_a")
    learned, held = pictures.open_pictures(
        train.parse_args(
            [
                "--data_dir",
                str(tmp_path / "data"),
                "--image_size",
                "16",
                "--celeba_crop_size",
                "40",
                "--num_workers",
                "0",
            ]
        )
    )
    assert len(learned) == 10 and len(held) == 2 and learned.floats([0]).shape == (1, 3, 16, 16)


def test_folders_without_images(folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, found in [
        (tmp_path / "none", "no such folder.*digits"),
        (empty, "holds no images"),
        (folder / "train/cat/0000.png", "no such folder"),
    ]:
        with pytest.raises(UserError, match=found) as error:
            opened(path)
        assert str(path) in str(error.value)
    with pytest.raises(UserError, match="1 photo to learn from is too few: expected at least 2"):
        opened(folder, "--limit", "1")


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_a_damaged_image_is_named_in_one_line(folder, capsys, content):
    path = folder / "train" / "dog" / "0003.png"
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    with pytest.raises(SystemExit) as stopped:
        cli.run(
            train.main,
            [
                "--images",
                str(folder),
                "--image_size",
                "16",
                "--result_dir",
                str(folder / "results"),
                "--device",
                "cpu",
            ],
        )
    said = capsys.readouterr().err
    assert (
        stopped.value.code == 2
        and said.count("\n") == 1
        and said.startswith(f"error: {path}")
        and "damaged" in said
    )
    assert not (folder / "results").exists()
