import json
import os
import subprocess
import sys
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from common import cli, files, runs
from common.cli import UserError
from common.distributed import Context

CTX = Context(0, 1, "cpu")


def options(**changes):
    return Namespace(
        **{
            "lr": 1e-4,
            "names": ["a", "b"],
            "seed": 0,
            "resume": None,
            "num_workers": 2,
            "data_dir": Path("x"),
            **changes,
        }
    )


def start(tmp_path, **changes):
    return runs.open_run(tmp_path / "runs", options(**changes), CTX)


def finish(run):
    (run.folder / "record.json").write_text("{}")


def test_folders_are_numbered_and_never_used_twice(tmp_path):
    made = [start(tmp_path).folder.name for _ in range(3)]
    assert made == ["000", "001", "002"]
    for name in ("010", "note"):
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "mine.txt").write_text("")
    assert start(tmp_path).folder.name == "011"
    assert [p.name for p in runs.numbered(tmp_path / "runs")] == ["000", "001", "002", "010", "011"]


def test_starts_at_the_same_moment_get_different_folders(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: start(tmp_path).folder, range(8)))
    assert len(set(folders)) == 8 and all((f / "options.yaml").exists() for f in folders)


def ended():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_killed_processes_left_is_swept(tmp_path):
    first = start(tmp_path)
    parent, dead = first.folder.parent, ended()
    (first.folder / "samples").mkdir()
    left = [
        first.folder / f".last.pt.{files.HOST}.{dead}.tmp",
        first.folder / "samples" / f".1.png.{files.HOST}.{dead}.tmp",
        parent / "001" / f".options.yaml.{files.HOST}.{dead}.tmp",  # killed before its options were there
        parent / f".run1.{files.HOST}.{dead}.tmp" / "options.yaml",
    ]
    working = [
        first.folder / f".last.pt.{files.HOST}.{os.getpid()}.tmp",
        first.folder / f".last.pt.elsewhere.{dead}.tmp",
    ]
    for path in left + working:
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    (parent / "002").mkdir()
    again = start(tmp_path, resume="auto")
    assert again.folder == first.folder
    assert not any(path.exists() for path in left) and all(path.exists() for path in working)
    assert [p.name for p in runs.numbered(parent)] == ["000"]
    assert start(tmp_path).folder.name == "001"
    assert [p.name for p in (parent / "001").iterdir()] == ["options.yaml"]


def test_a_run_that_cannot_be_begun_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_atomic", full)
    with pytest.raises(OSError):
        start(tmp_path)
    assert not list((tmp_path / "runs").iterdir())


HOLDER = """
import sys, time
from argparse import Namespace
from pathlib import Path
from common import runs
from common.distributed import Context
run = runs.open_run(sys.argv[1], Namespace(resume="auto"), Context(0, 1, "cpu"))
time.sleep(100)
"""


def test_a_run_is_one_processes_at_a_time(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    folder = tmp_path / "000"
    try:
        assert process.stdout.readline() == f"run folder: {folder}\n"
        for resume in ("auto", str(folder)):
            with pytest.raises(UserError, match=f"process {process.pid} on {files.HOST} works on this run"):
                runs.open_run(tmp_path, Namespace(resume=resume), CTX)
        assert runs.open_run(tmp_path, Namespace(resume=None), CTX).folder.name == "001"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    # who was killed holds nothing
    assert (tmp_path / ".000.lock").exists()
    run = runs.open_run(tmp_path, Namespace(resume=str(folder)), CTX)
    assert run.folder == folder and (tmp_path / ".000.lock").read_text() == f"{os.getpid()} {files.HOST}\n"
    del run
    assert not (tmp_path / ".000.lock").exists()


def test_a_finished_run_is_everybodys(tmp_path):
    finish(start(tmp_path))
    run = start(tmp_path, resume="auto")
    assert run.finished and not list((tmp_path / "runs").glob(".*"))


def test_options_are_written_first(tmp_path):
    run = start(tmp_path)
    header = yaml.safe_load((run.folder / "options.yaml").read_text())
    assert header["options"] == {
        "lr": 1e-4,
        "names": ["a", "b"],
        "seed": 0,
        "resume": None,
        "num_workers": 2,
        "data_dir": "x",
    }
    assert (
        header["world_size"] == 1
        and header["versions"]["torch"]
        and set(header) >= {"command", "commit", "started"}
    )
    assert not run.finished and not run.resumed


def test_resume_auto(tmp_path, capsys):
    first, other = start(tmp_path), start(tmp_path, lr=0.5)
    again = start(tmp_path, resume="auto", num_workers=7)  # what changes no result may change
    assert again.folder == first.folder and again.resumed and "(continued)" in capsys.readouterr().out
    assert start(tmp_path, resume="auto", lr=0.5).folder == other.folder
    fresh = start(tmp_path, resume="auto", lr=0.7)  # none with these options: a new one
    assert fresh.folder.name == "002" and not fresh.resumed
    finish(first)
    done = start(tmp_path, resume="auto")
    assert done.folder == first.folder and done.finished
    newer = start(tmp_path)
    # the unfinished one goes before the finished one
    assert start(tmp_path, resume="auto").folder == newer.folder
    assert start(tmp_path).folder.name == "004"  # without --resume always a new one


def test_a_command_says_which_of_its_own_options_may_change(tmp_path):
    def begin(**own):
        return runs.open_run(tmp_path / "runs", options(**own), CTX, may_change=("again",))

    first = begin(again=False, lr=0.5)
    assert begin(again=True, lr=0.5, resume="auto").folder == first.folder
    assert begin(again=True, lr=0.7, resume="auto").folder != first.folder
    assert start(tmp_path, again=True, lr=0.5, resume="auto").folder != first.folder


def other_spellings(folder):
    return [f"{folder}/", f"{folder.parent}/./{folder.name}", os.path.relpath(folder), f"{folder}/../ds"]


def test_a_path_may_be_spelt_otherwise(tmp_path, monkeypatch):
    """With a slash behind, relative, from another folder, through a link; alone or in a list."""
    (tmp_path / "ds").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "ds")
    monkeypatch.chdir(tmp_path)
    first = start(tmp_path, data_dir="ds", names=["ds", "b"]).folder
    for spelt in [*other_spellings(tmp_path / "ds"), str(tmp_path / "link")]:
        assert start(tmp_path, resume="auto", data_dir=spelt, names=[spelt, "b"]).folder == first
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert start(tmp_path, resume="auto", data_dir="../ds", names=["../ds", "b"]).folder == first
    assert start(tmp_path, resume="auto", data_dir="../ds", names=["../ds"]).folder != first
    assert start(tmp_path, resume="auto", data_dir="../da", names=["../ds", "b"]).folder != first


def test_the_nearest_unfinished_run_is_named_with_what_differs(tmp_path, capsys):
    start(tmp_path, lr=0.5, seed=3)
    near, damaged = start(tmp_path, seed=3), start(tmp_path)
    (damaged.folder / "options.yaml").write_text("")
    finish(start(tmp_path, lr=0.25))
    capsys.readouterr()
    assert start(tmp_path, resume="auto", seed=4).folder.name == "004"
    note, folder = capsys.readouterr().out.splitlines()
    assert note == (
        "NOTE: --resume begins a new run: the nearest unfinished one,"
        f" {near.folder} has other options (seed: 3 -> 4)"
    )
    assert folder.endswith("004")


def test_an_option_of_later_had_its_default(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "at_default", {"rank", "gan_type"})
    monkeypatch.setattr(runs, "ADDED", {"gan_type": "stargan"})
    first = start(tmp_path).folder
    assert start(tmp_path, resume="auto", rank=8, gan_type="stargan").folder == first
    # the default is another one today than what was done then
    assert start(tmp_path, resume="auto", gan_type="stgan").folder != first
    monkeypatch.setattr(cli, "at_default", set())
    assert start(tmp_path, resume="auto", rank=9).folder != first


@pytest.mark.parametrize(
    "name, value", [("lr", 2e-4), ("names", ["b", "a"]), ("seed", 1), ("data_dir", Path("y"))]
)
def test_every_option_that_changes_results_makes_another_run(tmp_path, name, value):
    first = start(tmp_path)
    assert start(tmp_path, resume="auto", **{name: value}).folder != first.folder
    with pytest.raises(UserError, match=f"{name}: "):
        start(tmp_path, resume=str(first.folder), **{name: value})


def test_resume_of_a_named_run(tmp_path):
    first = start(tmp_path)
    start(tmp_path)
    again = start(tmp_path, resume=str(first.folder))
    assert again.folder == first.folder and again.resumed
    with pytest.raises(UserError, match="no such run folder"):
        start(tmp_path, resume=str(tmp_path / "none"))


def test_a_named_run_of_other_options_is_refused_with_the_difference(tmp_path):
    first = start(tmp_path)
    with pytest.raises(UserError) as e:
        start(tmp_path, resume=str(first.folder), lr=0.5, names=["a"])
    message = str(e.value)
    assert (
        "lr: 0.0001 -> 0.5" in message
        and "names: ['a', 'b'] -> ['a']" in message
        and "seed" not in message
        and "resume:" not in message
    )
    assert len(runs.numbered(tmp_path / "runs")) == 1


@pytest.mark.parametrize("damage", ["", "options: [", "other: 1"])
def test_a_run_whose_options_are_damaged_is_not_continued(tmp_path, damage):
    first = start(tmp_path)
    (first.folder / "options.yaml").write_text(damage)
    assert start(tmp_path, resume="auto").folder.name == "001"
    with pytest.raises(UserError, match="options.yaml is missing or damaged"):
        start(tmp_path, resume=str(first.folder))


def test_log_is_cut_back_to_the_saved_step(tmp_path):
    run = start(tmp_path)
    for step in (1, 2, 3):
        run.log(step=step, loss=step / 3)
    with open(run.folder / "log.jsonl", "a") as f:
        f.write('{"step": 4, "lo')  # killed while it wrote
    run.truncate_log(2)
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 0.33333333}, {"step": 2, "loss": 0.66666667}]


@pytest.mark.parametrize("content", ["", "{", "\0\0\0\0"])
def test_a_run_whose_last_file_is_not_whole_is_unfinished(tmp_path, content):
    first = start(tmp_path)
    finish(first)
    assert first.finished
    (first.folder / "record.json").write_text(content)
    again = start(tmp_path, resume="auto")
    assert again.folder == first.folder and not again.finished


def test_damaged_lines_of_a_log_are_left_out(tmp_path):
    run = start(tmp_path)
    assert run.logged() == []
    (run.folder / "log.jsonl").write_bytes(b'{"step": 1}\n\xff\n{"step": \xff2}\n[3]\n\n{"step": 4}\n{"st')
    assert run.logged() == [{"step": 1}, {"step": 4}]
    run.truncate_log(2)
    assert (run.folder / "log.jsonl").read_text() == '{"step": 1}\n'


def test_seconds_of_all_parts_are_summed(tmp_path):
    run = start(tmp_path)
    assert run.logged_seconds() == 0.0
    for seconds in (1.5, 4.0, 0.5, 2.25):  # resumed after 4 s
        run.log(step=1, seconds=seconds)
        run.log(step=1, validation=0.1)
    assert run.logged_seconds() == 4.0 + 2.25


def test_a_parent_that_cannot_be_made(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match="choose another folder"):
        start(tmp_path)


def test_commit_is_a_short_hash_or_nothing():
    found = runs.commit()
    assert found is None or 7 <= len(found.rstrip("+")) <= 40
