"""What the training of a detector leaves in its run folder: scores of every test image, pictures, and the
record."""

import csv
import io
from collections.abc import Sequence, Sized
from pathlib import Path

import numpy as np

from attacks.flags import attack_config, through_config
from common import distributed, figures, files, runs
from evaluation.detector_stage import DetectorOptions, Stage
from metrics import detection
from models.detector.network import CLASSES
from models.detector.samples import Samples
from models.detector.train import history
from models.flags import gan_name
from purify.trained import trained_noise
from report import record

# of the bootstrap: for the clean test set; for each domain and the other test sets
RESAMPLES, FEWER = 1000, 200


def write_scores(path: Path, tests: dict[str, Samples], p: dict[str, np.ndarray]) -> None:
    """scores.csv: every image of every test set with its probability of fake."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["test_set", "name", "domain", "label", "probability_fake"])
    for name, samples in tests.items():
        for row in zip(
            samples.names, samples.domains, samples.labels.tolist(), p[name].tolist(), strict=True
        ):
            writer.writerow([name, row[0], row[1] or "", CLASSES[row[2]], f"{row[3]:.6f}"])
    files.write_atomic(path, out.getvalue())


def save_pictures(run: runs.Run, tests: dict[str, Samples], p: dict[str, np.ndarray]) -> None:
    """curves.png of a training, roc.png, and predictions.png: eight photos in even steps through the clean
    test set, each with its fake."""
    # here: matplotlib and scikit-learn are slow to load, and the pictures come after the training
    from evaluation import detector_pictures
    from models.detector import pictures

    clean = tests["clean"]
    # a photo and its fake
    chosen = [i + k for i in range(0, len(clean) - 1, max(2, len(clean) // 16 * 2)) for k in range(2)][:16]
    trained = (run.folder / "log.jsonl").exists()
    shown = ({"curves": detector_pictures.training_curves(history(run))} if trained else {}) | {
        "roc": detector_pictures.roc_curves({name: (s.labels.numpy(), p[name]) for name, s in tests.items()}),
        "predictions": pictures.prediction_grid(
            clean.floats(chosen),
            [clean.names[i] for i in chosen],
            clean.labels[chosen].tolist(),
            p["clean"][chosen],
        ),
    }
    for name, figure in shown.items():
        files.write_atomic(run.folder / f"{name}.png", figures.png(figure))


def make_record(
    options: DetectorOptions,
    name: str,
    stage: Stage,
    seed: int,
    run: runs.Run,
    sets: Sequence[Sized],
    tests: dict[str, Samples],
    p: dict[str, np.ndarray],
    seconds: float,
    started: float,
    ctx: distributed.Context,
) -> record.Record:
    """The Record of one training, or of the scores of one that took place elsewhere.

    Args:   name   of the condition;  seed  of the training;  sets  (training, validation), counted;  tests
                   {test set: Samples};  p  {test set: (N,) probability of fake}
            seconds  that the training took;  started  seconds since the epoch
    """
    outside = options.scores is not None
    of = {
        name: detection.scores_of(
            t.labels.numpy(), p[name], t.names, options.seed, RESAMPLES if name == "clean" else FEWER
        )
        for name, t in tests.items()
    }
    epochs, clean = [] if outside else history(run), tests["clean"]
    metrics = {
        **of["clean"],
        "disrupted": of.get("disrupted"),
        "purified": of.get("purified"),
        "other": {name: v for name, v in of.items() if name not in ("clean", "disrupted", "purified")},
        "validation": {"accuracy": epochs[-1]["val_accuracy"], "loss": epochs[-1]["val_loss"]}
        if epochs
        else None,
    }
    config = {
        "detector": options.detector,
        "base": options.base,
        "pretrained": options.weights and Path(options.weights).name,
        "pretrained_sha256": options.weights and files.sha256(options.weights),
        "condition": options.condition,
        "training_fakes": options.training_fakes,
        "gan": gan_name(options),
        "gan_type": options.gan_type,
        "gan_style": options.gan_style and Path(options.gan_style).name,
        "defense": options.defense_model_type,
        "defense_params": stage.purifier.params,
        "defense_noise": trained_noise(options.defense_weights),
        **attack_config(options, stage.attack),
        **through_config(options, stage.attack, stage.attacked_through),
        "poison_rate": options.poison_rate,
        "data_seed": options.seed,
        "num_photos": len(stage.b),
        "num_train": len(sets[0]),
        "num_validation": len(sets[1]),
        "num_test": len(clean),
        "image_size": options.image_size,
        "celeba_crop_size": options.celeba_crop_size,
        "epochs": options.epochs,
        "lr": options.lr,
        "lr_schedule": options.lr_schedule,
        "batch_size": options.batch_size,
        "data_augmentation": options.data_augmentation,
        "precision": options.precision,
        "test_gan": [word.partition("=")[0] for word in options.test_gan],
        "train_gan": [word.partition("=")[0] for word in options.train_gan],
        "recompress_training": options.recompress_training,
        "unpaired": options.unpaired,
        "balance": options.balance,
        "kept": options.kept_names and Path(options.kept_names).name,
        "kept_sha256": stage.kept_sha256,
        "kept_filter": stage.kept_filter,
        "skipped": stage.b.skipped + stage.c.skipped,
        "gan_training_data": options.gan_training_data or stage.standard.meta.get("trained_on") or "unknown",
    }
    provenance = runs.provenance(
        started,
        gan_sha256=stage.standard.sha256,
        training_gan_sha256=stage.translator.sha256,
        through_sha256=stage.attack.defence and stage.attack.defence.purifier.sha256,
        defense_sha256=stage.purifier.sha256,
        attacked_key=stage.attacked_key,
        detector_sha256=None if outside else files.sha256(run.folder / "weights.safetensors"),
        **({"scores_sha256": [files.sha256(path) for path in options.scores]} if outside else {}),
    )
    of_whole = (
        {"train_s": None, "epoch_s": None}
        if run.resumed or outside
        else {"train_s": seconds, "epoch_s": epochs[-1]["seconds"] / len(epochs)}
    )
    cost = {
        "device": None if outside else str(ctx.device),
        **of_whole,
        "peak_memory_mb": None if outside else distributed.peak_memory_mb(ctx.device),
    }
    cost["photos_at_a_time"] = stage.scraped[0].at_a_time
    groups = {
        "domain": detection.by_domain(
            clean.labels.numpy(), p["clean"], clean.names, clean.domains, options.seed, FEWER
        )
    }
    return record.Record(
        "detector", name, options.dataset, "c", seed, config, metrics, groups, None, cost, provenance
    )
