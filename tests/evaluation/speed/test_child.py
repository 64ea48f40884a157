"""A script in a process of its own: its cost is told apart, its end is its own."""

import pytest

from common.cli import RunError
from evaluation.speed import child, scale


def test_time_of_networks_is_that_of_the_outermost_call(monkeypatch):
    clock = iter([1.0, 4.0, 10.0, 10.5])
    monkeypatch.setattr(child.time, "thread_time", lambda: next(clock))
    networks = child.NetworkTime()
    networks._enter()
    networks._enter()  # a translator inside of a gradient: no clock is read
    networks._leave()
    networks._leave()
    networks._enter()
    networks._leave()
    assert networks.seconds == 3.5


SCRIPT = """
import sys, torch
from models.stargan.network import Generator
from models.translators import Translator
assert sys.argv[1:] == ["--limit", "3"] and __name__ == "__main__"
sum(i * i for i in range(3_000_000))  # besides networks
translator = Translator(Generator(16, 5, 1))
for _ in range(20):
    translator(torch.zeros(2, 3, 64, 64), torch.zeros(2, 5))
sys.exit(int(open("code").read()))
"""


@pytest.mark.slow
def test_a_child_tells_its_cost_and_ends_as_its_script(tmp_path, monkeypatch):
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").write_text("0")
    cost = scale.run_child([str(tmp_path / "script.py"), "--limit", "3"], tmp_path / "cost.json")
    assert 0 < cost["networks_cpu_seconds"] < cost["cpu_seconds"] and cost["peak_memory_mb"] > 50
    assert cost["wall_seconds"] >= cost["seconds"] > 0
    (tmp_path / "code").write_text("3")
    with pytest.raises(RunError, match="script.py ended with exit code 3"):
        scale.run_child([str(tmp_path / "script.py"), "--limit", "3"], tmp_path / "cost.json")
