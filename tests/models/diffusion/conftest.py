"""One training that the tests of `python -m models.diffusion.train` share, and its faces."""

import sys
from pathlib import Path

import pytest

from faces import procedural

sys.path.insert(0, str(Path(__file__).parent))  # small_trainings.py is for the tests beside it
from small_trainings import BADDIFFUSION, flags, shorten, train_small  # noqa: E402


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """Twelve drawn faces in images_a/."""
    folder = tmp_path_factory.mktemp("drawn")
    procedural.draw_folder(folder / "faces", 12, 0, 1)
    (folder / "data").mkdir()
    (folder / "faces" / "images").rename(folder / "data" / "images_a")
    (folder / "faces" / "list_attr_celeba.txt").rename(folder / "data" / "images_a" / "list_attr_celeba.txt")
    return folder / "data"


@pytest.fixture(scope="session")
def trained(drawn, tmp_path_factory):
    """The results folder of one uninterrupted training."""
    results = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        train_small(flags(drawn, results, *BADDIFFUSION))
    return results
