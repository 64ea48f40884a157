"""What the training of a detector leaves in its run folder: scores of every test image, pictures, and the
record."""

import csv
import io
import time
from pathlib import Path

from attacks.flags import attack_config
from common import distributed, figures, files, runs
from evaluation import detector_pictures
from metrics import detection
from models.detector.network import CLASSES
from models.detector.train import history
from models.flags import gan_name
from purify.trained import trained_noise
from report import record

# of the bootstrap: for the clean test set; for each domain and the other test sets
RESAMPLES, FEWER = 1000, 200


def write_scores(path, tests, found):
    """scores.csv: every image of every test set with its probability of fake."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["test_set", "name", "domain", "label", "probability_fake"])
    for name, samples in tests.items():
        for row in zip(
            samples.names, samples.domains, samples.labels.tolist(), found[name].tolist(), strict=True
        ):
            writer.writerow([name, row[0], row[1] or "", CLASSES[row[2]], f"{row[3]:.6f}"])
    files.write_atomic(path, out.getvalue())


def save_pictures(run, tests, found):
    """curves.png, roc.png, and predictions.png: eight photos in even steps through the clean test set, each
    with its fake."""
    clean = tests["clean"]
    # a photo and its fake
    chosen = [i + k for i in range(0, len(clean) - 1, max(2, len(clean) // 16 * 2)) for k in range(2)][:16]
    pictures = {
        "curves": detector_pictures.training_curves(history(run)),
        "roc": detector_pictures.roc_curves(
            {name: (s.labels.numpy(), found[name]) for name, s in tests.items()}
        ),
        "predictions": detector_pictures.prediction_grid(
            clean.floats(chosen),
            [clean.names[i] for i in chosen],
            clean.labels[chosen].tolist(),
            found["clean"][chosen],
        ),
    }
    for name, figure in pictures.items():
        files.write_atomic(run.folder / f"{name}.png", figures.png(figure))


def make_record(args, name, stage, seed, run, sets, tests, found, seconds, started, ctx):
    """The Record of one training.

    Args:   args, stage  of train_detector.py;  name  of the condition;  seed  of the training;  sets
                         (training, validation)
            tests        {test set: Samples};  found  {test set: (N,) probability of fake};  seconds, started
                         of the training
    """
    of = {
        name: detection.scores_of(
            t.labels.numpy(), found[name], t.names, args.seed, RESAMPLES if name == "clean" else FEWER
        )
        for name, t in tests.items()
    }
    epochs, clean = history(run), tests["clean"]
    metrics = {
        **of["clean"],
        "disrupted": of.get("disrupted"),
        "purified": of.get("purified"),
        "validation": {"accuracy": epochs[-1]["val_accuracy"], "loss": epochs[-1]["val_loss"]},
    }
    config = {
        "detector": args.detector,
        "base": args.base,
        "pretrained": args.weights and Path(args.weights).name,
        "pretrained_sha256": args.weights and files.sha256(args.weights),
        "condition": args.condition,
        "gan": gan_name(args),
        "gan_type": args.gan_type,
        "gan_style": args.gan_style and Path(args.gan_style).name,
        "defense": args.defense_model_type,
        "defense_params": stage.purifier.params,
        "defense_noise": trained_noise(stage.defense_weights),
        **attack_config(args, stage.attack),
        "poison_rate": args.poison_rate,
        "data_seed": args.seed,
        "num_photos": len(stage.b),
        "num_train": len(sets[0]),
        "num_validation": len(sets[1]),
        "num_test": len(clean),
        "image_size": args.image_size,
        "celeba_crop_size": args.celeba_crop_size,
        "epochs": args.epochs,
        "lr": args.lr,
        "lr_schedule": args.lr_schedule,
        "batch_size": args.batch_size,
        "data_augmentation": args.data_augmentation,
        "precision": args.precision,
        "kept": args.kept_names and Path(args.kept_names).name,
        "kept_sha256": getattr(args, "kept_sha256", None),
        "kept_filter": stage.kept_filter,
        "skipped": stage.b.skipped + stage.c.skipped,
        "gan_training_data": args.gan_training_data or stage.standard.meta.get("trained_on") or "unknown",
    }
    provenance = {
        "commit": runs.commit(),
        "command": runs.command(),
        "versions": runs.versions(),
        "gan_sha256": stage.standard.sha256,
        "training_gan_sha256": stage.translator.sha256,
        "defense_sha256": stage.purifier.sha256,
        "attacked_key": stage.attacked_key,
        "detector_sha256": files.sha256(run.folder / "weights.safetensors"),
        "started": started,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    of_whole = (
        {"train_s": None, "epoch_s": None}
        if run.resumed
        else {"train_s": seconds, "epoch_s": epochs[-1]["seconds"] / len(epochs)}
    )
    cost = {"device": str(ctx.device), **of_whole, "peak_memory_mb": distributed.peak_memory_mb(ctx.device)}
    groups = {
        "domain": detection.by_domain(
            clean.labels.numpy(), found["clean"], clean.names, clean.domains, args.seed, FEWER
        )
    }
    return record.Record(
        "detector", name, args.dataset, "c", seed, config, metrics, groups, None, cost, provenance
    )
