"""What tests of detectors' training sets share: tiny splits B and C with a translator, and runs of
train_detector.py on them."""

import json
import shutil

import pytest
import torch

import train_detector as script
from common import distributed
from evaluation import detector_output
from weights import translator


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(detector_output, "RESAMPLES", 20)
    monkeypatch.setattr(detector_output, "FEWER", 10)


@pytest.fixture
def drawn():
    """Asked for by tests that look at the pictures of a run; the runs of the others draw none."""


@pytest.fixture(autouse=True)
def pictures_where_asked(request, monkeypatch):
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(script, "save_pictures", lambda *rest: None)


@pytest.fixture
def stage(tmp_path, face_folder):
    """(flags, results): 20 photos of B and 12 of C under other names, a translator, and the flags that all
    runs share."""
    for part, first, count in (("b", 0, 20), ("c", 20, 12)):
        whole = face_folder(32, tmp_path / "all")
        folder = tmp_path / "data" / f"images_{part}"
        folder.mkdir(parents=True)
        lines = (whole / "list_attr_celeba.txt").read_text().splitlines()
        rows = lines[2 + first : 2 + first + count]
        (folder / "list_attr_celeba.txt").write_text("\n".join([str(count), lines[1], *rows]) + "\n")
        for row in rows:
            shutil.copy(whole / row.split()[0], folder)
    gan = translator(tmp_path / "gan.safetensors")
    flags = (
        f"--data_dir {tmp_path}/data --dataset toy --result_dir {tmp_path}/results --image_size 32"
        f" --celeba_crop_size 40 --gan_weights {gan} --attack_steps 2 --detector meso4 --epochs 2"
        " --batch_size 8 --seeds 0 --device cpu --num_workers 0"
    )
    return flags, tmp_path / "results"


def run(flags, more=""):
    script.main(f"{flags} {more}".split())


def records(results):
    return [json.loads(p.read_text()) for p in sorted(results.rglob("record.json"))]


def only(results):
    (record,) = records(results)
    return record


def opened(flags, more):
    options = script.parse_args(f"{flags} {more}".split())
    return script.Stage(options, distributed.Context(0, 1, torch.device("cpu")))
