"""What the shell scripts run: each is run with PYTHON set to a recorder that writes down its arguments and
succeeds; the recorded lines then go to the parsers of the commands that they name."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import train_defense
from models.diffusion import build
from models.diffusion import train as diffusion_train

ROOT = Path(__file__).resolve().parents[1]
SHELL = shutil.which("dash") or "sh"
RATES = ["0.1", "0.25", "0.5", "0.75", "0.9", "1"]  # of the scripts that train detectors
TRAINERS = (
    "train_defense",
    "test_defense",
    "train_detector",
    "models.stargan.train",
    "models.stgan.train",
    "models.starganv2.train",
    "models.dadfi.train",
    "models.classifier.train",
    "evaluation.disruption",
    "purify.depois",
    "models.diffusion.train",
    "purify.terd",
)


def run(script, workplace, *words, code=0, **environment):
    """Run a script in `workplace`; returns the recorded command lines and what was said on stderr."""
    record = workplace / "record"
    record.write_text("")
    inherited = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR", "LANG")}
    done = subprocess.run(
        [SHELL, str(script), *words],
        cwd=workplace,
        capture_output=True,
        text=True,
        timeout=60,
        env={**inherited, "PYTHON": str(workplace / "python"), "RECORD": str(record), **environment},
    )
    assert done.returncode == code, done.stderr
    return [line.split("\037")[:-1] for line in record.read_text().splitlines()], done.stderr


def words_of(script):
    return {"real_faces.sh": ["--data", "photos"], "depois_MNIST.sh": ["--data_root", "mnist"]}.get(
        script.name, []
    )


def environment_of(script):
    return (
        {"CELEBA": "photos", "GAN": "G.ckpt", "PERTURBATION": "perturbation.pt"}
        if script.name != "demo.sh"
        else {}
    )


def target(argv):
    """(module, its arguments) of a recorded command line."""
    argv = list(argv)
    if argv[:2] == ["-m", "tools.launch"]:
        argv = argv[argv.index("--") + 1 :]
    if argv[0] == "-m":
        return argv[1], argv[2:]
    assert argv[0] == "test_defense.py" or (ROOT / Path(argv[0]).name).samefile(argv[0])
    return Path(argv[0]).stem, argv[1:]


def parse_all(argv, monkeypatch):
    """The options of a recorded command line, one for each defence that it names.  Raises UserError."""
    monkeypatch.setattr(train_defense, "newest_training", lambda *a, **k: "weights.safetensors")
    monkeypatch.setattr(
        diffusion_train,
        "started_from",
        lambda *a: SimpleNamespace(meta={"options": build.options_for(16), "max_timestep": 1000}),
    )
    module, words = target(argv)
    package = importlib.util.find_spec(module).submodule_search_locations is not None
    parsed = importlib.import_module(f"{module}.__main__" if package else module).parse_args(words)
    return parsed if isinstance(parsed, list) else [parsed]


def parse(argv, monkeypatch):
    return parse_all(argv, monkeypatch)[0]


def defences(commands):
    found = [
        train_or_test[1]
        for train_or_test in map(target, commands)
        if train_or_test[0] in ("train_defense", "test_defense")
    ]
    return [words[words.index("--defense_model_type") + 1] for words in found]


def conditions(commands):
    """[(condition, defence, poison rate)] of the train_detector command lines."""
    words = [w for module, w in map(target, commands) if module == "train_detector"]

    def value(w, flag):
        return w[w.index(flag) + 1] if flag in w else None

    return [
        (value(w, "--condition"), value(w, "--defense_model_type"), value(w, "--poison_rate")) for w in words
    ]
