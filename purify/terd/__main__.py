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
  # 3,000 + 1,000 steps for each start, as in the paper
  python -m purify.terd ddpm.safetensors --report scan --schedule published
  # trigger estimation alone; --estimate_steps 0: refinement alone
  python -m purify.terd ddpm.safetensors --refine none

trigger.png: above, the trigger that was put in (where the file tells), the recovered one, those of the other
starts; below, what noise with it becomes.
"""

import argparse

from common import cli, distributed, files
from common.cli import UserError
from models.diffusion import build
from purify.terd import rule, verdict
from purify.terd.options import ScanOptions, name_of, plan_of
from purify.terd.reversion import PLANS, STARTS
from purify.terd.scan import scan


def parse_args(argv: list[str] | None = None) -> ScanOptions:
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
    g = cli.add_run_flags(p, batch_size=16, resume=True, compiled=False)
    g.add_argument("--save_step", type=cli.positive_int, default=50, help="steps between saved states")
    g.add_argument("--log_step", type=cli.positive_int, default=10, help="steps between lines of log.jsonl")
    parsed = p.parse_args(argv)
    return cli.resolve(ScanOptions, parsed, name=name_of(parsed.checkpoint))


def add_search_flags(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
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


def main(argv: list[str] | None = None) -> int:
    options = parse_args(argv)
    with distributed.session(options.device) as ctx:
        if ctx.world > 1:
            raise UserError("a scan runs in one process; start the command without torchrun")
        denoiser = build.load(options.checkpoint, ctx.device, options.precision)
        files.check_writable(options.report or options.result_dir)
        asked = (
            options.again
            or options.search_only
            or options.resume
            or options.report
            or plan_of(options)[1] != options.schedule
        )
        result = None
        if not asked:
            result = verdict.kept(options.checkpoint, options.result_dir, denoiser.sha256, options.schedule)
        if result is not None:
            ctx.print(f"this file was scanned before (record: {result.record}); --again scans anew")
        else:
            result = scan(options, denoiser, ctx)
        if result is None:
            return 0
        ctx.print(f"{options.checkpoint}: {result}")
        return result.exit_code


if __name__ == "__main__":
    cli.run(main)
