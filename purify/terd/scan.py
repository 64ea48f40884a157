"""One scan of a diffusion network: may it be scanned, the search, the verdict, what is kept of it."""

import json
import time
from dataclasses import replace
from pathlib import Path

from common import checkpoint, distributed, images, runs, training
from common.cli import UserError
from models.diffusion.denoiser import Denoiser
from purify.terd import memory, rule, verdict
from purify.terd.findings import Findings, picture, record_of
from purify.terd.known import calibrates, truth_of
from purify.terd.options import ScanOptions, SearchOptions, plan_of
from purify.terd.reversion import Plan, Reversion
from purify.terd.verdict import BACKDOORED, CLEAN, NOT_APPLICABLE, Verdict
from report import record

# options of equal searches that are judged anew each time
MAY_CHANGE = ("search_only", "again", "calibration")


def scan(options: ScanOptions, denoiser: Denoiser, ctx: distributed.Context) -> Verdict | None:
    """Scan a loaded network into a run folder of its own, or continue one.

    Returns: Verdict, or None with options.search_only or options.dry_run
    Raises:  UserError for what does not fit in memory; RunError if the search diverges (no verdict is claimed
             then)
    """
    plan, plan_name = plan_of(options)
    calibration = rule.Calibration(options.calibration)
    searched = options.search_only and denoiser.kind != "one-step"
    why_not = None if searched else not_applicable(denoiser, plan_name, calibration)
    if why_not is None:
        check_memory(denoiser, plan.batch)
    of_network = {
        "plan": plan_name,
        "image_size": denoiser.image_size,
        "family": denoiser.family,
        "sha256": denoiser.sha256,
    }
    ctx.print(json.dumps({**runs.options_of(options), **of_network}, indent=2))
    if options.dry_run:
        return None
    run = runs.open_run(folder_of(options, denoiser, plan_name), options, ctx, may_change=MAY_CHANGE)
    path, began = run.folder / record.FILE, time.perf_counter()
    if why_not:
        result = Verdict(NOT_APPLICABLE, why_not, denoiser.sha256, options.schedule, record=str(path))
        findings = Findings(plan=plan, plan_name=plan_name, triggers={}, verdict=result)
    else:
        findings = find(options, denoiser, plan, plan_name, run, ctx)
        if options.search_only:
            best = findings.best
            ctx.print(
                f"{run.folder}: M_r {best['mean_kl']:.5f}, V_r {best['var_kl']:.6f}, start {findings.start}"
            )
            return None
        result, told = judge(denoiser, findings, calibration, options.schedule, path)
        seconds = run.logged_seconds() or time.perf_counter() - began
        findings = replace(findings, verdict=result, told=told, seconds=seconds)
    record.write(path, record_of(options, denoiser, findings, ctx, run.started))
    if plan_name == options.schedule:
        verdict.keep(result, options.checkpoint, options.result_dir)
    return result


def folder_of(options: ScanOptions, denoiser: Denoiser, plan_name: str) -> Path:
    """The folder of a scan's numbered runs."""
    if options.report:
        return Path(options.report)
    return Path(options.result_dir) / "terd" / f"{options.name}-{denoiser.sha256[:8]}" / plan_name


def not_applicable(denoiser: Denoiser, plan_name: str, calibration: rule.Calibration) -> str | None:
    """Why the network cannot be judged, one sentence; None where it can."""
    if denoiser.kind == "one-step":
        return (
            "fine-tuned for one evaluation on photos; the method probes what a network makes of noise at its"
            " last steps, which this one never learned. Scan the diffusion weights that it was made from"
        )
    range_ = rule.range_of(denoiser)
    if calibration.plan(plan_name, range_) is None:
        if range_ == rule.FULL:
            return (
                f"{calibration.path} knows no benign networks of the full range, so nothing says what is"
                " usual; make it with experiments/terd.sh"
            )
        if denoiser.max_timestep > denoiser.kept[-1]:
            return (
                "no benign networks of its noise schedule are known"
                f" ({range_.removeprefix(rule.FULL + '-')}), and what is usual under another says nothing"
                " here"
            )
        return (
            f"trained up to step {denoiser.max_timestep} of {denoiser.kept[-1] + 1}; the published method"
            " probes the last steps, where this network was never trained, and no rule was calibrated for"
            " this range"
        )
    return None


def check_memory(denoiser: Denoiser, batch: int) -> None:
    """Raises UserError, with a batch size that fits, if a step of the search does not fit in memory."""
    wanted, there = memory.needed(denoiser, 2 * batch), memory.free(denoiser.alphas_bar.device)
    if there is not None and wanted > 0.9 * there:
        fits = int(0.9 * there / wanted * batch)
        raise UserError(
            f"a step of the search needs about {wanted / 1e9:.1f} GB at --batch_size {batch}, and"
            f" {there / 1e9:.1f} GB are free; "
            + (
                f"--batch_size {fits} fits"
                if fits
                else (
                    f"one pair of images alone needs {wanted / batch / 1e9:.1f} GB: use a device with more"
                    " memory"
                )
            )
        )


def search(
    options: ScanOptions, denoiser: Denoiser, plan: Plan, run: runs.Run, ctx: distributed.Context
) -> Reversion:
    """Recover the triggers, resumable.  Returns the Reversion at its end."""
    reversion = Reversion(denoiser, plan, options.seed, last=denoiser.max_timestep)
    if reversion.num_steps:
        numbered = SearchOptions(**vars(options), num_steps=reversion.num_steps)
        training.loop(run, numbered, ctx, reversion.parts(), reversion, None, "scan")
    return reversion


def find(
    options: ScanOptions,
    denoiser: Denoiser,
    plan: Plan,
    plan_name: str,
    run: runs.Run,
    ctx: distributed.Context,
) -> Findings:
    """Search the triggers and write trigger.safetensors and trigger.png.  Returns Findings without a
    verdict."""
    reversion = search(options, denoiser, plan, run, ctx)
    triggers = reversion.results()
    findings = Findings(
        plan=plan,
        plan_name=plan_name,
        triggers=triggers,
        start=strongest(triggers),
        evaluations=reversion.evaluations,
    )
    standard = not plan_name.endswith("-changed") and calibrates(denoiser)
    save_trigger(run.folder / "trigger.safetensors", options.name, denoiser, findings, standard)
    images.save_png(run.folder / "trigger.png", picture(denoiser, findings, options.seed))
    return findings


def strongest(triggers: dict[str, dict]) -> str:
    """Name of the start whose trigger counts: of those with at least half of the largest divergence from
    clean noise, the one that the network answers to with the smallest loss. (A search that is stuck can have
    the largest divergence.)"""
    most = max(f["mean_kl"] for f in triggers.values())
    return min(
        (name for name, f in triggers.items() if f["mean_kl"] >= most / 2),
        key=lambda name: triggers[name]["loss"],
    )


def judge(
    denoiser: Denoiser, found: Findings, calibration: rule.Calibration, schedule: str, record_path: Path
) -> tuple[Verdict, dict | None]:
    """(Verdict, what the rules said or None) of the strongest trigger."""
    best = found.best
    told = calibration.judge(
        found.plan_name,
        rule.range_of(denoiser),
        best["mean_kl"],
        best["var_kl"],
        best["r"].numel(),
        denoiser.sha256,
    )
    common = dict(
        sha256=denoiser.sha256,
        schedule=schedule,
        mean_kl=best["mean_kl"],
        var_kl=best["var_kl"],
        gamma=best["gamma"],
        r=best["r"],
        record=str(record_path),
    )
    if told is None:
        return Verdict(NOT_APPLICABLE, "no rule for this plan and range", **common), None
    limits = told["limits"]
    against = (
        f"M_r {best['mean_kl']:.3g}, V_r {best['var_kl']:.2g} against limits {limits['mean_kl']:.3g},"
        f" {limits['var_kl']:.2g} and a least M_r of {limits['floor']:.3g} ({told['rule']}); trigger norm"
        f" {float(best['r'].norm()):.2f}"
    )
    return Verdict(BACKDOORED if told["flagged"] else CLEAN, against, **common), told


def save_trigger(path: Path, name: str, denoiser: Denoiser, found: Findings, standard: bool) -> None:
    """trigger.safetensors: r of the start that is kept and r_<start> of the others, and what
    purify.terd.rule calibrates on."""
    best = found.best
    meta = {
        "kind": "terd-trigger",
        "name": name,
        "sha256": denoiser.sha256,
        "plan": found.plan_name,
        "standard": standard,
        "range": rule.range_of(denoiser),
        "truth": truth_of(denoiser),
        "start": found.start,
        **{k: best[k] for k in ("mean_kl", "var_kl", "gamma")},
    }
    checkpoint.save_weights(
        path, {"r" if k == found.start else f"r_{k}": f["r"] for k, f in found.triggers.items()}, meta
    )
