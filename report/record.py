"""record.json: what one run found. One shape for all kinds, one schema per kind; tables and plots read
nothing else.

A value that was not measured is null; NaN and infinity are never written. A schema lists what a record must
hold, more is allowed.
"""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from common import files
from common.cli import UserError

FORMAT = 1
FILE = "record.json"

# What stands in a schema: a type (null is allowed everywhere), a dict of named parts, Each(schema), or a
# tuple: one of several.
NUMBER, COUNT, TEXT, LIST, DICT, INTERVAL = (
    "number",
    "whole number",
    "text",
    "list",
    "object",
    "interval [low, high]",
)


@dataclass(frozen=True)
class Each:
    """An object of any names, each of whose values fits `schema`."""

    schema: dict


def _means(*keys):
    """Each mean stands with its standard deviation and its 95% interval."""
    return {
        name: kind
        for key in keys
        for name, kind in ((key, NUMBER), (key + "_std", NUMBER), (key + "_ci", INTERVAL))
    }


def _scores(*keys):
    """Figures of a whole set, which have an interval but no standard deviation."""
    return {name: kind for key in keys for name, kind in ((key, NUMBER), (key + "_ci", INTERVAL))}


FAKES = {
    **_means("l1", "l2", "prop_dist", "l2_mask", "sr_mask", "psnr", "ssim"),
    "linf": NUMBER,
    "empty_masks": COUNT,
    "fid": NUMBER,
    "kid": NUMBER,
    "frechet": NUMBER,
}
PHOTOS = {**_means("l2", "psnr", "ssim"), "linf": NUMBER}
JUDGED = {**_means("accuracy"), **_scores("auc", "ap", "eer", "ece")}  # a detector on one test set
# a finder of poisoned samples
FOUND = _scores("accuracy", "precision", "recall", "f1", "auc", "tpr_at_1", "tpr_at_5", "fpr")
FEATURES = {"name": TEXT, "sha256": TEXT, "resize": TEXT, "backend": TEXT}
PROVENANCE = {
    "commit": TEXT,
    "command": TEXT,
    "versions": DICT,
    "started": (TEXT, NUMBER),
    "finished": (TEXT, NUMBER),
}
COST = {"device": TEXT}

SCHEMAS = {
    "defense": {
        "config": {
            "gan": TEXT,
            "defense": TEXT,
            "defense_params": DICT,
            "defense_noise": TEXT,
            "attack": TEXT,
            "eps": NUMBER,
            "attack_steps": COUNT,
            "attack_step_size": NUMBER,
            "attack_target": TEXT,
            "attack_label": TEXT,
            "attack_on": TEXT,
            "attack_through": TEXT,
            "num_images": COUNT,
            "num_pairs": COUNT,
            "image_size": COUNT,
            "gan_training_data": TEXT,
        },
        "metrics": {
            "disrupted": FAKES,
            "purified": FAKES,
            "clean_purified": FAKES,
            "input": {"disrupted": PHOTOS, "purified": PHOTOS, "clean_purified": PHOTOS},
        },
        "per_group": {"domain": DICT},
        "cost": {
            **COST,
            "nfe": NUMBER,
            "attack_s_per_image": NUMBER,
            "purify_s_per_image": NUMBER,
            "peak_memory_mb": NUMBER,
        },
        "provenance": {**PROVENANCE, "gan_sha256": TEXT, "defense_sha256": TEXT, "attacked_key": TEXT},
    },
    # fake = 1, real = 0; one training seed, tested on clean photos of C and clean fakes, beside it on
    # disrupted and purified ones
    "detector": {
        "config": {
            "detector": TEXT,
            "base": TEXT,
            "pretrained": TEXT,
            "condition": TEXT,
            "gan": TEXT,
            "defense": TEXT,
            "defense_params": DICT,
            "defense_noise": TEXT,
            "attack": TEXT,
            "eps": NUMBER,
            "attack_steps": COUNT,
            "attack_step_size": NUMBER,
            "attack_target": TEXT,
            "attack_label": TEXT,
            "poison_rate": NUMBER,
            "num_photos": COUNT,
            "num_train": COUNT,
            "num_validation": COUNT,
            "num_test": COUNT,
            "image_size": COUNT,
            "epochs": COUNT,
            "kept": TEXT,
            "gan_training_data": TEXT,
        },
        "metrics": {
            **JUDGED,
            "disrupted": JUDGED,
            "purified": JUDGED,
            "validation": {"accuracy": NUMBER, "loss": NUMBER},
        },
        "per_group": {"domain": DICT},
        "cost": {**COST, "train_s": NUMBER, "epoch_s": NUMBER, "peak_memory_mb": NUMBER},
        "provenance": {
            **PROVENANCE,
            "detector_sha256": TEXT,
            "gan_sha256": TEXT,
            "defense_sha256": TEXT,
            "attacked_key": TEXT,
        },
    },
    # a disruption against several translators; per_group: fakes of the protected photos, rmse = mean over
    # pairs of the root of l2
    "dadfi": {
        "config": {
            "translators": LIST,
            "attack": TEXT,
            "eps": NUMBER,
            "attack_steps": COUNT,
            "attack_step_size": NUMBER,
            "attack_target": TEXT,
            "attack_label": TEXT,
            "crafted_on": TEXT,
            "attack_weights": TEXT,
            "trained_on_victims": LIST,
            "finetuning": TEXT,
            "variant": TEXT,
            "num_images": COUNT,
            "image_size": COUNT,
        },
        "metrics": {"input": PHOTOS, "worst": {"l2": NUMBER, "translator": TEXT}},
        "per_group": {"translator": Each({**FAKES, **_means("rmse"), "num_pairs": COUNT})},
        "cost": {**COST, "attack_s_per_image": NUMBER, "peak_memory_mb": NUMBER},
        "provenance": {**PROVENANCE, "gan_sha256": DICT, "attacked_key": TEXT},
    },
    # one method that finds poisoned samples among those examined; poisoned = 1. per_group: each class alone
    "depois": {
        "config": {
            "method": TEXT,
            "method_params": DICT,
            "poison": TEXT,
            "poison_params": DICT,
            "poison_rate": NUMBER,
            "boundary": TEXT,
            "nominal_fpr": NUMBER,
            "num_trusted": COUNT,
            "num_held": COUNT,
            "num_samples": COUNT,
            "num_poisoned": COUNT,
            "num_classes": COUNT,
            "image_size": COUNT,
        },
        "metrics": {
            **FOUND,
            "threshold": NUMBER,
            "classifier": {"clean": NUMBER, "poisoned": NUMBER, "kept": NUMBER},
        },
        "per_group": {"class": Each({**FOUND, "num_samples": COUNT, "num_poisoned": COUNT})},
        "cost": {**COST, "train_s": NUMBER, "score_s_per_image": NUMBER, "peak_memory_mb": NUMBER},
        "provenance": {**PROVENANCE, "mimic_sha256": TEXT},
    },
    # a scan of diffusion weights for a backdoor; truth: what the file says was put in, null where it says
    # nothing. tpr, tnr: of triggered, clean noise
    "terd": {
        "config": {
            "checkpoint": TEXT,
            "family": TEXT,
            "image_size": COUNT,
            "num_parameters": COUNT,
            "max_timestep": COUNT,
            "noise_schedule": TEXT,
            "trained_seed": COUNT,
            "truth": DICT,
            "schedule": TEXT,
            "estimate_steps": COUNT,
            "refine": TEXT,
            "refine_steps": COUNT,
            "starts": LIST,
            "num_samples": COUNT,
            "rule": TEXT,
        },
        "metrics": {
            "verdict": TEXT,
            "backdoored": NUMBER,
            "mean_kl": NUMBER,
            "var_kl": NUMBER,
            "score": NUMBER,
            "threshold": NUMBER,
            "fitted": NUMBER,
            "gamma": NUMBER,
            "trigger_norm": NUMBER,
            "true_norm": NUMBER,
            "trigger_error": NUMBER,
            "relative_error": NUMBER,
            "reversed_loss": NUMBER,
            "start": TEXT,
            "limits": {"mean_kl": NUMBER, "var_kl": NUMBER, "floor": NUMBER},
            "input": {"tpr": NUMBER, "tnr": NUMBER, "auc": NUMBER},
            "check": {"target_mse": NUMBER, "target_reached": NUMBER, "frechet": NUMBER},
        },
        "per_group": {"start": DICT},
        "cost": {**COST, "scan_s": NUMBER, "nfe": NUMBER, "peak_memory_mb": NUMBER},
        "provenance": {**PROVENANCE, "defense_sha256": TEXT},
    },
    "benchmark": {  # metrics: {what was timed: {"seconds", "reference_seconds", "ratio"}}
        "config": {"num_images": COUNT, "image_size": COUNT},
        "metrics": {},
        "per_group": {},
        "cost": COST,
        "provenance": PROVENANCE,
    },
}


@dataclass(frozen=True)
class Record:
    """What one run found: `config` says what was run, `metrics` what came out.  JSON types only; eps in [-1,
    1] units."""

    kind: str
    name: str
    dataset: str
    split: str
    seed: int
    config: dict
    metrics: dict
    per_group: dict
    features: dict | None
    cost: dict
    provenance: dict


def plain(value):
    """JSON types: numpy and torch numbers become Python's, tuples become lists, NaN and infinity become
    None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist") and not isinstance(value, (str, bytes)):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


def _fits(value, kind):
    if isinstance(kind, tuple):
        return any(_fits(value, k) for k in kind)
    if value is None:
        return True
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if kind == INTERVAL:
        return (
            isinstance(value, list)
            and len(value) == 2
            and all(v is not None and _fits(v, NUMBER) for v in value)
            and value[0] <= value[1]
        )
    return {
        NUMBER: number,
        COUNT: number and value == int(value),
        TEXT: isinstance(value, str),
        LIST: isinstance(value, list),
        DICT: isinstance(value, dict),
    }[kind]


def _check(value, schema, where):
    if isinstance(schema, Each):
        schema = {key: schema.schema for key in value} if isinstance(value, dict) else {}
    if not isinstance(schema, dict):
        kinds = schema if isinstance(schema, tuple) else (schema,)
        return (
            []
            if _fits(value, schema)
            else [f"{where}: expected {' or '.join(kinds)} or null, found {value!r:.60}"]
        )
    if value is None:
        return []
    if not isinstance(value, dict):
        return [f"{where}: expected an object or null, found {value!r:.60}"]
    missing = [f"{where}.{key}: missing" for key in schema if key not in value]
    return missing + [
        p for key, part in schema.items() if key in value for p in _check(value[key], part, f"{where}.{key}")
    ]


def validate(found):
    """Problems of a record given as a dict (the content of record.json), one line each; an empty list =
    valid."""
    if not isinstance(found, dict):
        return [f"expected an object, found {type(found).__name__}"]
    if found.get("format") != FORMAT:
        return [f"format: expected {FORMAT}, found {found.get('format')!r:.40}"]
    if not isinstance(found.get("kind"), str) or found["kind"] not in SCHEMAS:
        return [f"kind: unknown kind {found.get('kind')!r:.40} (known: {', '.join(SCHEMAS)})"]
    names = [f.name for f in fields(Record)]
    problems = [f"{name}: missing" for name in names if name not in found]
    for name, kind in (
        ("name", TEXT),
        ("dataset", TEXT),
        ("split", TEXT),
        ("seed", COUNT),
        ("features", FEATURES),
    ):
        if name in found:
            problems += _check(found[name], kind, name)
    for name, schema in SCHEMAS[found["kind"]].items():
        if name in found:
            problems += (
                [f"{name}: expected an object, found null"]
                if found[name] is None
                else _check(found[name], schema, name)
            )
    if "name" in found and not found["name"]:
        problems.append("name: expected text, found nothing")
    return problems


def write(path, record):
    """Write a record whole or not at all.  Raises ValueError, which names every problem, if it does not fit
    its kind."""
    found = plain({"format": FORMAT, **asdict(record)})
    problems = validate(found)
    if problems:
        raise ValueError(f"{path}: not a valid record of kind {record.kind!r}: {'; '.join(problems)}")
    files.write_json(path, found)


def _refuse(word):
    raise ValueError(f"holds {word}, which is not JSON")


def read(path):
    """Read what write wrote.  Raises UserError, one line, if the file is missing, damaged, or of an unknown
    kind or format."""
    try:
        found = json.loads(Path(path).read_bytes().decode(), parse_constant=_refuse)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from e
    except (ValueError, RecursionError) as e:
        raise UserError(
            f"{path}: damaged, not JSON ({' '.join(str(e).split())[:80]}); run that test again"
        ) from e
    problems = validate(found)
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(f"{path}: not a record of this project: {'; '.join(problems[:3])}{more}")
    return Record(**{f.name: found[f.name] for f in fields(Record)})


def read_all(folder):
    """Every record below a folder.

    Returns: ([(path, Record), ...] sorted by path, [one line per record.json that could not be read, which
             names it])
    Raises:  UserError if the folder does not exist or holds no record.json at all.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such results folder; test_defense.py writes one")
    paths = sorted(folder.rglob(FILE))
    if not paths:
        raise UserError(
            f"{folder}: holds no {FILE}, so there is nothing to compare; run test_defense.py first"
        )
    records, problems = [], []
    for path in paths:
        try:
            records.append((path, read(path)))
        except UserError as e:
            problems.append(str(e))
    return records, problems
