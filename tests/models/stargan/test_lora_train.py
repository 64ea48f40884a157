"""Training the patch: what it leaves, what it lowers, and that a resumed run is the uninterrupted one."""

from types import SimpleNamespace

import pytest

import trainings
from attacks import build
from common import checkpoint
from common.cli import UserError
from models.stargan import lora_train
from models.translators import load_translator
from purify.trained import newest_translator
from weights import classifier, translator

log, parts, same, killed_at = (getattr(trainings, name) for name in ("log", "parts", "same", "killed_at"))
TINY = (
    "--image_size 16 --celeba_crop_size 32 --rank 2 --attack_steps 2 --attack_step_size 0.03 --batch_size 4"
    " --num_steps 4 --log_step 1 --save_step 2 --num_workers 0 --device cpu"
).split()


@pytest.fixture
def command(face_folder, tmp_path):
    """command(*flags) -> the argv of a tiny training on 8 photos below `data`, results below `results`."""
    face_folder(8, tmp_path / "data" / "images_a")
    gan = translator(tmp_path / "gan.safetensors")
    where = ["--data_dir", str(tmp_path / "data"), "--result_dir", str(tmp_path / "results")]
    return lambda *flags: [*where, "--gan_weights", str(gan), *TINY, *flags]


def main(argv):
    lora_train.main(argv, build_attack=build)


TRAINER = SimpleNamespace(Step=lora_train.Step, main=main)  # as killed_at takes it


def folder(tmp_path, number="000"):
    return tmp_path / "results" / "stargan" / "data" / "train" / "lora" / number


def test_a_training_leaves_an_ordinary_translator(command, tmp_path, capsys):
    main(command())
    run = folder(tmp_path)
    files = {"options.yaml", "log.jsonl", "last.pt", "previous.pt", "samples", "weights.safetensors"}
    assert {p.name for p in run.iterdir()} == files
    assert sorted(p.name for p in (run / "samples").iterdir()) == ["0000002.png", "0000004.png"]
    standard, found = (
        load_translator(p) for p in (tmp_path / "gan.safetensors", run / "weights.safetensors")
    )
    assert found.options == standard.options and found.sha256 != standard.sha256
    assert (found.meta["adversarial"], found.meta["gan_sha256"]) == ("lora", standard.sha256)
    changed = {
        k for k, v in found.network.state_dict().items() if not same(v, standard.network.state_dict()[k])
    }
    assert changed == {k for k, v in found.network.state_dict().items() if v.ndim == 4}
    assert newest_translator(tmp_path / "results", "data", "patched") == run / "weights.safetensors"
    assert newest_translator(tmp_path / "results", "data") is None
    lines = log(run)
    assert lines[0]["clean_mse"] == 0 < lines[0]["attacked_mse"] and "val_attacked_mse" in lines[-1]
    capsys.readouterr()
    main(command("--resume"))
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.slow
def test_training_lowers_what_disruptions_do(command, tmp_path):
    main(command("--num_steps", "40", "--save_step", "40", "--lr", "0.03", "--rank", "8", "--limit", "2"))
    loss = [line["loss"] for line in log(folder(tmp_path)) if "loss" in line]
    assert sum(loss[-5:]) < 0.7 * sum(loss[:5])


@pytest.mark.parametrize("ema", ["0", "0.9"])
def test_a_resumed_training_is_bit_equal_to_an_uninterrupted_one(command, tmp_path, monkeypatch, ema):
    flags = ["--save_step", "1", "--ema", ema]
    main(command(*flags))
    killed_at(3, monkeypatch, TRAINER, command(*flags))
    assert checkpoint.load_state(folder(tmp_path, "001") / "last.pt")["step"] == 3
    main(command(*flags, "--resume"))
    whole, resumed = folder(tmp_path), folder(tmp_path, "001")
    assert same(parts(whole), parts(resumed))
    assert (whole / "weights.safetensors").read_bytes() == (resumed / "weights.safetensors").read_bytes()


def test_with_an_average_it_is_what_is_released(command, tmp_path):
    for ema in ("0", "0.9"):
        main(command("--ema", ema))
    plain, averaged = (
        load_translator(folder(tmp_path, n) / "weights.safetensors").network.state_dict()
        for n in ("000", "001")
    )
    assert same(parts(folder(tmp_path))["patched"], parts(folder(tmp_path, "001"))["patched"])
    assert not same(dict(plain), dict(averaged))


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--gan_weights", "none.ckpt"], "none.ckpt: no such weight file"),
        (["--selected_attrs", "Male"], "knows 5 attributes"),
        (["--image_size", "18"], "--image_size 18: these networks take multiples of 4"),
        (["--rank", "0"], "--rank"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(command, tmp_path, flags, words):
    with pytest.raises(UserError, match=words):
        main(command(*flags))
    assert not (tmp_path / "results").exists()


def test_another_network_is_refused(command, tmp_path):
    with pytest.raises(UserError, match="expected a StarGAN generator"):
        main(command("--gan_weights", str(classifier(tmp_path / "c.safetensors"))))
