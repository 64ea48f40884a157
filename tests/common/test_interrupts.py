"""Ctrl-C and SIGTERM end a command in one line whenever they come."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import common
from common import checkpoint

ROOT = Path(common.__file__).parents[1]
COMMANDS = [
    ["train_detector.py"],
    ["train_defense.py"],
    ["test_defense.py"],
    *(["-m", name] for name in ("attacks", "purify", "models.detector", "evaluation.benchmark")),
    *(["-m", name] for name in ("tools.describe", "faces.procedural", "purify.terd")),
]
MAIN = """
import sys, time
from common import cli
sys.argv[1:] = []
def main(argv):
    print("begun", flush=True)
    time.sleep(60)
cli.run(main)
"""


@pytest.fixture(autouse=True)
def heard():
    """A shell starts what runs in the background with Ctrl-C ignored, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def endless_imports(tmp_path):
    """A folder of libraries whose import says so and does not end."""
    for name in ("torch", "numpy"):
        (tmp_path / f"{name}.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    return tmp_path


def interrupted(words, number, *path, **env):
    """(exit code, stderr) of a command that is sent a signal when it has printed a line."""
    process = subprocess.Popen(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT))), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout.readline() in ("importing\n", "begun\n")
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[-1])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_it_imports(endless_imports, words, number):
    assert interrupted(words, number, endless_imports) == (130, "interrupted before anything was begun\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_it_works(tmp_path, number):
    (tmp_path / "main.py").write_text(MAIN)
    # as a script of the project would
    code = f"import sys, runpy; sys.argv = [{str(ROOT / 'x.py')!r}]; import __main__;"
    code += f"__main__.__file__ = sys.argv[0]; runpy.run_path({str(tmp_path / 'main.py')!r})"
    returned, said = interrupted(["-c", code], number)
    assert returned == 130 and said.startswith("interrupted; what was saved") and said.count("\n") == 1


def test_who_imports_from_the_project_keeps_the_answers_of_python():
    code = "import signal, common; from common import cli; print(*map(signal.getsignal, (2, 15)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == f"{signal.default_int_handler} 0\n"


def test_one_of_several_processes_is_ended_by_the_signal(endless_imports):
    assert interrupted(["train_defense.py"], signal.SIGTERM, endless_imports, WORLD_SIZE="2") == (-15, "")


def test_what_is_ignored_stays_ignored(endless_imports):
    """As nohup has it."""
    code = "import signal, os, sys; signal.signal(2, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, sys.executable, "train_defense.py"],
        env={**os.environ, "PYTHONPATH": f"{endless_imports}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.kill()
    process.communicate()


SLOW_TRAINING = """
import sys, time, torch
from argparse import Namespace
from common import cli, runs, training
from common.distributed import Context

def main(argv):
    args = Namespace(num_steps=10**6, save_step=10**6, log_step=1, resume=None)
    ctx = Context(0, 1, torch.device("cpu"))
    run = runs.open_run(argv[0], args, ctx, "weights.safetensors")
    net = torch.nn.Linear(3, 3)
    def step(i):
        with torch.no_grad():
            net.weight.fill_(i + 1)
        time.sleep(0.01)
        return {"loss": torch.ones(())}
    training.loop(run, args, ctx, {"net": net}, step)

cli.run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_process_saves_and_exits_with_130(tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_TRAINING, tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    process.stdout.readline()  # "run folder: ..."
    folder = tmp_path / "000"
    while not (folder / "log.jsonl").exists():
        assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    state = checkpoint.load_state(folder / "last.pt")
    assert process.returncode == 130, err
    assert state["step"] >= 1 and bool((state["parts"]["net"]["weight"] == state["step"]).all())
    assert (
        f"stopped at step {state['step']}" in out and "Traceback" not in err and not list(folder.glob(".*"))
    )
