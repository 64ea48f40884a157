"""A detector from outside: a class and a line of DETECTORS, then train_detector.py trains and tests it."""

import sys
import types

from torch import nn

import detectors
from common.declared import Look
from models.detector.network import DETECTORS, Base, load_detector, looks

few_resamples, pictures_where_asked = detectors.few_resamples, detectors.pictures_where_asked
stage, run, only = (getattr(detectors, k) for k in ("stage", "run", "only"))


class Toy(Base):
    """The mean of each channel."""

    look = Look("toy", "#123456", 9)

    def __init__(self, size):
        super().__init__()
        self.num_features = 3

    def forward(self, x):
        return x.mean(dim=(2, 3))

    @staticmethod
    def head(num_features):
        return nn.Linear(num_features, 2)


def test_a_detector_from_outside_is_a_class_and_a_line(stage, monkeypatch):
    module = types.ModuleType("toy_detector")
    module.Toy = Toy
    monkeypatch.setitem(sys.modules, "toy_detector", module)
    monkeypatch.setitem(DETECTORS, "toy", "toy_detector:Toy")
    flags, results = stage
    run(flags.replace("--detector meso4", "--detector toy"), "--condition clean --epochs 1")
    assert only(results)["config"]["detector"] == "toy" and only(results)["config"]["base"] == "scratch"
    assert next(results.glob("detector/toy/stargan/toy/clean/*/*/*/record.json"))
    (path,) = results.rglob("weights.safetensors")
    assert isinstance(load_detector(path).trunk, Toy) and looks()["toy"] == Toy.look
