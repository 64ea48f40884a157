"""One process of two is killed: the job ends and says so in one line, and --resume goes on to the results of
a run that nothing happened to."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import test_defense
import train_defense
import weights as tiny
from tools import same
from trainings import log, parts
from trainings import same as same_parts

ROOT = Path(test_defense.__file__).parent
KILLED = str(ROOT / "tests" / "killed.py")
LAUNCH = ["tools.launch", "--standalone", "--nproc_per_node=2", "--"]
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
pytestmark = pytest.mark.slow


def two(*argv, launch=LAUNCH):
    """(exit code, stderr) of a command in two processes."""
    paths = (ROOT, ROOT / "tests")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run(
        [sys.executable, "-m", *launch, *argv], env=env, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stderr


@pytest.fixture
def folders(tmp_path, face_folder):
    """The flags that all runs share; a split B of eleven photos and a split A of twelve."""
    face_folder(11, tmp_path / "data" / "images_b")
    face_folder(12, tmp_path / "data" / "images_a")
    gan = tiny.translator(tmp_path / "gan.safetensors")
    return (
        f"--data_dir {tmp_path}/data --dataset toy --image_size 32 --celeba_crop_size 40 --gan_weights {gan}"
        " --device cpu --num_workers 0 --resume"
    )


def l2_of(results):
    """The l2 of the purified side of each record."""
    records = [json.loads(path.read_text()) for path in sorted(results.rglob("record.json"))]
    return [record["metrics"]["purified"]["l2"] for record in records]


def put_back(folder):
    """The results as the killed process left them."""
    shutil.rmtree(folder / "killed")
    (folder / "kept").rename(folder / "killed")


@pytest.mark.parametrize("image, launch", [(2, LAUNCH), (9, TORCHRUN)])  # while disrupting, while purifying
def test_a_test_goes_on_with_whole_caches(folders, tmp_path, image, launch):
    flags = f"{folders} --defense_model_type none jpeg-75 --attack_steps 2 --features none --batch_size 2"

    def argv(results):
        return f"{flags} --result_dir {tmp_path / results}".split()

    test_defense.main(argv("whole"))
    script = str(ROOT / "test_defense.py")
    code, said = two(KILLED, "image", str(image), script, *argv("killed"), launch=launch)
    assert code == 1
    if launch is LAUNCH:
        (line,) = said.splitlines()
        assert "process 1 of this job was ended by SIGKILL" in line and "--resume continues" in line
    else:  # its report is its own; of ours there is a line at most, and no traceback of the command
        assert "rank0]" not in said and said.count("error: another process of this job ended") <= 1
    assert not list((tmp_path / "killed").rglob("record.json"))
    assert list((tmp_path / "killed").rglob("*.tmp"))
    shutil.copytree(tmp_path / "killed", tmp_path / "kept")
    for alone in (False, True):
        if alone:
            put_back(tmp_path)
            test_defense.main(argv("killed"))
        else:
            assert two(script, *argv("killed"))[0] == 0
        lines, equal = same.differences(tmp_path / "whole", tmp_path / "killed")
        # batches of other photos round otherwise: figures a little, and seldom a photo
        assert all("differs" in line for line in lines)
        assert equal[".png"] >= 11 + 2 * 11 + 2 - 1
        assert l2_of(tmp_path / "killed") == pytest.approx(l2_of(tmp_path / "whole"), rel=1e-3)
        for listed in (tmp_path / "killed").rglob("sources.tsv"):
            rows = dict(line.split("\t") for line in listed.read_text().splitlines())
            paths = list(listed.parent.glob("*.png"))
            assert rows.keys() == {p.stem for p in paths}
            for path in paths:
                with Image.open(path) as picture:
                    picture.load()


def test_a_training_goes_on_to_the_same_bits(folders, tmp_path):
    flags = (
        f"{folders} --defense_model_type ddpm --channel_mult 1 --num_steps 6 --batch_size 4 --save_step 2"
        " --log_step 1"
    )
    script = str(ROOT / "train_defense.py")

    def argv(results):
        return f"{flags} --result_dir {tmp_path / results}".split()

    def run(results):
        return next((tmp_path / results).rglob("last.pt")).parent

    assert two(script, *argv("whole"))[0] == 0
    code, said = two(KILLED, "step", "3", script, *argv("killed"))
    (line,) = said.splitlines()
    assert code == 1 and "process 1 of this job was ended by SIGKILL" in line
    assert not list((tmp_path / "killed").rglob("weights.safetensors"))
    shutil.copytree(tmp_path / "killed", tmp_path / "kept")
    assert two(script, *argv("killed"))[0] == 0
    assert same_parts(parts(run("killed")), parts(run("whole")))
    assert not same.differences(tmp_path / "whole", tmp_path / "killed")[0]
    put_back(tmp_path)
    train_defense.main(argv("killed"))
    losses = [[row["loss"] for row in log(run(results)) if "loss" in row] for results in ("killed", "whole")]
    assert len(losses[0]) == 6 and losses[0] == pytest.approx(losses[1], rel=1e-5)
