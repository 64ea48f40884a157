"""Made-up records of the real shape, for tests of what reads records."""
import json

import numpy as np
from PIL import Image

from evaluation import record


def mean(value, key):
    return {key: value, key + "_std": None if value is None else abs(value) / 4,
            key + "_ci": None if value is None else [value - abs(value) / 10, value + abs(value) / 10]}


def fakes(l2, frechet=1.0):
    found = {"linf": 1.0, "empty_masks": 0, "fid": None, "kid": None, "frechet": frechet}
    for key, value in (("l1", l2 ** 0.5), ("l2", l2), ("prop_dist", float(l2 > 0.05)), ("l2_mask", 2 * l2), ("sr_mask", 0.5),
                       ("psnr", 30.0), ("ssim", 0.9)):
        found |= mean(value, key)
    return found


def photos(l2, linf=0.0471):
    return {"linf": linf, **mean(l2, "l2"), **mean(33.25, "psnr"), **mean(0.912, "ssim")}


def defense(name="jpeg-q75", l2=0.003, seed=0, dataset="drawn", images=64, size=64, frechet=1.5, nfe=0, photo_l2=0.002, clean=0.0012,
            disrupted=0.4, features="f" * 64, key="a" * 64, gan="b" * 64, linf=0.0471, finished="2024-05-01T10:00:00", **config):
    """A record of kind defense; keywords that are not listed change its config."""
    eps = config.get("eps", 0.05)
    settings = {"gan": "stargan", "defense": name.split("-")[0], "defense_params": {}, "defense_noise": "none", "attack": "pgd", "eps": eps,
                "attack_steps": 10, "attack_step_size": 0.01, "attack_target": "gray", "attack_label": "original",
                "attack_on": "standard", "attack_through": None, "num_images": images, "num_pairs": images * 5, "image_size": size,
                "gan_training_data": None, **config}
    return record.Record(
        kind="defense", name=name, dataset=dataset, split="images_b", seed=seed, config=settings,
        metrics={"disrupted": fakes(disrupted, 80.0), "purified": fakes(l2, frechet), "clean_purified": fakes(clean, 0.5),
                 "input": {"disrupted": photos(0.0015, linf), "purified": photos(photo_l2), "clean_purified": photos(photo_l2 / 2)}},
        per_group={"domain": {}}, features={"name": "attribute-classifier", "sha256": features, "resize": "none", "backend": "test"},
        cost={"device": "cpu", "nfe": nfe, "attack_s_per_image": 0.1, "purify_s_per_image": 0.01 * (nfe + 1), "peak_memory_mb": 300},
        provenance={"commit": "abc", "command": "test_defense.py", "versions": {}, "started": finished, "finished": finished,
                    "gan_sha256": gan, "defense_sha256": None, "attacked_key": key})


def detector(name="purified", accuracy=0.91, seed=0, **config):
    metrics = {**mean(accuracy, "accuracy"), **{k: v for key in ("auc", "ap", "eer", "ece") for k, v in mean(0.95, key).items()}}
    settings = {"detector": "mobilenet_v2", "condition": name, "gan": "stargan", "defense": "one-step", "attack": "pgd", "eps": 0.05,
                "num_train": 100, "num_test": 50, "image_size": 64, **config}
    return record.Record("detector", name, "drawn", "images_c", seed, settings, metrics, {}, None, {"device": "cpu"},
                         {"commit": None, "command": None, "versions": {}, "started": None, "finished": None, "detector_sha256": None})


def save(folder, found, number=0, grid=False):
    """Write a record where test_defense.py would; returns its path."""
    c = found.config
    run = folder / found.name / found.dataset / "stargan" / "none" / f"{c['attack']}-eps{c['eps']}"
    while (run / f"{number:03d}").exists():
        number += 1
    run = run / f"{number:03d}"
    run.mkdir(parents=True)
    record.write(run / record.FILE, found)
    if grid:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 1200, 3), dtype=np.uint8)).save(run / "grid.png")
    return run / record.FILE


def as_dict(path):
    return json.loads(path.read_text())
