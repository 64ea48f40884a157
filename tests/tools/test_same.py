"""tools.same: what counts as the same result, and what does not."""

import json

import numpy as np
import pytest
from PIL import Image

from common.cli import UserError
from tools import same


@pytest.fixture
def folders(tmp_path):
    """Two equal result folders; a change to the second is what a test is about."""
    for name in ("before", "after"):
        run = tmp_path / name / "jpeg" / "000"
        run.mkdir(parents=True)
        (run / "record.json").write_text(record(l2=0.1))
        (run / "log.jsonl").write_text('{"step": 1, "loss": 0.5, "seconds": 3}\n')
        Image.fromarray(np.full((4, 4, 3), 7, np.uint8)).save(run / "grid.png")
    return tmp_path / "before", tmp_path / "after"


def record(l2=0.1, seconds=1.0, commit="a"):
    cost = {"nfe": 0, "purify_s_per_image": seconds, "device": "cpu"}
    return json.dumps({"metrics": {"l2": l2}, "cost": cost, "provenance": {"commit": commit}})


def test_seconds_commits_and_the_coding_of_a_picture_may_differ(folders, capsys):
    run = folders[1] / "jpeg" / "000"
    (run / "record.json").write_text(record(seconds=9.0, commit="b"))
    (run / "log.jsonl").write_text('{"step": 1, "loss": 0.5, "seconds": 8}\n')
    Image.open(run / "grid.png").save(run / "grid.png", compress_level=0)
    (folders[1] / "comparison.md").write_text("| s/photo |")  # made of the records, with their seconds
    assert (run / "grid.png").read_bytes() != (folders[0] / "jpeg" / "000" / "grid.png").read_bytes()
    assert same.main([str(f) for f in folders]) == 0
    assert "equal: 1 .png, 1 log.jsonl, 1 record.json" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["record.json", "log.jsonl", "grid.png"])
def test_a_figure_a_step_and_a_pixel_count(folders, capsys, name):
    run = folders[1] / "jpeg" / "000"
    (run / "record.json").write_text(record(l2=0.1 if name != "record.json" else 0.1000001))
    (run / "log.jsonl").write_text(f'{{"step": 1, "loss": {0.5 if name != "log.jsonl" else 0.6}}}\n')
    Image.fromarray(np.full((4, 4, 3), 8 if name == "grid.png" else 7, np.uint8)).save(run / "grid.png")
    assert same.main([str(f) for f in folders]) == 1
    out = capsys.readouterr().out
    assert f"jpeg/000/{name}: differs" in out and "1 differ" in out


def test_a_missing_file_is_named_and_an_empty_folder_refused(folders, tmp_path):
    (folders[1] / "jpeg" / "000" / "grid.png").unlink()
    lines, _ = same.differences(*folders)
    assert lines == [f"jpeg/000/grid.png: only in {folders[0]}"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no results"):
        same.main([str(folders[0]), str(tmp_path / "empty")])
