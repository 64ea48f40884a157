"""Several processes of one command: what torchrun is asked for, and which of its failures is told."""

import signal

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from common.errors import RunError, UserError
from tools import launch

COMMAND = "--standalone --nproc_per_node=2 -- train_defense.py --lr 2".split()


def failure(exitcode):
    return ProcessFailure(local_rank=0, pid=1, exitcode=exitcode, error_file="<N/A>")


def ending(monkeypatch, raised):
    asked = []

    def run(options):
        asked.append(options)
        if raised:
            raise raised

    monkeypatch.setattr(launch.torchrun, "run", run)
    monkeypatch.setattr(launch.logging, "disable", lambda level: None)
    monkeypatch.setattr(launch.os, "environ", {})
    return asked


def test_torchrun_is_given_the_command_and_its_flags(monkeypatch):
    asked = ending(monkeypatch, None)
    assert launch.main(COMMAND) == 0
    (options,) = asked
    assert options.standalone and options.nproc_per_node == "2" and not options.module
    assert [options.training_script, *options.training_script_args] == COMMAND[3:]
    launch.main("--nnodes=3 --rdzv_endpoint=a:1 --rdzv_id=9 -- -m models.stargan.train --seed 1".split())
    options = asked[1]
    assert (options.nnodes, options.rdzv_endpoint, options.rdzv_id) == ("3", "a:1", "9")
    assert options.module and options.training_script == "models.stargan.train"


@pytest.mark.parametrize(
    "codes, root",
    [
        ((-signal.SIGTERM, -signal.SIGKILL), 1),  # torchrun ended the others
        ((1, -signal.SIGKILL), 1),  # the other one noticed before
        ((1, 2), 1),
        ((-signal.SIGTERM, 1), 1),
        ((130, 130), 0),
    ],
)
def test_the_failure_that_the_others_follow_from_is_told(monkeypatch, codes, root):
    failures = {rank: failure(code) for rank, code in enumerate(codes)}
    ending(monkeypatch, ChildFailedError("train_defense.py", failures))
    if codes[root] > 0:
        assert launch.main(COMMAND) == codes[root]
    else:
        with pytest.raises(RunError, match=f"process {root} of this job was ended by SIGKILL .out of memory"):
            launch.main(COMMAND)


def test_a_signal_to_the_job_is_an_interruption(monkeypatch):
    ending(monkeypatch, SignalException("", signal.SIGTERM))
    assert launch.main(COMMAND) == 130


def test_bad_flags_are_told():
    for words, said in (("--standalone", "after --"), ("--nproc_per_nod=2 -- a.py", "--nproc_per_node")):
        with pytest.raises(UserError, match=said):
            launch.parse_args(words.split())
