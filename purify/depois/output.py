"""What an examination leaves in its run folder: every sample's scores and verdicts, the names to keep, a
picture, and a record for each method."""

import csv
import io
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

from common import distributed, figures, files, images, runs
from metrics import finding
from models.depois.classifier import accuracy, fit
from report import record

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
    def dropped(self):
        """(N,) bool."""
        return self.scores <= self.threshold


def write_output(run, args, name, poison, rows, poisoned, examiner, verdicts, ctx):
    """Everything of one examination; scores.csv last, which marks it as finished.

    Args:   name  of the poison, `unknown` where nobody knows which samples are poisoned: then nothing is
                  measured and no record written
            poison, rows  what was put in, and where; None and none of the clean set;  poisoned
                          models.depois.data.Labelled, as examined
            examiner  of purify.depois, with .task, .seed and .taught;  verdicts  {method: Verdict}
    """
    task, truth = examiner.task, np.isin(np.arange(len(poisoned)), rows)
    if name == "unknown":
        for method, verdict in verdicts.items():
            files.write_atomic(
                files.make_folder(run.folder / method) / "kept.txt", kept_text(verdict, poisoned)
            )
            ctx.print(
                f"{method}: drops {verdict.dropped.sum()} of {len(poisoned)} samples"
                f" ({verdict.dropped.mean():.1%})"
            )
    else:
        measured = judge(poisoned, verdicts, examiner)
        for method, verdict in verdicts.items():
            folder = files.make_folder(run.folder / method)
            files.write_atomic(folder / "kept.txt", kept_text(verdict, poisoned))
            made = make_record(
                run, args, name, poison, truth, poisoned, examiner, verdict, measured[method], ctx
            )
            record.write(folder / record.FILE, made)
            m = made.metrics
            ctx.print(
                f"{name}, seed {examiner.seed}, {verdict.name}: "
                + ", ".join(
                    f"{word} {'-' if m[key] is None else f'{m[key]:.3f}'}"
                    for word, key in (
                        ("AUROC", "auc"),
                        ("accuracy", "accuracy"),
                        ("F1", "f1"),
                        ("false positives", "fpr"),
                    )
                )
            )
    first = next(iter(verdicts.values()))
    files.write_atomic(
        run.folder / "found.png", figures.png(picture(first, poisoned, truth if name != "unknown" else None))
    )
    files.write_atomic(
        run.folder / "scores.csv",
        scores_text(poisoned, task.examined, truth if name != "unknown" else None, verdicts),
    )


def kept_text(verdict, samples):
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


def scores_text(samples, clean, truth, verdicts):
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


def boundary_of(args):
    """(rule, value)"""
    return args.boundary, args.clean_quantile if args.boundary == "quantile" else args.boundary_z


def taught_by(samples, examiner):
    """Accuracy on clean test images of a small classifier that learned from the samples.

    None without a test set, or where a class is gone: what is left teaches something else.
    """
    test, steps, device = examiner.task.test, examiner.args.judge_steps, examiner.ctx.device
    if not steps or test is None or len(set(samples.labels.tolist())) < len(samples.classes):
        return None
    return accuracy(fit(samples, examiner.seed, steps, device), test, device)


def judge(poisoned, verdicts, examiner):
    """{method: {"clean", "poisoned", "kept"}} of taught_by."""
    both = {"clean": examiner.taught, "poisoned": taught_by(poisoned, examiner)}
    return {
        method: {**both, "kept": taught_by(poisoned.subset(np.flatnonzero(~v.dropped)), examiner)}
        for method, v in verdicts.items()
    }


def make_record(run, args, name, poison, truth, poisoned, examiner, verdict, taught, ctx):
    """The Record of one method in one examination."""
    task, seed = examiner.task, examiner.seed
    rule, value = boundary_of(args)
    # baselines have none
    schedule = {
        key: getattr(args, key) if verdict.weights else None
        for key in ("schedule", "gan_steps", "mimic_steps")
    }
    config = {
        "method": verdict.name,
        "method_params": verdict.params,
        "poison": name,
        "poison_params": poison.params if poison else {},
        "poison_rate": args.poison_rate if name != "none" else 0.0,
        "boundary": rule,
        "boundary_value": value,
        "nominal_fpr": finding.nominal_fpr(rule, value),
        "num_trusted": len(task.trusted),
        "num_held": len(task.held),
        "num_samples": len(poisoned),
        "num_poisoned": int(truth.sum()),
        "num_classes": len(poisoned.classes),
        "image_size": poisoned.shape[1],
        **schedule,
        "trusted_share": args.trusted_share,
        "judge_steps": args.judge_steps,
    }
    metrics = {
        **finding.found(truth, verdict.scores, verdict.threshold, seed),
        "threshold": verdict.threshold,
        "classifier": taught,
    }
    groups = {"class": {}}
    if len(poisoned.classes) == 2:
        groups["class"] = finding.by_class(
            truth, verdict.scores, verdict.threshold, poisoned.labels.numpy(), poisoned.classes, seed
        )
    cost = {
        "device": str(ctx.device),
        "train_s": verdict.train_s,
        "score_s_per_image": verdict.score_s,
        "peak_memory_mb": distributed.peak_memory_mb(ctx.device),
    }

    def stamp(seconds=None):
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))

    provenance = {
        "commit": runs.commit(),
        "command": runs.command(),
        "versions": runs.versions(),
        "mimic_sha256": verdict.weights and files.sha256(verdict.weights),
        "trusted_sha256": examiner.data["trusted_sha256"],
        "gan_sha256": examiner.detector and examiner.detector.translator.sha256,
        "started": stamp(run.started),
        "finished": stamp(),
    }
    split = "b" if args.dataset == "detector" else "train"
    return record.Record(
        "depois",
        verdict.name,
        args.dataset_name,
        split,
        seed,
        config,
        metrics,
        groups,
        None,
        cost,
        provenance,
    )


def picture(verdict, samples, truth):
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
            axes.imshow(
                images.to_uint8(samples.floats([i]))[0].squeeze(),
                cmap=matplotlib.colormaps["gray"],
                vmin=0,
                vmax=255,
            )
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
