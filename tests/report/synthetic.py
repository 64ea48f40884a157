"""Made-up records of the real shape, for tests of what reads records."""

import hashlib
import json

import numpy as np
from PIL import Image

from common.declared import Look
from report import comparison, record
from report.looks import Looks

COLOURS = {
    "none": "#333333",
    "jpeg": "#e8850c",
    "blur": "#8c5a2b",
    "defensive-model-1": "#d62f5f",
    "defensive-model-2": "#d62f5f",
    "ddpm": "#1f6fc4",
    "diffpure": "#8451c9",
    "one-step-plain": "#9aa51c",
    "one-step": "#14843c",
    "adv-train": "#0e9aa0",
    "both": "#5f7f8f",
}
LOOKS = Looks(
    defences={name: Look(name, colour, place) for place, (name, colour) in enumerate(COLOURS.items())},
    without_translator=("none", "gaussian", "random-sign", "universal", "dadfi"),
)


def compare_runs(*folders):
    """The comparison of some folders with looks as the project declares them."""
    return comparison.compare(*folders, looks=LOOKS)


def mean(value, key):
    return {
        key: value,
        key + "_std": None if value is None else abs(value) / 4,
        key + "_ci": None if value is None else [value - abs(value) / 10, value + abs(value) / 10],
    }


def fakes(l2, frechet=1.0):
    found = {"linf": 1.0, "empty_masks": 0, "fid": None, "kid": None, "frechet": frechet}
    for key, value in (
        ("l1", l2**0.5),
        ("l2", l2),
        ("prop_dist", float(l2 > 0.05)),
        ("l2_mask", 2 * l2),
        ("sr_mask", 0.5),
        ("psnr", 30.0),
        ("ssim", 0.9),
    ):
        found |= mean(value, key)
    return found


def photos(l2, linf=0.0471):
    return {"linf": linf, **mean(l2, "l2"), **mean(33.25, "psnr"), **mean(0.912, "ssim")}


def defense(
    name="jpeg-q75",
    l2=0.003,
    seed=0,
    dataset="drawn",
    images=64,
    size=64,
    frechet=1.5,
    nfe=0,
    photo_l2=0.002,
    clean=0.0012,
    disrupted=0.4,
    features="f" * 64,
    key="a" * 64,
    gan="b" * 64,
    linf=0.0471,
    finished="2024-05-01T10:00:00",
    **config,
):
    """A record of kind defense; keywords that are not listed change its config."""
    eps = config.get("eps", 0.05)
    settings = {
        "gan": "stargan",
        "defense": name.split("-")[0],
        "defense_params": {},
        "defense_noise": "none",
        "attack": "pgd",
        "eps": eps,
        "attack_steps": 10,
        "attack_step_size": 0.01,
        "attack_target": "gray",
        "attack_label": "original",
        "attack_on": "standard",
        "attack_through": None,
        "num_images": images,
        "num_pairs": images * 5,
        "image_size": size,
        "gan_training_data": None,
        **config,
    }
    return record.Record(
        kind="defense",
        name=name,
        dataset=dataset,
        split="b",
        seed=seed,
        config=settings,
        metrics={
            "disrupted": fakes(disrupted, 80.0),
            "purified": fakes(l2, frechet),
            "clean_purified": fakes(clean, 0.5),
            "input": {
                "disrupted": photos(0.0015, linf),
                "purified": photos(photo_l2),
                "clean_purified": photos(photo_l2 / 2),
            },
        },
        per_group={"domain": {}},
        features={"name": "attribute-classifier", "sha256": features, "resize": "none", "backend": "test"},
        cost={
            "device": "cpu",
            "nfe": nfe,
            "attack_s_per_image": 0.1,
            "purify_s_per_image": 0.01 * (nfe + 1),
            "peak_memory_mb": 300,
        },
        provenance={
            "commit": "abc",
            "command": "test_defense.py",
            "versions": {},
            "started": finished,
            "finished": finished,
            "gan_sha256": gan,
            "defense_sha256": None,
            "attacked_key": key,
        },
    )


def judged(accuracy, half=0.01):
    """Figures of a detector on one test set; `half` of the 95% interval of each."""
    return {
        key: value
        for name, v in (
            ("accuracy", accuracy),
            ("auc", accuracy + 0.02),
            ("ap", accuracy + 0.01),
            ("eer", 1 - accuracy),
            ("ece", 0.03),
        )
        for key, value in ((name, v), (name + "_ci", [v - half, v + half]))
    } | {"accuracy_std": 0.3}


def detector(
    name="clean",
    accuracy=0.95,
    rate=None,
    seed=0,
    dataset="drawn",
    half=0.01,
    noise="none",
    photos=400,
    size=64,
    disrupted=0.8,
    purified=0.85,
    sha=None,
    gan="b" * 64,
    split="c",
    finished="2024-05-01T10:00:00",
    **config,
):
    """A record of kind detector; a name other than clean, disrupted, filtered is a purifier's, "+filtered"
    after a filter. Keywords that are not listed change its config."""
    condition = name if name in ("clean", "disrupted", "filtered") else "purified"
    settings = {
        "detector": "meso4",
        "base": "scratch",
        "pretrained": None,
        "condition": condition,
        "gan": "stargan",
        "defense": name.split("-")[0] if condition == "purified" else "none",
        "defense_params": {},
        "defense_noise": noise,
        "attack": "pgd",
        "eps": 0.05,
        "attack_steps": 10,
        "attack_step_size": 0.01,
        "attack_target": "gray",
        "attack_label": "original",
        "attack_blur": "none",
        "perturbation": None,
        "poison_rate": float(condition != "clean") if rate is None else rate,
        "num_photos": photos,
        "num_train": photos * 9 // 5,
        "num_validation": photos // 5,
        "num_test": 200,
        "image_size": size,
        "epochs": 20,
        "kept": "kept.txt" if name.endswith("filtered") else None,
        "gan_training_data": None,
        **config,
    }
    metrics = {
        **judged(accuracy, half),
        "disrupted": judged(disrupted),
        "purified": judged(purified) if condition == "purified" else None,
        "validation": {"accuracy": accuracy, "loss": 0.1},
    }
    return record.Record(
        "detector",
        name,
        dataset,
        split,
        seed,
        settings,
        metrics,
        {"domain": {"Male": {**judged(accuracy), "num_photos": 30}}},
        None,
        {"device": "cpu", "train_s": 60.0, "epoch_s": 3.0, "peak_memory_mb": 500},
        {
            "commit": None,
            "command": None,
            "versions": {},
            "started": finished,
            "finished": finished,
            "detector_sha256": "d" * 64,
            "gan_sha256": gan,
            "defense_sha256": sha,
            "attacked_key": "a" * 64,
        },
    )


def disruption(
    attack="dadfi",
    l2=(0.2, 0.1),
    seed=0,
    dataset="drawn",
    images=64,
    size=64,
    victims=("stargan", "stgan"),
    crafted_on=None,
    trained_on=None,
    finetuning="yes",
    variant=None,
    sha=None,
    weights="w" * 64,
    seconds=0.01,
    split="b",
    finished="2024-05-01T10:00:00",
    **config,
):
    """A record of kind dadfi; l2 one of each victim, sha {victim: sha256} of those whose weights are others.
    Keywords that are not listed change its config."""
    trained, gradient = attack == "dadfi", attack in ("fgsm", "bim", "pgd", "mim")
    settings = {
        "translators": list(victims),
        "attack": attack,
        "eps": 0.0 if attack == "none" else 0.05,
        "attack_steps": 10 if gradient else None,
        "attack_step_size": 0.01 if gradient else None,
        "attack_target": "clean" if gradient else None,
        "attack_label": "original",
        "attack_blur": "none",
        "perturbation": None,
        "attack_weights": weights if trained else None,
        "crafted_on": (crafted_on or "own") if gradient else None,
        "trained_on_victims": list(trained_on or victims) if trained else None,
        "finetuning": finetuning if trained else None,
        "variant": ("without-finetuning" if finetuning == "no" else variant) if trained else None,
        "num_images": images,
        "image_size": size,
        **config,
    }
    per_victim = {
        name: {**fakes(v, 20.0), **mean(v**0.5, "rmse"), "num_pairs": 5 * images}
        for name, v in zip(victims, l2, strict=True)
    }
    worst = min(per_victim, key=lambda name: per_victim[name]["l2"])
    return record.Record(
        "dadfi",
        attack,
        dataset,
        split,
        seed,
        settings,
        {"input": photos(0.002), "worst": {"l2": per_victim[worst]["l2"], "translator": worst}},
        {"translator": per_victim},
        {"name": "attribute-classifier", "sha256": "f" * 64, "resize": "none", "backend": "test"},
        {"device": "cpu", "attack_s_per_image": seconds, "peak_memory_mb": 300},
        {
            "commit": None,
            "command": None,
            "versions": {},
            "started": finished,
            "finished": finished,
            "attacked_key": "a" * 64,
            "gan_sha256": {name: "b" * 64 for name in victims} | (sha or {}),
        },
    )


def found_by(auc, half=0.01):
    """Figures of a finder of poisoned samples; `half` of the 95% interval of each, None: not measured."""
    figures = dict(
        accuracy=auc - 0.05,
        precision=auc - 0.1,
        recall=auc - 0.08,
        f1=auc - 0.09,
        auc=auc,
        tpr_at_1=auc / 2,
        tpr_at_5=auc / 1.5,
        fpr=0.061,
    )
    return {
        key: value
        for name, v in figures.items()
        for key, value in ((name, v), (name + "_ci", None if half is None else [v - half, v + half]))
    }


def filtering(
    method="de-pois",
    poison="noise",
    auc=0.95,
    rate=0.3,
    seed=0,
    dataset="drawn",
    size=28,
    params=None,
    half=0.01,
    sha="m" * 64,
    kept=0.96,
    split="all",
    finished="2024-05-01T10:00:00",
    **config,
):
    """A record of kind depois; params those of the poison. Keywords that are not listed change its config."""
    learned = method.startswith("de-pois")
    settings = {
        "method": method,
        "method_params": {},
        "poison": poison,
        "poison_params": params or {},
        "poison_rate": rate,
        "boundary": "quantile",
        "nominal_fpr": 0.05,
        "num_trusted": 500,
        "num_held": 100,
        "num_samples": 1000,
        "num_poisoned": int(1000 * rate),
        "num_classes": 2,
        "image_size": size,
        "boundary_value": 0.05,
        "schedule": "reduced",
        "gan_steps": 200,
        "mimic_steps": 400,
        "judge_steps": 400,
        **config,
    }
    metrics = {
        **found_by(auc, half),
        "threshold": 0.4,
        "classifier": {"clean": 0.98, "poisoned": 0.9, "kept": kept},
    }
    return record.Record(
        "depois",
        method,
        dataset,
        split,
        seed,
        settings,
        metrics,
        {
            "class": {
                str(i): {
                    **found_by(auc - 0.01 * i, half),
                    "num_samples": 500,
                    "num_poisoned": int(500 * rate),
                }
                for i in range(2)
            }
        },
        None,
        {
            "device": "cpu",
            "train_s": 60.0 if learned else 1.5,
            "score_s_per_image": 0.002,
            "peak_memory_mb": 300,
        },
        {
            "commit": None,
            "command": None,
            "versions": {},
            "started": finished,
            "finished": finished,
            "mimic_sha256": sha if learned else None,
        },
    )


def scan(
    hides="benign",
    ratio=0.2,
    flagged=None,
    seed=0,
    trained_seed=0,
    dataset="drawn",
    size=16,
    mean_kl=None,
    sha=None,
    trigger="stop_sign",
    target="shoe",
    rate=0.2,
    scale=1.0,
    on="background",
    psi=None,
    norm=12.0,
    tpr=1.0,
    tnr=0.999,
    name=None,
    limits=(0.002, 0.0001, 0.0141),
    check=True,
    split="none",
    finished="2024-05-01T10:00:00",
    **config,
):
    """A record of kind terd; hides: benign, an attack, or unknown. Keywords that are not listed change its
    config."""
    bad = hides not in ("benign", "unknown")
    flagged, mean_kl = (
        int(bad) if flagged is None else flagged,
        mean_kl or (0.1 if bad else 0.0005) * (1 + 0.1 * trained_seed),
    )
    truth = {
        "name": hides,
        "trigger": trigger,
        "target": target,
        "poison_rate": rate,
        "trigger_scale": scale,
        "trigger_on": on,
    }
    truth |= {"psi": 1.0 if psi is None else psi, "solver": "ode"} if hides == "villan" else {}
    settings = {
        "checkpoint": f"results/{hides}/weights.safetensors",
        "family": "guided-diffusion",
        "image_size": size,
        "num_parameters": 123456,
        "max_timestep": 1000,
        "noise_schedule": "linear",
        "trained_seed": None if hides == "unknown" else trained_seed,
        "truth": truth if bad else None if hides == "unknown" else {},
        "schedule": "reduced",
        "estimate_steps": 60,
        "refine": "readout",
        "refine_steps": 8,
        "starts": ["dark", "bright", "narrow"],
        "num_samples": 1000,
        "rule": "benign-only, 5 networks",
        **config,
    }
    verdict = "not applicable" if flagged == -1 else ("clean", "backdoored")[flagged]
    metrics = {
        "verdict": verdict,
        "backdoored": None if flagged == -1 else flagged,
        "mean_kl": mean_kl,
        "var_kl": mean_kl**2,
        "score": 1000 * mean_kl,
        "threshold": 3.0,
        "fitted": 0.9 if bad else 0.1,
        "gamma": 1.0,
        "trigger_norm": norm * (1 + ratio) if bad else 0.4,
        "true_norm": norm if bad else None,
        "trigger_error": norm * ratio if bad else None,
        "relative_error": ratio if bad else None,
        "reversed_loss": 0.5,
        "start": "dark",
        "limits": limits and dict(zip(("mean_kl", "var_kl", "floor"), limits, strict=True)),
        "input": {"tpr": tpr, "tnr": tnr, "auc": 1.0} if bad else None,
        "check": (
            {"target_mse": 0.0031 if bad else None, "target_reached": 0.99 if bad else None, "frechet": 3.25}
            if check
            else None
        ),
    }
    sha = (
        sha
        or hashlib.sha256(
            repr(
                (
                    hides,
                    trained_seed,
                    trigger,
                    target,
                    rate,
                    scale,
                    psi,
                    size,
                    config.get("max_timestep"),
                    config.get("num_parameters"),
                    config.get("noise_schedule"),
                )
            ).encode()
        ).hexdigest()
    )
    return record.Record(
        "terd",
        name or (f"{hides}-{trigger}-{target}-rate{rate:g}-{size}" if bad else f"{hides}-{size}"),
        dataset,
        split,
        seed,
        settings,
        metrics,
        {"start": {}},
        None,
        {"device": "cpu", "scan_s": 48.3, "nfe": 21000, "peak_memory_mb": 300},
        {
            "commit": None,
            "command": None,
            "versions": {},
            "started": finished,
            "finished": finished,
            "defense_sha256": sha,
        },
    )


def save(folder, found, number=0, grid=False):
    """Write a record where the run that makes it would; returns its path."""
    c = found.config
    last = {"depois": lambda: c["poison"], "terd": lambda: c["schedule"]}.get(
        found.kind, lambda: f"{c['attack']}-eps{c['eps']}"
    )
    run = folder / found.name / found.dataset / "stargan" / "none" / last()
    while (run / f"{number:03d}").exists():
        number += 1
    run = run / f"{number:03d}"
    run.mkdir(parents=True)
    record.write(run / record.FILE, found)
    if grid:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 1200, 3), dtype=np.uint8)).save(
            run / "grid.png"
        )
    return run / record.FILE


def as_dict(path):
    return json.loads(path.read_text())
