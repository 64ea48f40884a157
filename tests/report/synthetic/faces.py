"""Made-up records of what faces are measured by: defences, detectors, disruptions."""

from report import record


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


def met(name, attack="worst", l2=0.1, through="self", sha=None, **config):
    """A record of kind defense under an attacker who knows it; `none` needs no way through.  sha  of its
    weights"""
    own = name.rsplit("-q", 1)[0].rsplit("-t", 1)[0]
    config = {"attack_target": "clean", "attack_label": "target", "attack_steps": None, **config}
    through = None if name == "none" else through
    found = defense(name, l2=l2, attack=attack, attack_through=through, defense=own, **config)
    found.provenance["defense_sha256"] = sha
    return found


def ignoring(name, l2=0.01, attack="pgd", **config):
    """The same under an attacker who knows the translator alone."""
    return met(name, attack, l2, through=None, **{"attack_steps": 10, **config})


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
