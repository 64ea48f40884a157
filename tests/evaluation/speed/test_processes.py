"""Two processes against one: both do the whole job, and the ratio is the efficiency."""

import pytest

from common.cli import RunError
from evaluation.speed import processes, scale
from faces.celeba import FaceFolder
from faces.flags import ATTRIBUTES


def test_the_ratio_is_the_efficiency(face_folder, tmp_path, monkeypatch):
    faces, told = FaceFolder(face_folder(4), ATTRIBUTES, 40, 16, cache_dir=tmp_path / "crops"), []
    seconds = {1: 8.0, 2: 5.0}
    monkeypatch.setattr(processes, "seconds_of", lambda n, given: told.append(given) or seconds[n])
    found = processes.time_processes(faces, ATTRIBUTES, "G", 4, tmp_path / "crops", 3)
    # 8 s of one process are 4 s of two at best, 5 s are 80 % of that; a photo is a quarter of it
    assert found["ratio"] == pytest.approx(0.8) and found["ratio_low"] == found["ratio_high"]
    assert (found["seconds"], found["reference_seconds"]) == (1.25, 1.0) and len(told) == 6
    assert FaceFolder(**told[0]["photos"]).names == faces.names


@pytest.mark.slow
def test_two_processes_fill_the_same_photos(tmp_path, face_folder):
    photos = {"folder": str(face_folder(4)), "selected_attrs": list(ATTRIBUTES), "crop": 40, "size": 16}
    given = {"photos": photos | {"cache_dir": str(tmp_path / "crops"), "limit": 4}}
    given["weights"] = str(scale.tiny_translator(tmp_path))
    assert processes.seconds_of(1, given) > 0 and processes.seconds_of(2, given) > 0
    with pytest.raises(RunError, match="1 processes ended with exit code"):
        processes.seconds_of(1, {**given, "weights": "lost.safetensors"})
