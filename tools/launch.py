"""Start a command in several processes, one a GPU, on one machine or several: torchrun, which this calls,
with one line instead of its report where a process ends.

reads   nothing;  writes  nothing of its own

The shell scripts call it where GPUS or NODES is given (environment.sh). Exit codes are the command's. Where
one process is killed, the others are ended (those of other machines by srun), and --resume continues. Ctrl-C
and SIGTERM are passed on: a training has 30 seconds to save its state.

  python -m tools.launch --standalone --nproc_per_node=4 -- train_defense.py --defense_model_type ddpm \\
      --resume
  python -m tools.launch --nnodes=2 --nproc_per_node=4 --rdzv_backend=c10d --rdzv_endpoint=node01:29500 \\
      --rdzv_id=7 -- -m models.stargan.train --resume                            (on both machines)
"""

import argparse
import logging
import os
import signal
from dataclasses import dataclass

from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from common import cli
from common.errors import RunError


@dataclass(frozen=True)
class Options:
    """The values of parse_args."""

    standalone: bool
    nproc_per_node: int
    nnodes: int
    rdzv_backend: str
    rdzv_endpoint: str
    rdzv_id: str
    command: list[str]
    debug: bool


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="tools.launch", description=__doc__)
    p.add_argument("--standalone", action="store_true", help="this machine alone")
    p.add_argument(
        "--nproc_per_node", type=cli.positive_int, default=1, metavar="N", help="GPUs of a machine"
    )
    p.add_argument("--nnodes", type=cli.positive_int, default=1, metavar="N", help="machines")
    p.add_argument("--rdzv_backend", choices=["c10d"], default="c10d", help="how machines find each other")
    p.add_argument(
        "--rdzv_endpoint", default="", metavar="HOST:PORT", help="where: a free port of the first machine"
    )
    p.add_argument("--rdzv_id", default="none", metavar="ID", help="of the job, equal on all machines")
    p.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="FILE.py or -m MODULE, with its flags"
    )
    parsed = p.parse_args(argv)
    command = parsed.command[parsed.command[:1] == ["--"] :]
    if not command:
        p.error("nothing to start: give a command after --")
    return cli.resolve(Options, parsed, command=command)


def root_of(failures: list[ProcessFailure]) -> ProcessFailure:
    """The failure that the others follow from: torchrun ends the others by SIGTERM, and those that notice
    before end with 1."""
    return min(failures, key=lambda f: (f.exitcode == -signal.SIGTERM, f.exitcode == 1, f.timestamp))


def main(argv: list[str] | None = None) -> int:
    options = parse_args(argv)
    flags = ["--standalone"] if options.standalone else []
    for name in ("nproc_per_node", "nnodes", "rdzv_backend", "rdzv_endpoint", "rdzv_id"):
        flags.append(f"--{name}={getattr(options, name)}")
    os.environ[cli.LAUNCHED] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun has it, which tells so at length
    if not options.debug:
        logging.disable(logging.ERROR)  # torchrun's, in this process
    try:
        torchrun.run(torchrun.parse_args([*flags, *options.command]))
    except SignalException:
        return 130
    except ChildFailedError as e:
        root = root_of(list(e.failures.values()))
        if root.exitcode > 0:  # its own message stands above
            return root.exitcode
        rank = next(rank for rank, failure in e.failures.items() if failure is root)
        raise RunError(
            f"process {rank} of this job was ended by {signal.Signals(-root.exitcode).name}"
            + (" (out of memory is the usual cause)" if root.exitcode == -signal.SIGKILL else "")
            + "; what was saved last is whole, the same command with --resume continues"
        ) from e
    return 0


if __name__ == "__main__":
    cli.run(main)
