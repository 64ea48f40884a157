"""What a scan has found, as a picture and as a record."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common import distributed, images, runs, seeds
from models.diffusion.backdoor import sample
from models.diffusion.denoiser import Denoiser
from purify.terd import rule
from purify.terd.known import (
    backdoor_of,
    correlate,
    has_map,
    measure_answer,
    start_of,
    tell_noises_apart,
    truth_of,
)
from purify.terd.options import ScanOptions
from purify.terd.reversion import Plan
from purify.terd.verdict import BACKDOORED, NOT_APPLICABLE, Verdict
from report import record

SHOWN = 6  # samples in trigger.png


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a search has recovered and what was said of it; nothing searched: no triggers.

    triggers  {start: {"r", "gamma", "loss", "mean_kl", "var_kl"}} of Reversion.results;  start  the name of
              the one that counts, or None
    evaluations  of the network, one image each;  verdict  or None without one
    told      what the rules said, see rule.Calibration.judge;  seconds  of the whole search, or None
    """

    plan: Plan
    plan_name: str
    triggers: dict[str, dict]
    start: str | None = None
    evaluations: int = 0
    verdict: Verdict | None = None
    told: dict | None = None
    seconds: float | None = None

    @property
    def best(self) -> dict | None:
        """The trigger that counts, of `triggers`."""
        return self.triggers.get(self.start)


def read_check(checkpoint: str | Path) -> dict:
    """The check of the network's training, where it lies beside the weights; else {}."""
    try:
        return json.loads((Path(checkpoint).parent / "check.json").read_text())
    except (OSError, ValueError):
        return {}


def picture(denoiser: Denoiser, found: Findings, seed: int) -> np.ndarray:
    """Two rows: the triggers (the known one first, the one that was kept second, then the other starts), and
    what the network makes of noise with the kept one."""
    best, backdoor = found.best, backdoor_of(denoiser)
    known = [backdoor.r] if backdoor else []
    shown = [*known, best["r"], *(f["r"] for name, f in found.triggers.items() if name != found.start)]
    draw = seeds.generator(seed, "picture")
    noise = torch.randn(SHOWN, 3, denoiser.image_size, denoiser.image_size, generator=draw).to(
        denoiser.alphas_bar.device
    )
    r = best["r"].to(noise.device)
    answers = sample(
        denoiser, noise, steps=min(20, denoiser.num_timesteps), trigger=r, clip=1.0 + float(r.abs().max())
    )
    scale = max(1, 96 // denoiser.image_size)
    return images.make_grid(
        [[t.clamp(-1, 1).cpu() for t in shown], [t.clamp(-1, 1).cpu() for t in answers]], scale=scale
    )


def record_of(
    options: ScanOptions, denoiser: Denoiser, found: Findings, ctx: distributed.Context, started: float
) -> record.Record:
    """The Record of a scan with a verdict.  started: seconds since the epoch"""
    best, told, backdoor = found.best, found.told, backdoor_of(denoiser)
    check = read_check(options.checkpoint)
    known = backdoor is not None and best is not None
    error = float((best["r"] - backdoor.r).norm()) if known else None
    config = {
        "checkpoint": str(options.checkpoint),
        "family": denoiser.family,
        "image_size": denoiser.image_size,
        "num_parameters": sum(p.numel() for p in denoiser.network.parameters()),
        "max_timestep": denoiser.max_timestep,
        "noise_schedule": denoiser.meta.get("options", {}).get("noise_schedule"),
        "trained_seed": denoiser.meta.get("seed"),
        "truth": truth_of(denoiser),
        "gamma_map": backdoor is not None and has_map(backdoor),
        "schedule": options.schedule,
        "plan": found.plan_name,
        "estimate_steps": found.plan.estimate_steps,
        "refine": found.plan.refine,
        "refine_steps": found.plan.refine_steps if found.plan.refine != "none" else 0,
        "starts": list(found.plan.starts),
        "num_samples": options.num_samples,
        "rule": told["rule"] if told else None,
    }
    metrics = {
        "verdict": found.verdict.verdict,
        "backdoored": None
        if found.verdict.verdict == NOT_APPLICABLE
        else int(found.verdict.verdict == BACKDOORED),
        **{key: best[key] if best else None for key in ("mean_kl", "var_kl", "gamma")},
        "score": told["score"] if told else None,
        "threshold": rule.SIGMAS,
        "fitted": told["fitted"] if told else None,
        "limits": told["limits"] if told else {"mean_kl": None, "var_kl": None, "floor": None},
        "trigger_norm": float(best["r"].norm()) if best else None,
        "true_norm": float(backdoor.r.norm()) if backdoor else None,
        "trigger_error": error,
        "relative_error": error / float(backdoor.r.norm()) if known else None,
        "relative_error_at_start": (
            float(
                (start_of(found.start, denoiser.image_size, options.seed) - backdoor.r).norm()
                / backdoor.r.norm()
            )
            if known
            else None
        ),
        "shape": correlate(best["r"], backdoor.r) if known else None,
        "answered_mse": measure_answer(denoiser, backdoor, best["r"], best["gamma"], options.seed)
        if known
        else None,
        "reversed_loss": best["loss"] if best else None,
        "start": found.start,
        "input": (
            tell_noises_apart(
                backdoor, best["r"], best["gamma"], denoiser.image_size, options.num_samples, options.seed
            )
            if known
            else {"tpr": None, "tnr": None, "auc": None}
        ),
        "check": {key: check.get(key) for key in ("target_mse", "target_reached", "frechet")},
    }
    starts = {
        k: {
            "mean_kl": f["mean_kl"],
            "var_kl": f["var_kl"],
            "gamma": f["gamma"],
            "norm": float(f["r"].norm()),
            "loss": f["loss"],
        }
        for k, f in found.triggers.items()
    }
    return record.Record(
        "terd",
        options.name,
        str(denoiser.meta.get("trained_on") or "unknown"),
        "none",
        options.seed,
        config,
        metrics,
        {"start": starts},
        None,
        {
            "device": str(ctx.device),
            "scan_s": found.seconds,
            "nfe": found.evaluations,
            "peak_memory_mb": distributed.peak_memory_mb(ctx.device),
        },
        runs.provenance(started, defense_sha256=denoiser.sha256),
    )
