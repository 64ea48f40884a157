"""What a test of defences does once its options are resolved: disrupt, purify, score, and write a record a
defence."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attacks.flags import attack_config, through_config
from attacks.worst import summarise
from common import distributed, runs
from common.distributed import Context
from evaluation.defense_output import summary
from faces.celeba import FaceFolder
from metrics.fid import Extractor
from metrics.score import Score, score_all
from models.flags import gan_name
from pipeline.attacked import AttackedPhotos
from pipeline.pictures import Pictures
from purify.terd.screen import Screen, scan_of
from purify.terd.verdict import Verdict
from purify.trial import Purified, Trial
from report import record


@dataclass(frozen=True)
class Judged:
    """A defence on its way to a record: its open run, what a scan said, its photos and their score."""

    trial: Trial
    run: runs.Run
    scan: tuple[Verdict | None, Screen | None]
    photos: Purified
    carry: dict[str, list[str]] | None
    score: Score


def open_trials(trials: list[Trial], ctx: Context) -> list[tuple[Trial, runs.Run, tuple]]:
    """Scan the purifiers as asked, then claim a run folder for each defence that is not finished."""
    scans = [scan_of(trial.options, trial.purifier, ctx) for trial in trials]
    opened = []
    for trial, scan in zip(trials, scans, strict=True):
        run = runs.open_run(trial.folder, trial.options, ctx)
        if run.finished:
            ctx.print(f"this run is finished: {run.folder / record.FILE}")
        else:
            opened.append((trial, run, scan))
    return opened


def judge(
    opened: Sequence[tuple[Trial, runs.Run, tuple]],
    attacked: AttackedPhotos,
    faces: FaceFolder,
    extractor: Extractor | None,
    ctx: Context,
    size: int,
) -> list[record.Record]:
    """Disrupt, purify and score the photos for defences that meet the same disruption; write their records.

    Args: opened  of open_trials;  attacked  pipeline.attacked.AttackedPhotos that they meet;
          size  photos at a time
    """
    opened, names = [(trial.at(size), run, scan) for trial, run, scan in opened], faces.names
    for trial, *_ in opened:
        trial.compile(attacked, ctx)
    began = time.perf_counter()
    disrupted = attacked.fill(ctx, size)
    attack_seconds = (time.perf_counter() - began) / disrupted if disrupted else None
    shared: dict[int, Score] = {}
    every = []
    for trial, run, scan in opened:
        photos = trial.purified(attacked, faces)
        photos.fill(names, ctx, size)
        carry = photos.carriers(scan[1], names) if scan[1] else None
        if carry:
            ctx.print(
                "photos that carry the trigger of the purifier's backdoor: "
                + ", ".join(f"{len(some)} of {len(names)} {kind}" for kind, some in carry.items())
            )
        every.append(Judged(trial, run, scan, photos, carry, trial.score(extractor, shared)))
    score_all(
        [judged.score for judged in every],
        faces,
        [cached.floats for cached in attacked.caches],
        [([s.source for s in j.photos.disrupted], j.photos.clean.source) for j in every],
        ctx,
        size,
    )
    records, drawn = [], {}
    for judged in every:
        kept = drawn.setdefault(id(judged.trial.translator), {})
        records.append(conclude(judged, attacked, faces, extractor, attack_seconds, kept, ctx))
        attack_seconds = None  # paid by the first
    return [result for result in records if result is not None]


def conclude(
    judged: Judged,
    attacked: AttackedPhotos,
    faces: FaceFolder,
    extractor: Extractor | None,
    attack_seconds: float | None,
    drawn: dict,
    ctx: Context,
) -> record.Record | None:
    """Write grid.png and record.json of a defence; None on every process but the first.  drawn: fakes of its
    grid that pipeline.pictures.Pictures keeps for the next."""
    trial, run, score = judged.trial, judged.run, judged.score
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        metrics, groups, num_images, num_pairs = score.result(ctx)
    for text in sorted({str(w.message) for w in caught}):
        ctx.print(f"note: {text}")
    if not ctx.is_main:
        return None
    options = trial.options

    def of(sources):
        return lambda k: sources[k if len(sources) > 1 else 0].floats

    kinds = {"disrupted": of(attacked.caches), "purified": of(judged.photos.disrupted)}
    own_domains = options.attack_label == "target"
    pictures = Pictures(kinds, score.fakes, score.translator, options.selected_attrs, own_domains, drawn)
    pictures.save(run.folder, faces, ctx.device, every=options.save_image)
    seconds, nfe = judged.photos.disrupted[0].cost()
    cost = {
        "nfe": nfe,
        "attack_s_per_image": attack_seconds,
        "purify_s_per_image": seconds,
        "peak_memory_mb": distributed.peak_memory_mb(ctx.device),
        "photos_at_a_time": options.batch_size,
        "device": str(ctx.device),
    }
    counts = {"num_images": num_images, "num_pairs": num_pairs}
    notes = attacked.notes(faces.names) if trial.attack.notes is not None else []
    worst = {**summarise(notes), "eot": trial.attack.draws} if notes else None
    result = record.Record(
        "defense",
        trial.name,
        options.dataset,
        options.split,
        options.seed,
        {**config_of(judged, counts, faces), "worst": worst},
        metrics,
        groups,
        extractor.description if extractor else None,
        cost,
        runs.provenance(
            run.started,
            gan_sha256=trial.translator.sha256,
            defense_sha256=trial.purifier.sha256,
            attacked_key=attacked.key,
        ),
    )
    record.write(run.folder / record.FILE, result)
    ctx.print(summary(result))
    ctx.print(f"record: {run.folder / record.FILE}")
    return result


def config_of(judged: Judged, counts: dict[str, int], faces: FaceFolder) -> dict:
    """What the record says was run."""
    trial, options = judged.trial, judged.trial.options
    verdict = judged.scan[0]
    return {
        "gan": gan_name(options),
        "gan_type": options.gan_type,
        "gan_style": options.gan_style and Path(options.gan_style).name,
        "defense": options.defense_model_type,
        "defense_params": {**trial.purifier.params, **judged.photos.disrupted[0].measured()},
        "defense_noise": trial.noise,
        **attack_config(options, trial.attack),
        "attack_on": options.attack_on,
        **through_config(options, trial.attack, options.attack_through),
        "through": trial.attack.defence and trial.attack.defence.purifier.folder_name,
        "through_sha256": trial.attack.defence.purifier.sha256 if options.through_weights else None,
        **counts,
        "image_size": options.image_size,
        "gan_training_data": options.gan_training_data or trial.standard.meta.get("trained_on") or "unknown",
        "skipped": faces.skipped,
        "scan": (
            {"verdict": verdict.verdict, "reason": verdict.reason, "carry_the_trigger": judged.carry}
            if verdict
            else None
        ),
    }
