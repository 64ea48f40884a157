"""Commands start fast: what importing each of them must not load, as it is needed later or not at all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# what a run needs late or never: each costs up to two seconds
LATE = (
    "torchvision",
    "torchmetrics",
    "torch_fidelity",
    "torch._dynamo",
    "scipy",
    "sklearn",
    "matplotlib",
    "kornia",
)
TORCH = ("torch", *LATE)
COMMANDS = {
    "split_dataset": TORCH,
    "faces.procedural": TORCH,
    "compare_results": TORCH,
    "tools.doctor": TORCH,
    "tools.same": TORCH,
    "train_defense": LATE,
    "test_defense": LATE,
    "train_detector": LATE,
    "purify.__main__": LATE,
    "purify.depois.__main__": LATE,
    "purify.terd.__main__": LATE,
    "attacks.__main__": LATE,
    "models.detector.__main__": LATE,
    "models.detector.export": LATE,
    "evaluation.bands": LATE,
    "evaluation.disruption": LATE,
    "evaluation.triggered": LATE,
    "tools.describe": LATE,
    "tools.export": LATE,
}
# One interpreter for all, those without torch first: what a command loads is charged to those after it, too.
CODE = """
import importlib, json, sys
loaded = {}
for name, unwanted in json.loads(sys.argv[1]).items():
    importlib.import_module(name)
    loaded[name] = [m for m in unwanted if m in sys.modules]
print(json.dumps(loaded))
"""


@pytest.fixture(scope="module")
def loaded():
    """{command: heavy libraries that importing it, or one of those above it, has loaded}."""
    result = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(COMMANDS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_starts_without(loaded, command):
    assert not loaded[command], f"importing {command} loads {', '.join(loaded[command])}: import them on use"
