"""python -m tools.doctor: versions against ranges, what is needed and what is only noted, exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import weights
from common import checkpoint, files
from models.stargan.network import Generator
from tools import doctor, export

ROOT = Path(doctor.__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "found, bounds, good",
    [
        ("2.11.0", ">=2.6,!=2.13.0", True),
        ("2.13.0+cpu", ">=2.6,!=2.13.0", False),
        ("2.5.1", ">=2.6", False),
        ("1.0.0", "==1.0.0", True),
        ("1.0.1", "==1.0.0", False),
        ("10.2", ">=9.12", True),
        ("3.0", "<3", False),
        ("2.99.9rc1", "<3", True),
        ("1.2", "", True),
    ],
)
def test_ranges(found, bounds, good):
    assert doctor.fits(found, bounds) is good


def test_every_line_of_requirements_is_checked(tmp_path):
    names = [name for name, _ in doctor.requirements((ROOT / "requirements.txt").read_text())]
    assert {"torch", "guided-diffusion-sdk", "scikit-learn", "pytest"} <= set(names) and len(names) >= 14
    (tmp_path / "r.txt").write_text("# words\n\ntorch>=99   # never\nno-such-package-here\nnumpy>=1\n")
    rows = {row[1]: row for row in doctor.check_packages(tmp_path / "r.txt")}
    assert rows["torch"][0] == "MISSING" and "wanted >=99" in rows["torch"][3]
    assert (
        rows["no-such-package-here"][:3] == ("MISSING", "no-such-package-here", "not found")
        and rows["numpy"][0] == "ok"
    )


def test_a_package_of_the_tests_alone_is_a_note(tmp_path):
    (tmp_path / "r.txt").write_text(
        "ruff==0.0.1  # checks; pinned\nno-such-package  # tests\ntorch>=99 # new\n"
    )
    assert statuses(doctor.check_packages(tmp_path / "r.txt")) == ["note", "note", "MISSING"]


def shipped(root, content=b"weights"):
    rows = {}
    for name in export.SHIPPED:
        path = root / "models" / name / "demo.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        rows[f"models/{name}/demo.safetensors"] = {"sha256": files.sha256(path)}
    (root / "models" / "weights.yaml").write_text(yaml.safe_dump(rows))
    return root


def statuses(rows):
    return [row[0] for row in rows]


def test_shipped_weights_are_there_and_whole(tmp_path):
    assert statuses(doctor.check_shipped(shipped(tmp_path))) == ["ok"] * len(export.SHIPPED)
    (tmp_path / "models/stargan/demo.safetensors").write_bytes(b"other")
    (tmp_path / "models/diffusion/demo.safetensors").unlink()
    rows = {row[1]: row for row in doctor.check_shipped(tmp_path)}
    assert (
        rows["models/stargan/demo.safetensors"][0] == "MISSING"
        and "sha256" in rows["models/stargan/demo.safetensors"][2]
    )
    assert (
        rows["models/diffusion/demo.safetensors"][2] == "not there"
        and "demo_weights.sh" in rows["models/diffusion/demo.safetensors"][3]
    )
    assert statuses(doctor.check_shipped(tmp_path / "empty")) == ["MISSING"] * len(export.SHIPPED)


def test_data_is_needed_only_where_it_was_named(tmp_path, monkeypatch, face_folder):
    monkeypatch.chdir(tmp_path)
    assert statuses(doctor.check_data(None)) == ["note"] and statuses(doctor.check_data("nowhere")) == [
        "MISSING"
    ]
    for part in ("images_a", "images_b", "images_c"):
        face_folder(3, tmp_path / "split" / part)
    (row,) = doctor.check_data("split")
    assert row[0] == "ok" and "3, 3, 3 photos" in row[2]


def test_named_weights_must_be_of_their_kind(tmp_path):
    checkpoint.save_weights(
        tmp_path / "g.safetensors", Generator(4, 5, 1).state_dict(), {"kind": "stargan-generator"}
    )
    g, lost = str(tmp_path / "g.safetensors"), str(tmp_path / "lost.pth")

    def check(**flags):
        return list(doctor.check_weights(**flags))

    assert statuses(check(gan_weights=g)) == ["ok"] and check() == []
    stgan = weights.stgan(tmp_path / "stgan.safetensors")
    assert statuses(check(gan_weights=str(stgan))) == ["ok"]
    assert statuses(check(defense_weights=g, inception_weights=lost)) == ["MISSING", "MISSING"]


def test_a_results_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    rows = {row[1]: row for row in doctor.check_room(tmp_path / "file" / "results")}
    assert rows["results folder"][0] == "MISSING"
    assert {row[1]: row for row in doctor.check_room(tmp_path / "new")}["results folder"][0] == "ok" and not (
        tmp_path / "new"
    ).exists()


def test_exit_code_and_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "check_shipped", lambda: doctor.__dict__["_rows"])
    monkeypatch.setattr(doctor, "_rows", [("ok", "weights", "fine", "")], raising=False)
    assert doctor.main([]) == 0
    printed = capsys.readouterr().out
    assert (
        printed.endswith("ready: bash demo.sh\n")
        and "torch threads" in printed
        and "bf16" in printed
        and "free disk" in printed
    )
    assert doctor.main(["--data_dir", "nowhere"]) == 2
    printed = capsys.readouterr().out
    assert (
        printed.endswith("not ready: data nowhere\n")
        and "-> python split_dataset.py" in printed
        and not list(tmp_path.iterdir())
    )


def test_without_the_packages_of_the_command_line_it_still_says_which(tmp_path):
    """A Python that has nothing installed: -S leaves site-packages out, so PyYAML and torch are not there."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "tools.doctor"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "MISSING  torch" in done.stdout and "not ready: torch" in done.stdout
