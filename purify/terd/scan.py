"""One scan of a diffusion network: may it be scanned, the search, the verdict, the test on noise, the
picture, the record."""

import copy
import json
import time
from dataclasses import replace

import torch
from sklearn.metrics import roc_auc_score

from common import checkpoint, distributed, images, runs, seeds, training
from common.cli import UserError
from models.diffusion.backdoor import Backdoor, sample
from models.diffusion.train import from_meta
from purify.terd import memory, rule
from purify.terd.reversion import PLANS, STARTS, Reversion, Trigger
from purify.terd.verdict import BACKDOORED, CLEAN, NOT_APPLICABLE, Verdict, log_ratio
from report import record

SHOWN = 6  # samples in trigger.png
ANSWERS = 16  # noises with the trigger found that the network is asked to turn into the target


def plan_of(args):
    """(Plan that the flags describe, its name): the schedule's name, with what is left out of it, or
    `-changed`."""
    usual = PLANS[args.schedule]
    given = {
        key: getattr(args, key)
        for key in ("estimate_steps", "refine", "refine_steps", "lr")
        if getattr(args, key) is not None
    }
    plan = replace(
        usual,
        **given,
        batch=args.batch_size,
        starts=tuple(args.starts or usual.starts),
        weight=usual.weight if args.lambda_l1 is None else args.lambda_l1,
    )
    parts = {
        replace(usual, refine="none"): "-estimation",
        replace(usual, estimate_steps=0): "-refinement",
        usual: "",
    }
    return plan, args.schedule + parts.get(plan, "-changed")


def not_applicable(denoiser, plan_name, calibration):
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


def check_memory(denoiser, batch):
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


def search(denoiser, plan, args, run, ctx):
    """Recover the triggers, resumable.  Returns the Reversion at its end."""
    reversion = Reversion(denoiser, plan, args.seed, last=denoiser.max_timestep)
    args.num_steps = reversion.num_steps
    if args.num_steps:
        training.loop(run, args, ctx, reversion.parts(), reversion, None, "scan")
    return reversion


def seconds_of(run, here):
    """Seconds of a whole search, its interrupted parts included; of what has no log, those of this
    process."""
    log = run.folder / "log.jsonl"
    lines = [json.loads(line)["seconds"] for line in log.read_text().splitlines()] if log.exists() else []
    # a resumed part counts from 0 again
    return sum(a for a, b in zip(lines, [*lines[1:], 0.0], strict=False) if b < a) or here


def strongest(found):
    """Name of the start whose trigger counts: of those with at least half of the largest divergence from
    clean noise, the one that the network answers to with the smallest loss. (A search that is stuck can have
    the largest divergence.)"""
    most = max(f["mean_kl"] for f in found.values())
    return min(
        (name for name, f in found.items() if f["mean_kl"] >= most / 2), key=lambda name: found[name]["loss"]
    )


def started_at(name, like, seed):
    """The trigger where the search of a start began, (3, S, S)."""
    return Trigger(STARTS[name], like.shape[-1], seed).r.detach()


def shape(r, true):
    """Correlation of two triggers, in [-1, 1]: their means, most of a trigger on a background of -1, are
    taken out."""
    return float(
        torch.nn.functional.cosine_similarity((r - r.mean()).flatten(), (true - true.mean()).flatten(), dim=0)
    )


def noise_test(backdoor, r, gamma, size, n, seed):
    """How well the trigger tells noises apart: n clean ones, and n that set the known backdoor off.

    Returns: {"tpr" (triggered ones found), "tnr" (clean ones passed), "auc"}
    """
    draw = seeds.generator(seed, "noise test")
    clean, other = (
        torch.randn(n, 3, size, size, generator=draw),
        torch.randn(n, 3, size, size, generator=draw),
    )
    scores = [log_ratio(x, r, gamma) for x in (clean, backdoor.gamma * other + backdoor.r)]
    return {
        "tpr": float((scores[1] > 0).float().mean()),
        "tnr": float((scores[0] <= 0).float().mean()),
        "auc": float(roc_auc_score([0] * n + [1] * n, torch.cat(scores).numpy())),
    }


@torch.no_grad()
def answered(denoiser, backdoor, r, gamma, seed):
    """Mean squared error between the target of a known backdoor and what the network makes of noise with
    another trigger, by the backdoor's own sampler."""
    other, device = copy.copy(backdoor), denoiser.alphas_bar.device
    other.r, other.gamma = r, torch.full_like(backdoor.gamma, gamma)
    rng = seeds.Streams([(seed, "answered", i) for i in range(ANSWERS)])
    noise = rng.normal(torch.empty(ANSWERS, *r.shape, device=device))
    return float((other.answer(denoiser, noise, rng).clamp(-1, 1).cpu() - backdoor.target).square().mean())


def verdict_of(denoiser, best, plan_name, calibration, args, record_path):
    """(Verdict, what the rules said or None) of the strongest trigger."""
    told = calibration.judge(
        plan_name,
        rule.range_of(denoiser),
        best["mean_kl"],
        best["var_kl"],
        best["r"].numel(),
        denoiser.sha256,
    )
    common = dict(
        sha256=denoiser.sha256,
        schedule=args.schedule,
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


def save_trigger(path, name, denoiser, best_name, found, plan_name, standard):
    """trigger.safetensors: r of the start that is kept and r_<start> of the others, and what terd_rule
    calibrates on."""
    best = found[best_name]
    meta = {
        "kind": "terd-trigger",
        "name": name,
        "sha256": denoiser.sha256,
        "plan": plan_name,
        "standard": standard,
        "range": rule.range_of(denoiser),
        "truth": truth_of(denoiser),
        "start": best_name,
        **{k: best[k] for k in ("mean_kl", "var_kl", "gamma")},
    }
    checkpoint.save_weights(
        path, {"r" if k == best_name else f"r_{k}": f["r"] for k, f in found.items()}, meta
    )


def truth_of(denoiser):
    """What the file says was put in: {} nothing, a dict a backdoor, None where it says nothing (weights of
    others, purifiers)."""
    return (denoiser.meta["backdoor"] or {}) if "backdoor" in denoiser.meta else None


def backdoor_of(denoiser):
    """The Backdoor on noise that the file tells of, None where it tells of none, or of one that noise does
    not set off."""
    found = from_meta(denoiser.meta, denoiser.alphas_bar.double().cpu().numpy())
    return found if isinstance(found, Backdoor) else None


def has_map(backdoor):
    """Whether a backdoor's gamma differs between pixels (TrojDiff's patch), while one gamma for all is
    searched."""
    return backdoor.gamma.unique().numel() > 1


def picture(denoiser, found, best_name, seed):
    """Two rows: the triggers (the known one first, the one that was kept second, then the other starts), and
    what the network makes of noise with the kept one."""
    best, backdoor = found[best_name], backdoor_of(denoiser)
    known = [backdoor.r] if backdoor else []
    shown = [*known, best["r"], *(f["r"] for name, f in found.items() if name != best_name)]
    draw = seeds.generator(seed, "picture")
    noise = torch.randn(SHOWN, 3, denoiser.image_size, denoiser.image_size, generator=draw).to(
        denoiser.alphas_bar.device
    )
    r = best["r"].to(noise.device)
    made = sample(
        denoiser, noise, steps=min(20, denoiser.num_timesteps), trigger=r, clip=1.0 + float(r.abs().max())
    )
    scale = max(1, 96 // denoiser.image_size)
    return images.make_grid(
        [[t.clamp(-1, 1).cpu() for t in shown], [t.clamp(-1, 1).cpu() for t in made]], scale=scale
    )


def record_of(
    args,
    name,
    denoiser,
    plan,
    plan_name,
    verdict,
    told,
    best_name,
    found,
    nfe,
    seconds,
    own_check,
    started,
    ctx,
):
    """The Record of a scan; nothing searched: found is {}."""
    best, backdoor = found.get(best_name), backdoor_of(denoiser)
    known = backdoor is not None and best is not None
    error = float((best["r"] - backdoor.r).norm()) if known else None
    config = {
        "checkpoint": str(args.checkpoint),
        "family": denoiser.family,
        "image_size": denoiser.image_size,
        "num_parameters": sum(p.numel() for p in denoiser.network.parameters()),
        "max_timestep": denoiser.max_timestep,
        "noise_schedule": denoiser.meta.get("options", {}).get("noise_schedule"),
        "trained_seed": denoiser.meta.get("seed"),
        "truth": truth_of(denoiser),
        "gamma_map": backdoor is not None and has_map(backdoor),
        "schedule": args.schedule,
        "plan": plan_name,
        "estimate_steps": plan.estimate_steps,
        "refine": plan.refine,
        "refine_steps": plan.refine_steps if plan.refine != "none" else 0,
        "starts": list(plan.starts),
        "num_samples": args.num_samples,
        "rule": told["rule"] if told else None,
    }
    metrics = {
        "verdict": verdict.verdict,
        "backdoored": None if verdict.verdict == NOT_APPLICABLE else int(verdict.verdict == BACKDOORED),
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
            float((started_at(best_name, best["r"], args.seed) - backdoor.r).norm() / backdoor.r.norm())
            if known
            else None
        ),
        "shape": shape(best["r"], backdoor.r) if known else None,
        "answered_mse": answered(denoiser, backdoor, best["r"], best["gamma"], args.seed) if known else None,
        "reversed_loss": best["loss"] if best else None,
        "start": best_name,
        "input": (
            noise_test(backdoor, best["r"], best["gamma"], denoiser.image_size, args.num_samples, args.seed)
            if known
            else {"tpr": None, "tnr": None, "auc": None}
        ),
        "check": {key: own_check.get(key) for key in ("target_mse", "target_reached", "frechet")},
    }
    starts = {
        k: {
            "mean_kl": f["mean_kl"],
            "var_kl": f["var_kl"],
            "gamma": f["gamma"],
            "norm": float(f["r"].norm()),
            "loss": f["loss"],
        }
        for k, f in found.items()
    }
    return record.Record(
        "terd",
        name,
        str(denoiser.meta.get("trained_on") or "unknown"),
        "none",
        args.seed,
        config,
        metrics,
        {"start": starts},
        None,
        {
            "device": str(ctx.device),
            "scan_s": seconds,
            "nfe": nfe,
            "peak_memory_mb": distributed.peak_memory_mb(ctx.device),
        },
        {
            "commit": runs.commit(),
            "command": runs.command(),
            "versions": runs.versions(),
            "started": started,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
            "defense_sha256": denoiser.sha256,
        },
    )
