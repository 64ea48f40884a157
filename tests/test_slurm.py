"""experiments/slurm.sbatch and scripts in a Slurm job: what srun is asked to start, and what becomes of the
job before its time limit. srun, scontrol and scancel are stubs."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

import weights as tiny
from recorded import ROOT, parse_all, target
from recorded import run as run_script
from test_killed import two
from tools import launch, same

SBATCH = ROOT / "experiments" / "slurm.sbatch"
NODES = ["--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
STUBS = {
    "scontrol": 'if [ "$1" = show ]; then printf "node01\\nnode02\\n"; else echo "$@" >> "$SAID"; fi',
    "scancel": 'echo "scancel $@" >> "$SAID"; : > "$ENDED"',
    "srun": """printf '%s\\037' srun "$@" >> "$RECORD"; echo >> "$RECORD"
if [ -n "${LONG:-}" ]; then : > "$LONG"; while [ ! -e "$ENDED" ]; do sleep 0.1; done; exit 130; fi""",
    "torchrun_here": """while [ "${1#--}" != "$1" ]; do shift; done
"$@" & first=$!; "$@"; code=$?; wait "$first" && exit "$code" """,
}


@pytest.fixture
def job(workplace):
    """The environment of a job of two machines of four GPUs; Slurm's tools write down their words."""
    for name, text in STUBS.items():
        path = workplace / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    (workplace / "record").write_text("")
    (workplace / "said").write_text("")
    return {
        "PATH": f"{workplace / 'bin'}:{os.environ['PATH']}",
        "PYTHON": str(workplace / "python"),
        "RECORD": str(workplace / "record"),
        "SAID": str(workplace / "said"),
        "ENDED": str(workplace / "ended"),
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_ID": "40123",
        "SLURM_JOB_NODELIST": "node[01-02]",
        "SLURM_JOB_NUM_NODES": "2",
        "GAN": "G.ckpt",
    }


def start(job, workplace, *words, **environment):
    return subprocess.Popen(
        [shutil.which("bash"), SBATCH, *words],
        cwd=workplace,
        env={**job, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def recorded(workplace):
    return [line.split("\037")[:-1] for line in (workplace / "record").read_text().splitlines()]


def test_the_batch_file_parses_and_asks_for_its_signal():
    for shell in filter(shutil.which, ("dash", "sh", "bash")):
        assert subprocess.run([shell, "-n", SBATCH]).returncode == 0
    asked = re.findall(r"^#SBATCH (.*)$", SBATCH.read_text(), re.M)
    assert {"--signal=B:TERM@120", "--requeue", "--open-mode=append", "--ntasks-per-node=1"} <= set(asked)
    (gpus,) = [word.partition("=")[2] for word in asked if word.startswith("--gpus-per-node")]
    assert f'"${{GPUS:={gpus}}}"' in SBATCH.read_text()
    assert "[[" not in SBATCH.read_text() and "\nset -eu\n" in SBATCH.read_text()


def test_each_machine_starts_what_passed_a_dry_run(job, workplace, monkeypatch):
    assert start(job, workplace, "--limit", "64").wait(60) == 0
    dry, started = recorded(workplace)
    assert started[:5] == ["srun", *NODES] and started[5] == job["PYTHON"]
    assert started[6:14] == [
        "-m",
        "tools.launch",
        "--nnodes=2",
        "--nproc_per_node=4",
        "--rdzv_backend=c10d",
        "--rdzv_endpoint=node01:10123",
        "--rdzv_id=40123",
        "--",
    ]
    assert dry == [*started[14:], "--dry_run"] and dry[-3:-1] == ["--limit", "64"]
    options = parse_all(started[14:], monkeypatch)
    assert [o.defense_model_type for o in options] == ["none", "jpeg", "blur"] and options[0].resume == "auto"
    values = launch.parse_args(started[8:])
    assert (values.nnodes, values.rdzv_endpoint, values.command[0]) == (2, "node01:10123", started[14])
    assert (workplace / "said").read_text() == ""


def test_the_other_example_is_understood(monkeypatch):
    text = SBATCH.read_text().replace("\\\n    #", "")
    (example,) = re.findall(r'# launch "\$here/(train_defense\.py) (.*) "\$@"', text.replace('.py" ', ".py "))
    words = [str(ROOT / example[0]), *re.sub(r'"\$(\w+)"', r"\1", example[1]).split()]
    (options,) = parse_all(words, monkeypatch)
    assert options.defense_model_type == "ddpm" and options.resume == "auto" and options.batch_size % 8 == 0


def test_nothing_starts_where_the_dry_run_fails_or_the_command_does(job, workplace):
    assert start(job, workplace, DRY_RUN_CODE="2").wait(60) == 2
    assert len(recorded(workplace)) == 1 and (workplace / "said").read_text() == ""


def test_the_photos_are_split_once_where_there_is_no_split(job, workplace):
    assert start(job, workplace, PHOTOS="photos/images").wait(60) == 0
    assert target(recorded(workplace)[0]) == (
        "split_dataset",
        ["--folder_path", "photos/images", "--output_dir", "dataset/CelebA"],
    )


def test_before_the_time_limit_the_work_ends_and_the_job_queues_itself_again(job, workplace):
    running = workplace / "running"
    process = start(job, workplace, LONG=str(running))
    while not running.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert (workplace / "said").read_text().splitlines() == ["scancel --signal=TERM 40123", "requeue 40123"]
    assert "queues itself again" in process.stderr.read()


def test_scripts_start_their_long_commands_on_all_machines_and_the_others_once(job, workplace):
    more = {k: v for k, v in job.items() if k not in ("PYTHON", "RECORD")}
    commands, _ = run_script(
        ROOT / "test_CelebA.sh",
        workplace,
        **{**more, "NODES": "2", "RENDEZVOUS": "node01:10123", "DEFENSES": "none jpeg-75", "GPUS": "1"},
    )
    by_srun = [argv for argv in commands if argv[0] == "srun"]
    assert len(by_srun) == 2 and len(commands) == 2 * 2 + 1
    assert target(commands[-1])[0] == "compare_results"


@pytest.mark.slow
def test_two_machines_of_one_process_give_what_one_machine_of_two_gives(job, workplace, face_folder):
    """srun's stub starts both machines here, with the real commands."""
    face_folder(6, workplace / "data" / "images_b")
    gan = tiny.translator(workplace / "gan.safetensors")
    words = (
        f"--data_dir {workplace}/data --dataset toy --image_size 32 --celeba_crop_size 40 --gan_weights {gan}"
        " --attack_steps 1 --features none --device cpu --num_workers 0"
    ).split()
    (workplace / "bin" / "torchrun_here").rename(workplace / "bin" / "srun")
    (workplace / "bin" / "scontrol").write_text("#!/bin/sh\necho localhost\n")
    environment = {**job, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "GPUS": "1"}
    process = start(environment, workplace, *words, RESULTS=str(workplace / "machines"))
    assert process.wait(300) == 0, process.stderr.read()
    defences = ["--defense_model_type", "none", "jpeg-75", "blur-1.5"]
    script = str(ROOT / "test_defense.py")
    assert two(script, *words, *defences, "--result_dir", str(workplace / "one"))[0] == 0
    lines, equal = same.differences(workplace / "one", workplace / "machines")
    assert not lines and equal["record.json"] == 3
