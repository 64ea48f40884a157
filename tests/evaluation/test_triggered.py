"""Photos with a trigger through purifiers: what is put on them, what is measured, and the whole command on a
few tiny photos."""

import json
from functools import partialmethod

import pytest
import torch
from PIL import Image

import weights
from common import checkpoint, images
from common.cli import UserError
from evaluation import triggered, triggered_rows, triggered_split
from faces.celeba import FaceFolder
from models.conditions import targets
from models.diffusion import build, triggers
from models.diffusion.backdoor import Backdoor
from models.translators import load_translator

HIDDEN = {
    "trigger": "stop_sign",
    "target": "shoe",
    "poison_rate": 0.2,
    "trigger_scale": 1.0,
    "trigger_on": "background",
}


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    """The sampler of a backdoor takes 5 steps in place of 200."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backdoor, "answer", partialmethod(Backdoor.answer, steps=5))
        yield


def hiding(path, name, max_timestep=300, **other):
    """A tiny network that says that it hides a backdoor."""
    weights.diffusion(path)
    state, meta = checkpoint.read_weights(path)
    checkpoint.save_weights(
        path, state, {**meta, "max_timestep": max_timestep, "backdoor": {**HIDDEN, "name": name, **other}}
    )
    return path


@pytest.fixture
def stage(tmp_path, face_folder):
    """(flags, results): a split B of six photos, a benign purifier and two backdoored ones, a translator."""
    face_folder(6, tmp_path / "data" / "images_b")
    benign, photo, bad = (
        weights.diffusion(tmp_path / "benign.safetensors"),
        hiding(tmp_path / "photo.safetensors", "photo"),
        hiding(tmp_path / "bad.safetensors", "baddiffusion", 1000),
    )
    flags = (
        f"--purifiers benign={benign} photo={photo} bad={bad} --data_dir {tmp_path}/data --dataset toy"
        f" --result_dir {tmp_path}/results --image_size 32 --celeba_crop_size 40 --device cpu --num_workers 0"
        " --limit 4 --batch_size 3 --most_steps 3 --gan_weights"
        f" {weights.translator(tmp_path / 'gan.safetensors')}"
    )
    return flags, tmp_path / "results"


def run(flags, more=""):
    triggered.main(f"{flags} {more}".split())


def found(results):
    (path,) = results.rglob("triggered.json")
    return json.loads(path.read_text()), path.parent


def row(out, *key):
    (one,) = [r for r in out["rows"] if (r["purifier"], r["method"], r["trigger_on"]) == key]
    return one


def test_the_figures_are_those_of_the_purified_photos_and_their_fakes(stage, tmp_path):
    flags, results = stage
    run(flags, "--methods one-step-plain-10 ddpm-2 diffpure-600 --ways stamp add")
    out, folder = found(results)
    assert out["trigger"] == "stop_sign" and out["target"] == "shoe" and out["num_images"] == 4
    assert sorted(map(tuple, out["skipped"])) == [("benign", "diffpure-600"), ("photo", "diffpure-600")]
    x = FaceFolder(tmp_path / "data" / "images_b", ["Male"], 40, 32, limit=4).floats(range(4))
    faces = FaceFolder(tmp_path / "data" / "images_b", weights.ATTRIBUTES, 40, 32, limit=4)
    stamped = images.quantise(triggers.stamp(x, triggers.trigger("stop_sign", 32)))
    denoiser = build.load(tmp_path / "photo.safetensors")
    with torch.no_grad():
        y = images.quantise(denoiser.x0(stamped, 9))
        translator = load_translator(tmp_path / "gan.safetensors")
        l2 = torch.stack(
            [
                (translator(y, c) - translator(x, c)).square().mean(dim=(1, 2, 3))
                for c in targets(translator, faces.labels, weights.ATTRIBUTES)
            ]
        )
        rms = denoiser.eps(stamped, 9).square().flatten(1).mean(1).sqrt()
    mine = row(out, "photo", "one-step-plain-10", "stamp")
    assert mine["to_target"] == pytest.approx(
        float((y - triggers.target("shoe", 32)).square().mean()), rel=1e-4
    )
    assert mine["to_photo"] == pytest.approx(float((y - x).square().mean()), rel=1e-4) and mine[
        "noise_rms"
    ] == pytest.approx(float(rms.mean()), rel=1e-4)
    assert (
        mine["fake_l2"] == pytest.approx(float(l2.mean()), rel=1e-3)
        and mine["fake_l2_ci"][0] <= mine["fake_l2"] <= mine["fake_l2_ci"][1]
    )
    assert (
        row(out, "none", "none", "none")["to_photo"] == 0 and row(out, "none", "none", "none")["fake_l2"] == 0
    )
    assert row(out, "bad", "x_T", "x_T")["to_target"] > 0 and "fake_l2" not in row(out, "bad", "x_T", "x_T")
    assert row(out, "bad", "diffpure-600", "add")["to_photo"] > 0 and "noise_rms" not in row(
        out, "bad", "diffpure-600", "add"
    )
    text = (folder / "table.md").read_text()
    assert "| photo | photo | ddpm-2 | stamp |" in text and text.count("\n| ") == 2 + len(out["rows"])
    # 3 photos x 3 purifiers; photo and stamped one, three methods of both; fakes of photo, stamped one, three
    # methods
    assert Image.open(folder / "grid.png").size == ((2 + 6 + 2 + 3) * 34 * 2 + 4, 9 * 34 * 2 + 4)


def test_without_a_translator_nothing_is_said_of_fakes_and_a_finished_run_stays(stage):
    flags, results = stage
    flags = flags.split(" --gan_weights")[0] + " --methods one-step-plain-10"
    run(flags)
    out, folder = found(results)
    assert (
        not any("fake_l2" in r for r in out["rows"])
        and "l2 of fakes |" not in (folder / "table.md").read_text()
    )
    before = (folder / "triggered.json").stat().st_mtime_ns
    run(flags, "--resume")
    assert found(results)[1] == folder and (folder / "triggered.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("name, trigger", [("baddiffusion", "box"), ("trojdiff", "hello")])
def test_a_trigger_is_put_on_photos_as_the_backdoor_has_it(faces, name, trigger):
    x = faces(2, 16)[0]
    form = Backdoor(name, trigger, "hat", 16, build.create_diffusion().alphas_cumprod)
    torch.testing.assert_close(
        triggered_rows.put_on(x, "add", form, 0), images.quantise((x + form.r).clamp(-1, 1))
    )
    torch.testing.assert_close(
        triggered_rows.put_on(x, "scaled", form, 99), images.quantise((x + form.c[99] * form.r).clamp(-1, 1))
    )
    assert torch.equal(triggered_rows.put_on(x, "none", form, 0), x)
    stamped = x * 0.6 + form.r if name == "trojdiff" else triggers.stamp(x, form.g)
    torch.testing.assert_close(
        triggered_rows.put_on(x, "stamp", form, 0), images.quantise(stamped.clamp(-1, 1))
    )


def test_long_chains_are_respaced_and_short_ones_are_not(tmp_path):
    denoiser = build.load(weights.diffusion(tmp_path / "a.safetensors"))

    def steps(text):
        return triggered_rows.purifier_of(denoiser, text, 50).steps_for(torch.zeros(1, 3, 32, 32))[0]

    assert (
        steps("ddpm-10") == 10
        and steps("ddpm-50") == 50
        and 45 <= steps("ddpm-300") <= 50
        and 45 <= steps("diffpure-100") <= 50
    )
    assert triggered_rows.purifier_of(denoiser, "ddpm-301", 50) is None


@pytest.mark.parametrize(
    "more, said",
    [
        ("--trigger boxx", "boxx"),
        ("--methods ddpm-0", "ddpm-0"),
        ("--methods jpeg-75", "jpeg-75"),
        ("--image_size 64", "--image_size is 64"),
    ],
)
def test_a_mistake_is_told_in_one_line(stage, capsys, more, said):
    with pytest.raises((UserError, SystemExit)) as e:
        run(stage[0], more)
    assert said in str(e.value) + capsys.readouterr().err and not stage[1].exists()


def test_weights_of_several_triggers_need_the_flag(stage, tmp_path):
    other = hiding(tmp_path / "other.safetensors", "baddiffusion", 1000, trigger="box")
    with pytest.raises(UserError, match="box, stop_sign; give --trigger"):
        run(stage[0].replace("bad=", f"other={other} bad="), "--dry_run")
    run(stage[0].replace("bad=", f"other={other} bad="), "--trigger box --dry_run")
    assert not stage[1].exists()


def test_a_split_with_triggers_differs_in_the_crop_of_its_share_alone(tmp_path, face_folder, capsys):
    for part in "bc":
        face_folder(6, tmp_path / "data" / f"images_{part}")
    argv = f"--data_dir {tmp_path}/data --output_dir {tmp_path}/out --rate 0.5 --celeba_crop_size 32".split()
    triggered_split.main([*argv, "--dry_run"])
    assert not (tmp_path / "out").exists()
    triggered_split.main(argv)
    before, after = (FaceFolder(tmp_path / folder / "images_b", [], 32, 32) for folder in ("data", "out"))
    x, y, hit = (
        before.floats(range(6)),
        after.floats(range(6)),
        (tmp_path / "out" / "triggered.txt").read_text().splitlines()[1:],
    )
    assert len(hit) == 3 and after.names == before.names
    for i, name in enumerate(before.names):
        torch.testing.assert_close(
            y[i],
            images.quantise(triggers.stamp(x[i], triggers.trigger("stop_sign", 32))) if name in hit else x[i],
        )
    assert (tmp_path / "out" / "images_c" / "000001.png").read_bytes() == (
        tmp_path / "data" / "images_c" / "000001.png"
    ).read_bytes()
    triggered_split.main(argv)
    assert "it is there already" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds something else"):
        triggered_split.main([*argv, "--trigger", "box"])
    with pytest.raises(UserError, match="smaller crop"):
        triggered_split.main(
            f"--data_dir {tmp_path}/data --output_dir {tmp_path}/new --celeba_crop_size 44".split()
        )
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".*"))
