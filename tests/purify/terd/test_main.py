"""python -m purify.terd: verdicts, exit codes, what is written, what is refused."""

import json
from functools import partialmethod
from pathlib import Path

import pytest
import torch
import yaml

from common import checkpoint, cli, images
from common.cli import RunError, UserError
from models.diffusion import build
from models.diffusion.backdoor import Backdoor
from purify.terd import __main__ as terd
from purify.terd import known, memory, reversion
from purify.terd.options import name_of, plan_of
from purify.terd.rule import FULL
from report import record
from tiny import weights_file

HIDDEN = {
    "name": "baddiffusion",
    "trigger": "box",
    "target": "hat",
    "poison_rate": 0.5,
    "trigger_scale": 1.0,
    "trigger_on": "background",
}
STEPS = ["--estimate_steps", "2", "--refine_steps", "1", "--batch_size", "2", "--num_samples", "20"]
SHORT = [*STEPS, "--starts", "dark"]


@pytest.fixture(scope="module", autouse=True)
def few_pairs():
    """Losses over 32 pairs of noises in place of 256, those that are compared over 2 in place of 32, read
    out of chains of 4 steps in place of 20; answers to 2 noises in place of 16, in 5 steps in place of
    200."""
    with pytest.MonkeyPatch.context() as patch:
        results = partialmethod(reversion.Reversion.results, n=32)
        patch.setattr(reversion.Reversion, "results", results)
        patch.setattr(reversion, "PAIRS", 2)
        patch.setattr(reversion, "READOUT_STEPS", 4)
        patch.setattr(Backdoor, "answer", partialmethod(Backdoor.answer, steps=5))
        patch.setattr(known, "ANSWERS", 2)
        yield


@pytest.fixture
def scene(tmp_path):
    """Weights of a tiny full-range network, and a calibration in which its M_r is unusual or not."""
    weights = weights_file(
        tmp_path / "w.safetensors",
        image_size=16,
        max_timestep=1000,
        backdoor=None,
        seed=4,
        trained_on="drawn",
    )

    def run(*words, usual=1e6, file=weights, calibration="c.json"):
        rows = [
            {"name": n, "sha256": n, "mean_kl": usual + i * usual / 10, "var_kl": 1e9}
            for i, n in enumerate("abc")
        ]
        rules = {"benign": rows, "backdoored": [{"name": "x", "sha256": "x", "mean_kl": 1e9, "var_kl": 1e9}]}
        (tmp_path / calibration).write_text(json.dumps({"reduced": {FULL: rules}}))
        return terd.main(
            [
                str(file),
                "--result_dir",
                str(tmp_path / "r"),
                "--calibration",
                str(tmp_path / calibration),
                "--device",
                "cpu",
                *words,
            ]
        )

    run.weights, run.root = weights, tmp_path
    return run


def records(root):
    return [record.read(p) for p in sorted(Path(root).rglob("record.json"))]


def test_a_clean_network(scene, capsys):
    assert scene(*STEPS) == 0
    (found,) = records(scene.root)
    assert (
        found.kind == "terd"
        and found.name == "w"
        and found.dataset == "drawn"
        and found.metrics["verdict"] == "clean"
        and found.metrics["backdoored"] == 0
    )
    assert (
        found.config["truth"] == {}
        and found.config["trained_seed"] == 4
        and found.config["plan"] == "reduced-changed"
        and found.metrics["trigger_error"] is None
    )
    folder = next((scene.root / "r").rglob("record.json")).parent
    assert {p.name for p in folder.iterdir()} == {
        "options.yaml",
        "log.jsonl",
        "last.pt",
        "trigger.png",
        "trigger.safetensors",
        "record.json",
    }
    assert images.load_png(folder / "trigger.png").ndim == 3 and "clean" in capsys.readouterr().out
    state, meta = checkpoint.read_weights(folder / "trigger.safetensors")
    # a plan of its own calibrates nothing
    assert state["r"].shape == (3, 16, 16) and meta["range"] == FULL and not meta["standard"]


def test_a_flagged_network_with_a_known_trigger(scene):
    weights = weights_file(scene.root / "b.safetensors", image_size=16, max_timestep=1000, backdoor=HIDDEN)
    assert scene(*SHORT, usual=1e-9, file=weights) == 3
    (found,) = records(scene.root)
    m = found.metrics
    assert m["verdict"] == "backdoored" and m["true_norm"] == pytest.approx(
        float(known.backdoor_of(build.load(weights)).r.norm())
    )
    assert (
        m["relative_error"] == pytest.approx(m["trigger_error"] / m["true_norm"])
        and 0 <= m["input"]["tnr"] <= 1
        and found.config["truth"] == HIDDEN
    )


@pytest.mark.parametrize(
    "more, why",
    [
        ({"max_timestep": 300}, "never trained"),
        ({"kind": "one-step", "max_timestep": 1000}, "one evaluation"),
    ],
)
def test_not_applicable(scene, capsys, more, why):
    weights = weights_file(scene.root / "t.safetensors", image_size=16, **more)
    assert scene(file=weights) == 4
    (found,) = records(scene.root)
    assert (
        found.metrics["verdict"] == "not applicable"
        and found.metrics["backdoored"] is None
        and found.config["truth"] is None
    )
    assert why in capsys.readouterr().out
    assert scene(file=weights) == 4 and len(records(scene.root)) == 1  # paid once
    assert "scanned before" in capsys.readouterr().out
    assert scene("--again", file=weights) == 4 and len(records(scene.root)) == 2


def test_another_noise_schedule_is_another_range(scene, capsys):
    options = build.options_for(16, num_channels=32, channel_mult="1,1", noise_schedule="ve")
    checkpoint.save_weights(
        scene.root / "ve.safetensors",
        build.create_network(options).state_dict(),
        {"kind": "diffusion", "options": options, "max_timestep": 1000},
    )
    assert scene(file=scene.root / "ve.safetensors") == 4 and "noise schedule" in capsys.readouterr().out


def test_no_verdict_without_benign_networks(scene):
    (scene.root / "none.json").write_text("{}")
    assert (
        terd.main(
            [
                str(scene.weights),
                "--result_dir",
                str(scene.root / "r"),
                "--calibration",
                str(scene.root / "none.json"),
                "--device",
                "cpu",
            ]
        )
        == 4
    )


def test_the_search_alone_then_its_verdict(scene, capsys):
    assert scene(*SHORT, "--search_only", "--resume") == 0 and records(scene.root) == []
    folder = next((scene.root / "r").rglob("trigger.safetensors")).parent
    assert scene(*SHORT, "--resume") == 0
    assert "(continued)" in capsys.readouterr().out and (folder / "record.json").exists()
    assert records(scene.root)[0].cost["scan_s"] > 0


def test_another_calibration_judges_the_same_search_anew(scene):
    assert scene(*SHORT, "--resume") == 0
    assert scene(*SHORT, "--resume", usual=1e-9, calibration="other.json") == 3
    (found,) = records(scene.root)
    assert found.metrics["verdict"] == "backdoored"


@pytest.mark.slow
def test_interrupted_and_resumed_is_the_same_trigger(scene):
    scene(*STEPS, "--report", str(scene.root / "whole"))
    calls = []
    real = reversion.Reversion.__call__

    def stop(self, i):
        calls.append(i)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, i)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reversion.Reversion, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            scene(*STEPS, "--save_step", "2", "--report", str(scene.root / "parts"))
    assert not list((scene.root / "parts").rglob("record.json"))
    scene(*STEPS, "--save_step", "2", "--report", str(scene.root / "parts"), "--resume")
    one, two = (
        checkpoint.read_weights(scene.root / name / "000" / "trigger.safetensors")
        for name in ("whole", "parts")
    )
    assert torch.equal(one[0]["r"], two[0]["r"]) and one[1]["mean_kl"] == two[1]["mean_kl"]


def test_the_plan_is_named_by_its_parts():
    def name(*words):
        return plan_of(terd.parse_args(["w", *words]))[1]

    assert [
        name(),
        name("--refine", "none"),
        name("--estimate_steps", "0"),
        name("--lr", "1"),
        name("--schedule", "published"),
    ] == ["reduced", "reduced-estimation", "reduced-refinement", "reduced-changed", "published"]


def test_names_of_checkpoints(tmp_path):
    for folder, options, name in (
        ("r/diffusion/faces/train/benign-16/000", "{backdoor: null, image_size: 16}", "benign-16"),
        ("moved", "{backdoor: null, image_size: 16}", "benign-16"),
        ("p", "{defense_model_type: ddpm, attack_type: pgd, train_noise_var: 0.05}", "pgd-eps0.05"),
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "options.yaml").write_text(f"options: {options}")
        assert name_of(tmp_path / folder / "weights.safetensors") == name
    assert name_of("x/ffhq.pt") == "ffhq"


def test_what_does_not_fit_in_memory_says_what_would(scene, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda device: memory.needed(build.load(scene.weights), 2 * 5))
    with pytest.raises(UserError, match="--batch_size 4 fits"):
        scene("--batch_size", "16")
    assert records(scene.root) == []


def test_a_diverging_search_claims_no_verdict(scene, monkeypatch):
    monkeypatch.setattr(reversion.Reversion, "__call__", lambda self, i: {"loss": torch.tensor(float("nan"))})
    with pytest.raises(RunError, match="not finite"):
        scene(*SHORT)
    assert records(scene.root) == [] and not list(scene.root.rglob("*.terd.safetensors"))


@pytest.mark.parametrize(
    "words, said",
    [
        (["missing.pt"], "no such weight file"),
        (["c.json"], "not a weight|text file"),
        (["models/stargan/demo.safetensors"], "StarGAN generator"),
        (["models/diffusion/demo.safetensors", "--schedul", "reduced"], "did you mean --schedule"),
        (["models/diffusion/demo.safetensors", "--starts", "drak"], "dark"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(tmp_path, capsys, words, said):
    (tmp_path / "c.json").write_text("{}")
    here = Path(__file__).parents[3]
    path = (
        str(tmp_path / words[0])
        if (tmp_path / words[0]).exists() or words[0] == "missing.pt"
        else str(here / words[0])
    )
    with pytest.raises(SystemExit) as e:
        cli.run(terd.main, [path, "--result_dir", str(tmp_path / "r"), *words[1:]])
    lines = capsys.readouterr().err.strip().splitlines()
    assert e.value.code == 2 and len(lines) == 1 and __import__("re").search(said, lines[0])
    assert not (tmp_path / "r").exists()


def test_class_conditional_is_refused_by_name_and_learned_variance_is_taken(scene):
    state, meta = checkpoint.read_weights(scene.weights)
    checkpoint.save_weights(
        scene.root / "c.safetensors", {**state, "label_emb.weight": torch.zeros(10, 128)}, {}
    )
    with pytest.raises(UserError, match="class-conditional"):
        scene(file=scene.root / "c.safetensors")
    options = build.options_for(16, num_channels=32, channel_mult="1,1", learn_sigma=True)
    network = build.create_network(options)
    torch.save(network.state_dict(), scene.root / "l.pt")
    (scene.root / "l.pt.yaml").write_text(yaml.safe_dump({"image_size": 16, "channel_mult": "1,1"}))
    assert scene(*SHORT, file=scene.root / "l.pt") in (0, 3)
    (found,) = records(scene.root)
    assert (
        found.config["family"] == "guided-diffusion"
        and found.config["truth"] is None
        and found.dataset == "unknown"
    )


def test_dry_run_writes_nothing(scene, capsys):
    assert scene("--dry_run") == 0
    assert not (scene.root / "r").exists() and '"plan": "reduced"' in capsys.readouterr().out
