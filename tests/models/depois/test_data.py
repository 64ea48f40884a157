"""What is trusted and what is examined: disjoint parts, and one clear error where they are not."""

import gzip

import numpy as np
import pytest
import torch

from common.cli import UserError
from models.depois import data
from models.depois.data import Labelled, Task


def labelled(n=24, size=8, channels=1, classes=("a", "b"), prefix="", seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, size, size, channels), dtype=np.uint8)
    return Labelled(
        tuple(f"{prefix}{i:03d}" for i in range(n)), torch.arange(n) % len(classes), pixels, classes
    )


def test_digits_are_the_librarys_and_split_without_overlap():
    training, test = data.digits()
    assert len(training) == 1438 and len(test) == 359 and training.shape == (1, 8, 8)
    assert not set(training.names) & set(test.names)
    assert training.pixels.max() == 255 and training.floats([0]).min() == -1
    assert set(training.labels.tolist()) == set(range(10))


def test_a_task_holds_every_training_image_once():
    training, test = data.digits()
    task = data.divide("digits", training, test, 0.2, 0)
    names = task.trusted.names + task.held.names + task.examined.names
    assert sorted(names) == sorted(training.names)
    assert len(task.trusted) + len(task.held) == round(0.2 * len(training))
    assert len(task.held) == pytest.approx(data.HELD_SHARE * round(0.2 * len(training)), abs=5)
    assert set(task.held.labels.tolist()) == set(range(10))


def test_the_seed_draws_the_trusted_images():
    training, test = data.digits()
    first, again, other = (data.divide("digits", training, test, 0.2, seed) for seed in (0, 0, 1))
    assert first.trusted.names == again.trusted.names != other.trusted.names
    assert data.content(first.trusted) == data.content(again.trusted) != data.content(other.trusted)


def test_limit_leaves_the_trusted_images_alone():
    training, test = data.digits()
    whole, some = (
        data.divide("digits", training, test, 0.2, 0),
        data.divide("digits", training, test, 0.2, 0, 100),
    )
    assert some.trusted.names == whole.trusted.names and some.examined.names == whole.examined.names[:100]


def test_a_photo_and_its_fake_are_held_out_together():
    pairs = labelled(40, classes=("real", "fake"))
    names = tuple(f"{('real', 'fake')[i % 2]}/{i // 2:03d}.jpg" for i in range(40))
    learned, held = data.hold_out(Labelled(names, pairs.labels, pairs.pixels, pairs.classes), 0)
    photos = [{n.partition("/")[2] for n in part.names} for part in (learned, held)]
    assert not photos[0] & photos[1] and len(held) == 2 * len(photos[1]) == 6


def task(trusted, held, examined, name="mine"):
    return Task(name, trusted, held, examined, None)


def test_too_few_trusted_images():
    with pytest.raises(UserError, match="2 trusted images for 2 classes, expected two of each at least"):
        data.check(task(labelled(2), labelled(0), labelled(8, prefix="x", seed=1)))
    training, test = data.digits()
    with pytest.raises(UserError, match="14 trusted images for 10 classes"):
        data.divide("digits", training, test, 0.01, 0)


def test_a_class_that_nobody_trusts():
    trusted = labelled(24)
    ones = trusted.subset(np.flatnonzero(trusted.labels.numpy() == 1))
    with pytest.raises(UserError, match="no trusted image of class a"):
        data.check(task(ones, labelled(4, prefix="h", seed=2), labelled(8, prefix="x", seed=1)))


def test_classes_whose_images_share_names_by_chance_are_held_out_too():
    names = ("cat/1", "cat/2", "dog/1", "dog/3", "emu/4", "emu/5")
    some = labelled(6, classes=("cat", "dog", "emu"))
    learned, held = data.hold_out(
        Labelled(names, torch.tensor([0, 0, 1, 1, 2, 2]), some.pixels, some.classes), 0
    )
    assert set(held.labels.tolist()) == set(learned.labels.tolist()) == {0, 1, 2} and not set(
        held.names
    ) & set(learned.names)


def test_trusted_and_examined_must_not_hold_equal_images_whatever_their_names():
    trusted, held = labelled(24), labelled(4, prefix="h", seed=2)
    # other images under equal names
    assert data.check(task(trusted, held, labelled(8, seed=5))).name == "mine"
    with pytest.raises(UserError, match="8 images are trusted and examined at once"):
        data.check(task(trusted, held, trusted.subset(range(8))))
    renamed = Labelled(
        tuple(f"x{i}" for i in range(8)), trusted.labels[:8], trusted.pixels[:8], trusted.classes
    )
    with pytest.raises(UserError, match="8 images are trusted and examined at once"):
        data.check(task(trusted, held, renamed))


def test_sizes_must_agree():
    with pytest.raises(
        UserError,
        match="trusted images are 8 x 8 pixels in 1 channel, those to examine 16 x 16 pixels in 3 channels",
    ):
        data.check(task(labelled(24), labelled(4, prefix="h", seed=2), labelled(8, 16, 3, prefix="x")))


def test_nothing_left_to_examine():
    with pytest.raises(UserError, match="no image is left to examine"):
        data.check(task(labelled(24), labelled(4, prefix="h", seed=2), labelled(0)))


def idx(array):
    """An IDX file, the format of MNIST: magic number, sizes, bytes."""
    return (
        bytes([0, 0, 8, array.ndim])
        + b"".join(n.to_bytes(4, "big") for n in array.shape)
        + array.astype(np.uint8).tobytes()
    )


@pytest.fixture
def mnist_folder(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, n in (("train", 30), ("t10k", 10)):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(rng.integers(0, 256, (n, 28, 28))))
        (raw / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(n) % 10)))
    return tmp_path


def test_mnist_is_read_packed_or_not_and_nothing_is_written(mnist_folder):
    before = sorted(p.name for p in mnist_folder.rglob("*"))
    training, test = data.mnist(mnist_folder)
    assert len(training) == 30 and len(test) == 10 and training.shape == (1, 28, 28)
    assert training.labels.tolist()[:3] == [0, 1, 2] and training.names[0] == "train/00000"
    assert sorted(p.name for p in mnist_folder.rglob("*")) == before


def test_mnist_that_is_missing_or_damaged(mnist_folder):
    with pytest.raises(UserError, match="lacks train-images-idx3-ubyte and 3 more files of MNIST"):
        data.mnist(mnist_folder / "elsewhere")
    labels = mnist_folder / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:20])
    with pytest.raises(UserError, match="MNIST cannot be read"):
        data.mnist(mnist_folder)
