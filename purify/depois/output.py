"""What an examination leaves in its run folder: every sample's scores and verdicts, the names to keep, a
picture, and a record for each method."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from attacks.poison.base import Poison
from common import distributed, figures, files, images, runs
from faces.labelled import Labelled
from metrics import finding
from purify.depois.options import Options
from report import record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 8  # samples in each row of the picture


@dataclass(frozen=True)
class Verdict:
    """What one method says of the examined samples.

    name, params   of the method, for records;  scores (N,) higher = cleaner;  threshold  at or below it a
                   sample is dropped
    train_s, score_s  seconds of its training and of one sample's score;  weights  path of its critic, or None
    """

    name: str
    params: dict
    scores: np.ndarray
    threshold: float
    train_s: float | None
    score_s: float
    weights: Path | None

    @property
    def dropped(self) -> np.ndarray:
        """(N,) bool."""
        return self.scores <= self.threshold


@dataclass(frozen=True)
class Examination:
    """A set of samples and what each method says of it.

    name     of the poison; `unknown` where nobody knows which samples are poisoned: then nothing is measured
    poison   what was put in, or None;  clean  the set before that;  samples  as examined
    truth    (N,) bool, which samples are poisoned, or None
    taught   {method: {"clean", "poisoned", "kept"}}, the accuracy of classifiers that learned from these
    seed     of the critic and of the poison
    num_trusted, num_held  images that networks learned from, that set the boundary
    trusted_sha256  of the former;  gan_sha256  of the translator of a detector's fakes, or None
    """

    name: str
    poison: Poison | None
    clean: Labelled
    samples: Labelled
    truth: np.ndarray | None
    verdicts: dict[str, Verdict]
    taught: dict[str, dict]
    seed: int
    num_trusted: int
    num_held: int
    trusted_sha256: str
    gan_sha256: str | None


def write_output(run: runs.Run, options: Options, done: Examination, ctx: distributed.Context) -> None:
    """Everything of one examination; scores.csv last, which marks it as finished.  Where the truth is not
    known no record is written."""
    for method, verdict in done.verdicts.items():
        folder = files.make_folder(run.folder / method)
        files.write_atomic(folder / "kept.txt", kept_text(verdict, done.samples))
        if done.truth is None:
            ctx.print(
                f"{method}: drops {verdict.dropped.sum()} of {len(done.samples)} samples"
                f" ({verdict.dropped.mean():.1%})"
            )
            continue
        result = make_record(run, options, done, method, ctx.device)
        record.write(folder / record.FILE, result)
        ctx.print(f"{done.name}, seed {done.seed}, {verdict.name}: {headline(result.metrics)}")
    first = next(iter(done.verdicts.values()))
    files.write_atomic(run.folder / "found.png", figures.png(draw_samples(first, done.samples, done.truth)))
    files.write_atomic(
        run.folder / "scores.csv",
        scores_text(done.samples, done.clean, done.truth, done.verdicts),
        durable=True,
    )


def headline(metrics: dict) -> str:
    """The figures that the console shows."""
    words = {"AUROC": "auc", "accuracy": "accuracy", "F1": "f1", "false positives": "fpr"}
    return ", ".join(
        f"{word} {'-' if metrics[key] is None else f'{metrics[key]:.3f}'}" for word, key in words.items()
    )


def kept_text(verdict: Verdict, samples: Labelled) -> str:
    """A file for train_detector.py --kept_names: the names that are kept, a line each, after what kept
    them."""
    dropped = verdict.dropped
    lines = [
        f"# filter: {verdict.name}",
        (
            f"# keeps {int((~dropped).sum())} of {len(samples)} samples: those with a score above"
            f" {verdict.threshold:.6g}"
        ),
    ]
    return (
        "\n".join(lines + [name for name, gone in zip(samples.names, dropped, strict=True) if not gone])
        + "\n"
    )


def scores_text(
    samples: Labelled, clean: Labelled, truth: np.ndarray | None, verdicts: dict[str, Verdict]
) -> str:
    """scores.csv: name, label as found, label before poisoning, poisoned (where it is known), and score and
    verdict of every method."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "name",
            "label",
            "label_before",
            "poisoned",
            *(f"{method}{end}" for method in verdicts for end in ("", "_dropped")),
        ]
    )
    classes = samples.classes
    for i, name in enumerate(samples.names):
        known = ["", ""] if truth is None else [classes[clean.labels[i]], int(truth[i])]
        judged = [
            v for verdict in verdicts.values() for v in (f"{verdict.scores[i]:.6g}", int(verdict.dropped[i]))
        ]
        writer.writerow([name, classes[samples.labels[i]], *known, *judged])
    return out.getvalue()


def make_record(
    run: runs.Run, options: Options, done: Examination, method: str, device: torch.device
) -> record.Record:
    """The Record of one method in one examination whose truth is known."""
    verdict, samples = done.verdicts[method], done.samples
    rule, value = options.rule
    # baselines have none
    schedule = {
        key: getattr(options, key) if verdict.weights else None
        for key in ("schedule", "gan_steps", "mimic_steps")
    }
    config = {
        "method": verdict.name,
        "method_params": verdict.params,
        "poison": done.name,
        "poison_params": done.poison.params if done.poison else {},
        "poison_rate": options.poison_rate if done.name != "none" else 0.0,
        "boundary": rule,
        "boundary_value": value,
        "nominal_fpr": finding.nominal_fpr(rule, value),
        "num_trusted": done.num_trusted,
        "num_held": done.num_held,
        "num_samples": len(samples),
        "num_poisoned": int(done.truth.sum()),
        "num_classes": len(samples.classes),
        "image_size": samples.shape[1],
        **schedule,
        "trusted_share": options.trusted_share,
        "judge_steps": options.judge_steps,
    }
    metrics = {
        **finding.measure(done.truth, verdict.scores, verdict.threshold, done.seed),
        "threshold": verdict.threshold,
        "classifier": done.taught[method],
    }
    groups = {"class": {}}
    if len(samples.classes) == 2:
        groups["class"] = finding.measure_classes(
            done.truth, verdict.scores, verdict.threshold, samples.labels.numpy(), samples.classes, done.seed
        )
    cost = {
        "device": str(device),
        "train_s": verdict.train_s,
        "score_s_per_image": verdict.score_s,
        "peak_memory_mb": distributed.peak_memory_mb(device),
    }
    provenance = runs.provenance(
        run.started,
        mimic_sha256=verdict.weights and files.sha256(verdict.weights),
        trusted_sha256=done.trusted_sha256,
        gan_sha256=done.gan_sha256,
    )
    return record.Record(
        "depois",
        verdict.name,
        options.dataset_name,
        "b" if options.dataset == "detector" else "train",
        done.seed,
        config,
        metrics,
        groups,
        None,
        cost,
        provenance,
    )


def draw_samples(verdict: Verdict, samples: Labelled, truth: np.ndarray | None) -> "Figure":
    """Samples of the lowest and of the highest score among those dropped and kept, rightly and wrongly; by
    score alone where the truth is not known."""
    dropped, order = verdict.dropped, np.argsort(verdict.scores, kind="stable")

    def near(rows):
        return rows[::-1]  # closest to the boundary, or the surest, first

    if truth is None:
        rows = {
            "dropped": order[dropped[order]],
            "kept, most suspicious": order[~dropped[order]],
            "kept, cleanest": near(order[~dropped[order]]),
        }
    else:
        rows = {
            "poisoned, dropped": order[(truth & dropped)[order]],
            "poisoned, kept": near(order[(truth & ~dropped)[order]]),
            "clean, dropped": order[(~truth & dropped)[order]],
            "clean, kept": near(order[(~truth & ~dropped)[order]]),
        }
    rows = {title: chosen for title, chosen in rows.items() if len(chosen)}
    figure = figures.new_figure(1.05 * SHOWN + 1.6, 1.35 * len(rows) + 0.3)
    cells = figure.subplots(len(rows), SHOWN, squeeze=False)
    for line, (title, chosen) in zip(cells, rows.items(), strict=False):
        for axes in line:
            axes.set_axis_off()
        for axes, i in zip(line, chosen[:SHOWN], strict=False):
            axes.imshow(images.to_uint8(samples.floats([i]))[0].squeeze(), cmap="gray", vmin=0, vmax=255)
            axes.set_title(f"{samples.classes[samples.labels[i]]}   {verdict.scores[i]:.2f}", fontsize=8)
        line[0].text(
            -0.08,
            0.5,
            f"{title}\n({len(chosen)})",
            transform=line[0].transAxes,
            ha="right",
            va="center",
            fontsize=9,
        )
    figure.suptitle(f"{verdict.name}: label and score, boundary {verdict.threshold:.2f}", fontsize=10)
    return figure
