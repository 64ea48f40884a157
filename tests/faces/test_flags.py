"""One spelling of the data flags; they open the photos that they name."""
import pytest

from common import cli
from common.cli import UserError
from faces.flags import ATTRIBUTES, add_data_flags, dataset_name, open_faces


def args(words):
    p = cli.ArgumentParser(prog="toy")
    add_data_flags(p)
    cli.add_run_flags(p, limit=True)
    return p.parse_args(words.split())


def test_the_named_split_is_opened_with_crop_size_and_limit(tmp_path, face_folder):
    face_folder(5, tmp_path / "faces" / "images_b")
    found = args(f"--data_dir {tmp_path}/faces --celeba_crop_size 40 --image_size 16 --limit 3 --num_workers 0")
    faces = open_faces(found, "b")
    assert faces.floats([0, 2]).shape == (2, 3, 16, 16) and len(faces) == 3 and faces.labels.shape == (3, len(ATTRIBUTES))
    assert open_faces(found, "b", ["Male"]).labels.shape == (3, 1)
    assert dataset_name(found) == "faces" and dataset_name(args("--dataset other")) == "other"


def test_a_missing_split_is_one_line(tmp_path):
    with pytest.raises(UserError, match="images_c: no such folder"):
        open_faces(args(f"--data_dir {tmp_path}"), "c")
