"""compare_results.py: what it writes, README markers, and one line for what cannot be compared."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import compare_results
from common.cli import UserError
from report.kind import Kind
from synthetic import defense, detector, disruption, filtering, save, scan


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    for name, l2 in (("none", 0.4), ("jpeg-q75", 0.02), ("one-step", 0.001)):
        save(folder, defense(name, l2=l2), grid=True)
    return folder


def files_of(folder):
    return sorted(p.name for p in folder.iterdir() if p.is_file())


EXPECTED = [
    "comparison.csv",
    "comparison.md",
    "cost_against_fake-drawn-stargan.png",
    "l2_by_defence-drawn-stargan.png",
    "l2_by_eps-drawn-stargan.png",
    "photo_against_fake-drawn-stargan.png",
    "report.html",
]


def test_writes_into_the_results_folder_and_prints_the_table(results, capsys):
    assert compare_results.main([str(results)]) is None
    assert files_of(results) == EXPECTED
    printed = capsys.readouterr().out
    assert (results / "comparison.md").read_text() in printed and "one-step" in printed


def test_out_goes_elsewhere_and_a_repetition_changes_nothing(results, tmp_path, monkeypatch):
    monkeypatch.setattr(Kind, "draw", lambda kind, table: {"l2_by_eps": b"picture"})
    compare_results.main([str(results), "--out", str(tmp_path / "a" / "b")])
    texts = ["comparison.csv", "comparison.md", "l2_by_eps-drawn-stargan.png", "report.html"]
    assert files_of(tmp_path / "a" / "b") == texts and files_of(results) == []
    first = [(tmp_path / "a" / "b" / name).read_bytes() for name in texts]
    compare_results.main([str(results), "--out", str(tmp_path / "a" / "b")])
    assert [(tmp_path / "a" / "b" / name).read_bytes() for name in texts] == first


def test_readme_tables_are_rewritten_between_their_markers(results, tmp_path, monkeypatch):
    monkeypatch.setattr(Kind, "draw", lambda kind, table: {})
    readme = tmp_path / "README.md"
    readme.write_text(
        "before\n<!-- table:drawn -->\nstale table\n<!-- /table -->\nbetween\n\n<!-- table:drawn --><!--"
        " /table -->\nafter\n"
    )
    compare_results.main([str(results), "--out", str(tmp_path / "out"), "--readme", str(readme)])
    text = readme.read_text()
    assert text.startswith("before\n<!-- table:drawn -->\n| attack") and text.endswith(
        "<!-- /table -->\nafter\n"
    )
    assert "stale" not in text and "between" in text and text.count("| one-step") == 2
    compare_results.main([str(results), "--out", str(tmp_path / "out"), "--readme", str(readme)])
    assert readme.read_text() == text


@pytest.mark.parametrize(
    "content, message",
    [
        ("no marker", "holds no <!-- table:NAME --> marker"),
        ("<!-- table:drawn -->", "has no <!-- /table -->"),
        ("<!-- table:drawn --> <!-- table:drawn --> <!-- /table -->", "has no <!-- /table -->"),
        (
            "<!-- table:CelebA --><!-- /table -->",
            r"asks for rows that no record has \(data sets found: drawn\)",
        ),
    ],
)
def test_wrong_markers_write_nothing(results, tmp_path, content, message):
    readme = tmp_path / "README.md"
    readme.write_text(content)
    with pytest.raises(UserError, match=message):
        compare_results.main([str(results), "--readme", str(readme)])
    assert readme.read_text() == content and files_of(results) == []


def test_detectors_have_files_of_their_own(tmp_path, capsys):
    for name, rate in (("clean", 0.0), ("disrupted", 0.5), ("disrupted", 1.0), ("one-step", 1.0)):
        for base in ("scratch", "finetuned"):
            save(tmp_path / "results", detector(name, rate=rate, base=base))
    compare_results.main([str(tmp_path / "results"), "--out", str(tmp_path / "out")])
    assert files_of(tmp_path / "out") == ["comparison.csv", "comparison.md", "comparison_detectors.csv"] + [
        f"detectors_{plot}-drawn-stargan-meso4{base}.png"
        for plot in ("accuracy", "rate")
        for base in ("-finetuned", "")
    ] + ["report.html"]
    assert "comparison_detectors.csv" in capsys.readouterr().out


def test_disruptions_have_files_of_their_own(tmp_path, capsys):
    for found in (
        disruption("random-sign", (0.01, 0.02)),
        disruption(l2=(0.2, 0.1)),
        disruption(l2=(0.4,), victims=("stargan",)),
    ):
        save(tmp_path / "results", found)
    compare_results.main([str(tmp_path / "results"), "--out", str(tmp_path / "out")])
    assert files_of(tmp_path / "out") == [
        "comparison.csv",
        "comparison.md",
        "comparison_disruptions.csv",
        "disruptions_l2-drawn-stargan-stgan-64.png",
        "report.html",
    ]
    assert (
        "DADFI, trained on stargan+stgan" in (tmp_path / "out" / "comparison.md").read_text()
        and "comparison_disruptions.csv" in capsys.readouterr().out
    )


def test_finders_of_poisoned_samples_have_files_of_their_own(tmp_path, capsys):
    for found in (
        filtering(),
        filtering("loss", auc=0.55),
        filtering(rate=0.1),
        filtering("knn-labels", rate=0.1),
        filtering(dataset="MNIST"),
    ):
        save(tmp_path / "results", found)
    compare_results.main([str(tmp_path / "results"), "--out", str(tmp_path / "out")])
    assert files_of(tmp_path / "out") == [
        "comparison.csv",
        "comparison.md",
        "comparison_filters.csv",
        "filters_auc-drawn-28-rate0.1.png",
        # one method alone has no picture
        "filters_auc-drawn-28-rate0.3.png",
        "report.html",
    ]
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert (
        "## Finding poisoned samples" in text
        and text.count("### ") == 3
        and "not found" in text
        and "comparison_filters.csv" in capsys.readouterr().out
    )


def test_scans_of_diffusion_weights_have_files_of_their_own(tmp_path, capsys):
    for found in (
        scan(),
        scan("villan"),
        scan("villan", refine="none"),
        scan(size=32),
        scan("unknown", dataset="unknown", name="found"),
    ):
        save(tmp_path / "results", found)
    compare_results.main([str(tmp_path / "results"), "--out", str(tmp_path / "out")])
    # one model alone has no picture
    assert files_of(tmp_path / "out") == [
        "comparison.csv",
        "comparison.md",
        "comparison_scans.csv",
        "report.html",
        "scans_kl-drawn-16.png",
    ]
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert (
        "## Scans of diffusion weights" in text
        and text.count("### ") == 3
        and "Other records" not in text
        and "comparison_scans.csv" in capsys.readouterr().out
    )


def test_parts_of_a_readme_without_records_are_kept_and_named(results, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Kind, "draw", lambda kind, table: {})
    readme = tmp_path / "README.md"
    readme.write_text(
        "<!-- table:drawn -->\n<!-- /table -->\n<!-- detectors:CelebA rate=1 -->\nkept table\n<!-- /table"
        " -->\n"
    )
    compare_results.main([str(results), "--readme", str(readme), "--keep_missing"])
    assert "| one-step" in readme.read_text() and readme.read_text().endswith(
        "<!-- detectors:CelebA rate=1 -->\nkept table\n<!-- /table -->\n"
    )
    assert (
        f"kept as they are in {readme}, no records here: <!-- detectors:CelebA rate=1 -->"
        in capsys.readouterr().out
    )
    with pytest.raises(UserError, match="give --readme FILE with it"):
        compare_results.main([str(results), "--keep_missing"])


@pytest.fixture
def pages(tmp_path):
    """A README and a folder of pages; the last page asks for what has no records, one has no marker."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (tmp_path / "README.md").write_text("top\n<!-- table:drawn -->\nstale\n<!-- /table -->\n")
    (folder / "a.md").write_text("<!-- table:drawn -->\nstale\n<!-- /table -->\nbelow\n")
    (folder / "b.md").write_text("<!-- matrix:drawn -->\nstale\n<!-- /table -->\n")
    (folder / "plain.md").write_text("no marker\n")
    (folder / "z.md").write_text("<!-- detectors:CelebA -->\nkept\n<!-- /table -->\n")
    return [tmp_path / "README.md", folder]


def test_several_files_and_folders_are_filled(results, pages, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Kind, "draw", lambda kind, table: {})
    readme, folder = pages
    command = [str(results), "--out", str(tmp_path / "out"), "--readme", str(readme), str(folder)]
    compare_results.main([*command, "--keep_missing"])
    texts = {path.name: path.read_text() for path in (readme, *folder.iterdir())}
    for name in ("README.md", "a.md", "b.md"):
        assert "| one-step" in texts[name] and "stale" not in texts[name]
    assert texts["README.md"].startswith("top\n") and texts["a.md"].endswith("below\n")
    assert texts["b.md"].startswith("<!-- matrix:drawn -->\n| defence ")
    assert texts["plain.md"] == "no marker\n" and "\nkept\n" in texts["z.md"]
    kept = [line for line in capsys.readouterr().out.splitlines() if line.startswith("kept")]
    assert kept == [f"kept as they are in {folder / 'z.md'}, no records here: <!-- detectors:CelebA -->"]
    compare_results.main([*command, "--keep_missing"])
    assert {path.name: path.read_text() for path in (readme, *folder.iterdir())} == texts


def test_a_marker_without_records_in_one_of_several_files_leaves_all(results, pages):
    readme, folder = pages
    before = {path: path.read_text() for path in (readme, *folder.iterdir())}
    with pytest.raises(UserError, match=r"z\.md: the marker <!-- detectors:CelebA --> asks for rows that no"):
        compare_results.main([str(results), "--readme", str(readme), str(folder)])
    assert {path: path.read_text() for path in before} == before and files_of(results) == []
    (folder / "z.md").unlink()
    for path in folder.iterdir():
        path.write_text("no marker")
    with pytest.raises(UserError, match="docs: no Markdown file in it holds a <!-- table:NAME --> marker"):
        compare_results.main([str(results), "--readme", str(readme), str(folder)])
    assert readme.read_text() == before[readme]


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(UserError, match="no such results folder"):
        compare_results.main([str(tmp_path / "none")])
    with pytest.raises(UserError, match="nothing to compare"):
        compare_results.main([str(tmp_path)])
    with pytest.raises(UserError, match="--reedme"):
        compare_results.main([str(tmp_path), "--reedme", "x"])


def test_names_of_files_stay_inside_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(Kind, "draw", lambda kind, table: {"l2_by_eps": b"picture"})
    found = defense(dataset="my faces")
    found.config["gan"] = "../../x"
    save(tmp_path / "results", found)
    compare_results.main([str(tmp_path / "results"), "--out", str(tmp_path / "out")])
    assert "l2_by_eps-my_faces-.._.._x.png" in files_of(tmp_path / "out")


def test_a_user_sees_one_line_and_exit_code_2(tmp_path):
    script = Path(compare_results.__file__)
    done = subprocess.run(
        [sys.executable, script.name, str(tmp_path)], capture_output=True, text=True, cwd=script.parent
    )
    assert (
        done.returncode == 2
        and done.stdout == ""
        and done.stderr.count("\n") == 1
        and done.stderr.startswith("error: ")
    )


def test_a_bad_record_is_listed_as_not_read_and_stops_nothing(results, monkeypatch, capsys):
    monkeypatch.setattr(Kind, "draw", lambda kind, table: {})
    paths = sorted(results.rglob("record.json"))
    good, (first, second) = paths[0], paths[1:]
    content = json.loads(first.read_text())
    content["metrics"]["fake_adv"] = {**content["metrics"].get("fake_adv", {}), "l1": 10**400}
    content["seed"] = 10**400
    first.write_text(json.dumps(content))
    content = json.loads(second.read_text())
    content["config"] = {key: ["a", {"b": 1}] for key in content["config"]}
    second.write_text(json.dumps(content))
    compare_results.main([str(results)])
    said = (results / "comparison.md").read_text()
    assert str(first) in said.split("Not read")[1] and str(second) in said.split("Not read")[1]
    assert str(good) not in said


def test_markup_and_terminal_commands_in_names_do_not_go_through(results, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Kind, "draw", lambda kind, table: {})
    for path in results.rglob("record.json"):
        content = json.loads(path.read_text())
        content["dataset"] = "drawn\n\n# big\x1b[31m<script>|<!-- /table -->"
        path.write_text(json.dumps(content))
    compare_results.main([str(results)])
    said = (results / "comparison.md").read_text()
    assert "drawn\\n\\n# big\\x1b[31m&lt;script>" in said and "<" not in said and "\x1b" not in said
    assert "\x1b" not in capsys.readouterr().out
