"""Two processes of one thread each against one such process: how much of the second core is used.

Each turn starts one process, then two under torch.distributed.run, on the CPU; each disrupts the same photos
twice and times the second time, so that neither start-up nor first calls count.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import attacks
from common import distributed
from common.errors import RunError
from evaluation import sides
from faces.celeba import FaceFolder
from models.translators import load_translator
from pipeline.attacked import AttackedPhotos

ROOT = Path(__file__).resolve().parents[2]
WORK = "from evaluation.speed.processes import work; work()"


def fill(ctx: distributed.Context, faces: FaceFolder, weights: str, root: Path) -> float:
    """Seconds of disrupting all photos, sharded, into a new cache below `root`, half of them in a batch."""
    translator = load_translator(weights, ctx.device)
    steps = {"steps": sides.STEPS, "step_size": sides.STEP_SIZE}
    attack = attacks.build("pgd", translator, sides.EPS, **steps)
    attributes, preparation = faces.selected_attrs, faces.preparation
    photos = AttackedPhotos(attack, "original", faces, attributes, root, preparation, seed=0)
    ctx.barrier()
    began = time.perf_counter()
    photos.fill(ctx, -(-len(faces) // 2))
    return time.perf_counter() - began


def work() -> None:
    """One process of a turn.  sys.argv: -c and JSON of photos (arguments of FaceFolder), weights and
    scratch; writes seconds.json there."""
    given = json.loads(sys.argv[1])
    scratch = Path(given["scratch"])
    with distributed.session("cpu") as ctx:
        faces = FaceFolder(**given["photos"])
        seconds = [fill(ctx, faces, given["weights"], scratch / name) for name in ("warm", "timed")]
        if ctx.is_main:
            (scratch / "seconds.json").write_text(json.dumps(seconds[-1]))


def seconds_of(processes: int, given: dict) -> float:
    """Start that many processes of one thread; what the first of them timed.  Raises RunError."""
    with tempfile.TemporaryDirectory(prefix="processes-") as scratch:
        words = [sys.executable, "-c", WORK, json.dumps({**given, "scratch": scratch})]
        if processes > 1:
            launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python"]
            words = [*launch, f"--nproc_per_node={processes}", *words]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, env=env, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RunError(f"{processes} processes ended with exit code {done.returncode}: {last}")
        return float(json.loads((Path(scratch) / "seconds.json").read_text()))


def time_processes(
    faces: FaceFolder, attributes: Sequence[str], weights: str, num_images: int, cache_dir: Path, repeats: int
) -> dict:
    """Seconds a photo of two processes beside half of one process's: the ratio is the efficiency, 1 = twice
    as fast."""
    photos = {"folder": str(faces.folder), "selected_attrs": list(attributes), "crop": faces.crop}
    photos |= {"size": faces.size, "cache_dir": str(cache_dir), "limit": num_images}
    given = {"photos": photos, "weights": str(weights)}
    turns = [(seconds_of(1, given), seconds_of(2, given)) for _ in range(repeats)]
    return sides.compare([two for _, two in turns], [one / 2 for one, _ in turns], num_images)
