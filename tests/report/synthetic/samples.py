"""Made-up records of finders of poisoned samples and of scans of diffusion weights."""

import hashlib

from report import record


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
