"""What the command line of De-Pois says and understands, and the folders that it reads."""

import pytest

from common.cli import UserError
from purify.depois import __main__ as depois
from purify.depois import examined


def test_the_commands_of_the_manual_are_understood(monkeypatch):
    lines = depois.__doc__.replace("\\\n", " ").splitlines()
    commands = [line.split()[3:] for line in lines if line.strip().startswith("python -m purify.depois ")]
    assert len(commands) == 4
    for words in commands:
        depois.parse_args(words)


def test_help_documents_both_uses(capsys):
    with pytest.raises(SystemExit):
        depois.parse_args(["--help"])
    said = capsys.readouterr().out
    assert "Two uses" in said and "--dataset folder --input" in said and "--condition filtered" in said


def test_a_class_folder_needs_a_second_one(tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(UserError, match="holds 1 folder, expected one for each class"):
        examined.class_folders(tmp_path)
