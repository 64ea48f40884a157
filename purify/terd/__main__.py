"""Scan the weights of a diffusion network for a backdoor, before a photo is given to it (TERD, Mo et al.
2024).

reads   CHECKPOINT      ours (safetensors or last.pt), guided-diffusion's or minDiffusion's; unconditional, of
                        fixed or learned variance
writes  <report>/NNN/{options.yaml,log.jsonl,last.pt,trigger.png,trigger.safetensors,record.json}
        (--report, else <result_dir>/terd/<name>-<sha8>/<plan>)
        CHECKPOINT.terd.safetensors     the verdict by the checkpoint's sha256: a scan is paid once, --scan of
                                        other commands reads it

exit 0 clean; 3 backdoored; 4 not applicable (a network that was never trained at the last steps, which the
method probes)

  python -m purify.terd ddpm.safetensors
  python -m purify.terd ddpm.safetensors --report scan \\
      --schedule published          (3,000 + 1,000 steps for each start, as in the paper)
  python -m purify.terd ddpm.safetensors \\
      --refine none                               (trigger estimation alone; \\
      --estimate_steps 0: refinement alone)

trigger.png: above, the trigger that was put in (where the file tells), the recovered one, those of the other
starts; below, what noise with it becomes.
"""

import json
import time
from pathlib import Path

from common import cli, distributed, files, images, runs
from common.cli import UserError
from models.diffusion import build
from purify.terd import rule, scan, verdict
from purify.terd.reversion import PLANS, STARTS
from purify.terd.verdict import NOT_APPLICABLE, Verdict
from report import record


def parse_args(argv=None):
    p = cli.ArgumentParser(prog="python -m purify.terd", description=__doc__)
    p.add_argument("checkpoint", metavar="CHECKPOINT", help="weights of a diffusion network")
    g = p.add_argument_group("output")
    g.add_argument(
        "--report",
        metavar="DIR",
        default=None,
        help="folder of the numbered runs (default: below --result_dir)",
    )
    g.add_argument("--result_dir", default="results", help="root of all results")
    g.add_argument(
        "--again", action="store_true", help="scan although the verdict of this file is kept already"
    )
    g.add_argument(
        "--search_only",
        action="store_true",
        help="recover the trigger and stop without a verdict: what python -m purify.terd.rule calibrates on",
    )
    add_search_flags(p)
    g = cli.add_run_flags(p, batch_size=16, resume=True)
    g.add_argument("--save_step", type=cli.positive_int, default=50, help="steps between saved states")
    g.add_argument("--log_step", type=cli.positive_int, default=10, help="steps between lines of log.jsonl")
    args = p.parse_args(argv)
    args.name = name_of(args.checkpoint)
    return args


def add_search_flags(parser):
    """How the trigger is searched and judged."""
    g = parser.add_argument_group("search")
    g.add_argument(
        "--schedule",
        choices=list(PLANS),
        default="reduced",
        help="reduced: minutes on a CPU; published: 3,000 + 1,000 steps for each start",
    )
    g.add_argument(
        "--starts",
        nargs="+",
        choices=list(STARTS),
        default=None,
        metavar="NAME",
        help=(
            f"where the search begins, one after the other: {', '.join(STARTS)} (default:"
            f" {'; '.join(k + ' ' + ' '.join(v.starts) for k, v in PLANS.items())})"
        ),
    )
    g.add_argument(
        "--estimate_steps",
        type=cli.natural_int,
        default=None,
        help=(
            "of trigger estimation, each start (default:"
            f" {', '.join(f'{k} {v.estimate_steps}' for k, v in PLANS.items())})"
        ),
    )
    g.add_argument(
        "--refine",
        choices=["none", "readout", "sampler"],
        default=None,
        help=(
            "trigger refinement: from what the network answers, or as published through its sampler"
            f" (default: {', '.join(f'{k} {v.refine}' for k, v in PLANS.items())})"
        ),
    )
    g.add_argument(
        "--refine_steps",
        type=cli.positive_int,
        default=None,
        help=(
            "of trigger refinement, each start (default:"
            f" {', '.join(f'{k} {v.refine_steps}' for k, v in PLANS.items())})"
        ),
    )
    g.add_argument(
        "--lr",
        type=cli.positive_float,
        default=None,
        help=f"of the trigger (default: {', '.join(f'{k} {v.lr:g}' for k, v in PLANS.items())})",
    )
    g.add_argument(
        "--lambda_l1",
        type=cli.natural_float,
        default=None,
        metavar="L",
        help=(
            "weight of the trigger's L1 norm; reduced: in units of the loss per value without a trigger"
            f" (default: {', '.join(f'{k} {v.weight:g}' for k, v in PLANS.items())}; published for larger"
            " images 5e-4)"
        ),
    )
    g.add_argument(
        "--num_samples",
        type=cli.positive_int,
        default=1000,
        help="noises of each kind in the input test of a known backdoor",
    )
    g.add_argument(
        "--calibration",
        default=str(rule.FILE),
        metavar="FILE.json",
        help="benign and backdoored networks that the rules know (python -m purify.terd.rule); default: the"
        " shipped calibration.json",
    )
    return g


def name_of(path):
    """What tables call a checkpoint: the folder of its training, else its stem."""
    path = Path(path)
    in_run = path.parent.name.isdigit() and path.parent.parent.parent.name == "train"
    return path.parent.parent.name if in_run else path.stem


def own_check(path):
    """The check of the network's training, where it lies beside the weights."""
    try:
        return json.loads((Path(path).parent / "check.json").read_text())
    except (OSError, ValueError):
        return {}


def calibrates(denoiser):
    """Whether the network may teach the rules what is usual: not one whose backdoor noise does not set off,
    one of a weakened trigger, or TrojDiff's patch, whose gamma differs between pixels and is not searched."""
    truth, backdoor = scan.truth_of(denoiser), scan.backdoor_of(denoiser)
    return not truth or backdoor is not None and truth["trigger_scale"] == 1 and not scan.has_map(backdoor)


def scanned(args, denoiser, ctx):
    """Scan a loaded network into a run folder of its own, or continue one.

    Returns: Verdict, or None with args.search_only
    Raises:  UserError for what does not fit in memory; RunError if the search diverges (no verdict is claimed
             then)
    """
    plan, plan_name = scan.plan_of(args)
    calibration = rule.Calibration(args.calibration)
    why_not = (
        None
        if args.search_only and denoiser.kind != "one-step"
        else scan.not_applicable(denoiser, plan_name, calibration)
    )
    if why_not is None:
        scan.check_memory(denoiser, plan.batch)
    ctx.print(
        json.dumps(
            {
                **runs.options_of(args),
                "plan": plan_name,
                "image_size": denoiser.image_size,
                "family": denoiser.family,
                "sha256": denoiser.sha256,
            },
            indent=2,
        )
    )
    if args.dry_run:
        return None
    parent = (
        Path(args.report)
        if args.report
        else Path(args.result_dir) / "terd" / f"{args.name}-{denoiser.sha256[:8]}" / plan_name
    )
    run = runs.open_run(parent, args, ctx)
    path, started, began = run.folder / record.FILE, time.strftime("%Y-%m-%dT%H:%M:%S"), time.perf_counter()
    found, best, nfe, told = {}, None, 0, None
    if why_not:
        result = Verdict(NOT_APPLICABLE, why_not, denoiser.sha256, args.schedule, record=str(path))
    else:
        reversion = scan.search(denoiser, plan, args, run, ctx)
        found, nfe = reversion.results(), reversion.evaluations
        best = scan.strongest(found)
        scan.save_trigger(
            run.folder / "trigger.safetensors",
            args.name,
            denoiser,
            best,
            found,
            plan_name,
            standard=not plan_name.endswith("-changed") and calibrates(denoiser),
        )
        images.save_png(run.folder / "trigger.png", scan.picture(denoiser, found, best, args.seed))
        if args.search_only:
            ctx.print(
                f"{run.folder}: M_r {found[best]['mean_kl']:.5f}, V_r {found[best]['var_kl']:.6f}, start"
                f" {best}"
            )
            return None
        result, told = scan.verdict_of(denoiser, found[best], plan_name, calibration, args, path)
    seconds = None if why_not else scan.seconds_of(run, time.perf_counter() - began)
    record.write(
        path,
        scan.record_of(
            args,
            args.name,
            denoiser,
            plan,
            plan_name,
            result,
            told,
            best,
            found,
            nfe,
            seconds,
            own_check(args.checkpoint),
            started,
            ctx,
        ),
    )
    if plan_name == args.schedule:
        verdict.keep(result, args.checkpoint, args.result_dir)
    return result


def main(argv=None):
    args = parse_args(argv)
    with distributed.session(args.device) as ctx:
        if ctx.world > 1:
            raise UserError("a scan runs in one process; start the command without torchrun")
        denoiser = build.load(args.checkpoint, ctx.device, args.precision)
        files.check_writable(args.report or args.result_dir)
        asked = (
            args.again
            or args.search_only
            or args.resume
            or args.report
            or scan.plan_of(args)[1] != args.schedule
        )
        result = (
            None if asked else verdict.kept(args.checkpoint, args.result_dir, denoiser.sha256, args.schedule)
        )
        if result is not None:
            ctx.print(f"this file was scanned before (record: {result.record}); --again scans anew")
        else:
            result = scanned(args, denoiser, ctx)
        if result is None:
            return 0
        ctx.print(f"{args.checkpoint}: {result}")
        return result.exit_code


if __name__ == "__main__":
    cli.run(main)
