"""docs/help holds what each command answers to --help; `python -m tools.help` writes it anew."""

import sys

import pytest

from common.cli import UserError
from tools import help as helps

DOCS = helps.ROOT / "docs" / "help"
COMMANDS = helps.commands()


def test_every_command_has_its_text_and_no_text_is_left_over():
    assert {"split_dataset", "attacks", "models.stargan.train", "tools.help"} <= set(COMMANDS)
    assert {p.stem for p in DOCS.glob("*.txt")} == set(COMMANDS), "python -m tools.help writes them anew"


@pytest.mark.parametrize("name", COMMANDS)
def test_docs_hold_the_help_of(name):
    text = helps.help_of(COMMANDS[name])
    assert text.startswith("usage: ") and "--debug" in text
    if sys.version_info[:2] != helps.PYTHON:
        pytest.skip("another argparse lays out help in another way; the texts are those of Python 3.11")
    assert text == (DOCS / f"{name}.txt").read_text(), "python -m tools.help writes it anew"


def test_a_command_is_found_by_its_last_lines(tmp_path):
    end = '\n\nif __name__ == "__main__":\n    pass\n'
    for name in ("a.py", "models/b.py", "attacks/__main__.py", "elsewhere/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(end)
    (tmp_path / "d.py").write_text("")
    assert set(helps.commands(tmp_path)) == {"a", "models.b", "attacks"}


def test_texts_are_written_and_stale_ones_go(tmp_path, monkeypatch):
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "gone.txt").write_text("old")
    monkeypatch.setattr(helps, "commands", lambda: {"tools.help": helps.ROOT / "tools" / "help.py"})
    if sys.version_info[:2] != helps.PYTHON:
        with pytest.raises(UserError, match="Python 3.11"):
            helps.main(["--out", str(tmp_path / "h")])
        return
    helps.main(["--out", str(tmp_path / "h")])
    assert [p.name for p in (tmp_path / "h").iterdir()] == ["tools.help.txt"]
    lines = (tmp_path / "h" / "tools.help.txt").read_text().splitlines()
    assert lines[0].startswith("usage: tools.help ") and max(map(len, lines)) <= helps.WIDTH + 10


def test_the_texts_do_not_depend_on_this_machine(monkeypatch):
    path = COMMANDS["faces.procedural"]
    text = helps.help_of(path)
    monkeypatch.setattr("os.cpu_count", lambda: 4321)
    monkeypatch.setenv("COLUMNS", "40")
    assert helps.help_of(path) == text and helps.help_of(COMMANDS["purify"]).count("4321") == 0
