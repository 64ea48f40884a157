"""Small examinations: a few steps of training, a few resamples, one classifier for equal trusted images."""

import pytest

from metrics import finding
from models.depois.classifier import fit
from models.depois.data import content
from purify.depois import __main__ as depois
from purify.depois import examiner

SMALL = (
    "--gan_steps 2 --mimic_steps 4 --n_critic 1 --train_batch_size 8 --judge_steps 3 --seeds 0 --device cpu"
    " --num_workers 0"
)
NETWORKS = {}


def shared_network(labelled, seed):
    """The baselines' classifier is the same for equal trusted images: fitted once, and for a few steps."""
    key = (content(labelled), seed)
    if key not in NETWORKS:
        NETWORKS[key] = fit(labelled, seed, steps=40)
    return NETWORKS[key]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """(result folder, words -> the command with them)"""
    monkeypatch.setattr(finding.measure, "__defaults__", (10,))
    monkeypatch.setattr(finding.measure_classes, "__defaults__", (10,))
    monkeypatch.setattr(examiner, "fit", lambda *a, **k: shared_network(*a))
    results = tmp_path / "results"
    return results, lambda words: depois.main(f"{SMALL} --result_dir {results} {words}".split())
