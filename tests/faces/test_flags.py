"""One spelling of the data flags; they open the photos that they name."""

import pytest

from common import cli
from common.cli import UserError
from faces.celeba import held_out
from faces.flags import ATTRIBUTES, add_data_flags, dataset_name, open_faces, open_judged


def args(words):
    p = cli.ArgumentParser(prog="toy")
    add_data_flags(p)
    cli.add_run_flags(p, limit=True)
    return p.parse_args(words.split())


def test_the_named_split_is_opened_with_crop_size_and_limit(tmp_path, face_folder):
    face_folder(5, tmp_path / "faces" / "images_b")
    found = args(
        f"--data_dir {tmp_path}/faces --celeba_crop_size 40 --image_size 16 --limit 3 --num_workers 0"
    )
    faces = open_faces(found, "b")
    assert (
        faces.floats([0, 2]).shape == (2, 3, 16, 16)
        and len(faces) == 3
        and faces.labels.shape == (3, len(ATTRIBUTES))
    )
    assert open_faces(found, "b", ["Male"]).labels.shape == (3, 1)
    assert dataset_name(found) == "faces" and dataset_name(args("--dataset other")) == "other"


def test_a_missing_split_is_one_line(tmp_path):
    with pytest.raises(UserError, match="images_c: no such folder"):
        open_faces(args(f"--data_dir {tmp_path}"), "c")


def test_of_a_only_the_held_out_part_is_judged(tmp_path, face_folder):
    for part in "ab":
        face_folder(25, tmp_path / f"images_{part}")
    found = args(f"--data_dir {tmp_path} --celeba_crop_size 40 --image_size 16 --num_workers 0")
    validation = held_out(open_faces(found, "a").names)[1]
    assert open_judged(found, "a").names == validation and len(validation) == 3
    assert len(open_judged(found, "b")) == 25
    limited = args(f"--data_dir {tmp_path} --celeba_crop_size 40 --image_size 16 --num_workers 0 --limit 2")
    assert open_judged(limited, "a").names == validation[:2] and limited.limit == 2
