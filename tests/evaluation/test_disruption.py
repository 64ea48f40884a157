"""A disruption against several translators, run whole on eight tiny photos."""

import json

import pytest
import torch
from PIL import Image

import weights as tiny
from common import images
from common.cli import UserError
from evaluation import disruption
from faces.celeba import FaceFolder
from models.conditions import targets
from models.translators import load_translator
from report import record


@pytest.fixture
def stage(tmp_path, face_folder):
    """(flags, results): a split B of eight photos, two translators that know different attributes, and the
    flags that all runs share."""
    face_folder(8, tmp_path / "data" / "images_b")
    gans = tiny.translator(tmp_path / "stargan.safetensors"), tiny.stgan(tmp_path / "stgan.safetensors")
    flags = (
        f"--victims stargan={gans[0]} stgan={gans[1]} --data_dir {tmp_path}/data --dataset toy --result_dir"
        f" {tmp_path}/results --image_size 32 --celeba_crop_size 40 --features none --device cpu"
        " --num_workers 0 --attack_steps 2 --limit 4"
    )
    return flags, tmp_path / "results"


def run(flags, more):
    disruption.main(f"{flags} {more}".split())


def records(results):
    return {
        str(p.parent.relative_to(results / "disruption" / "toy")): json.loads(p.read_text())
        for p in sorted(results.rglob("record.json"))
    }


def only(results):
    (found,) = records(results).values()
    return found


def cached(results):
    return {
        p.relative_to(results / "attacked" / "toy"): p.stat().st_mtime_ns
        for p in (results / "attacked").rglob("*.png")
    }


def test_one_image_for_all_is_scored_by_each_translator_in_its_own_domains(stage, tmp_path):
    flags, results = stage
    run(flags, "--attack_type random-sign")
    found = only(results)
    assert (
        list(records(results)) == ["random-sign-eps0.05/000"]
        and len(cached(results)) == 4
        and record.validate(found) == []
    )
    faces = FaceFolder(tmp_path / "data" / "images_b", ["Male", "Young"], 40, 32, limit=4)
    x = faces.floats(range(4))
    y = torch.cat(
        [
            images.to_float(images.load_png(results / "attacked" / "toy" / p))[None]
            for p in sorted(cached(results))
        ]
    )
    translator, mine = (
        load_translator(tmp_path / "stgan.safetensors", gan_type="stgan"),
        found["per_group"]["translator"]["stgan"],
    )
    l2 = torch.stack(
        [
            (translator(y, c) - translator(x, c)).square().mean(dim=(1, 2, 3))
            for c in targets(translator, faces.labels, ["Male", "Young"])
        ]
    )
    assert mine["l2"] == pytest.approx(float(l2.mean()), rel=1e-4) and mine["rmse"] == pytest.approx(
        float(l2.sqrt().mean()), rel=1e-4
    )
    assert mine["num_pairs"] == 8 and mine["domain"]["Young"]["l2"] == pytest.approx(
        float(l2[1].mean()), rel=1e-4
    )
    assert (
        found["per_group"]["translator"]["stargan"]["num_pairs"] == 20
        and mine["rmse_ci"][0] <= mine["rmse"] <= mine["rmse_ci"][1]
    )
    photo = found["metrics"]["input"]
    assert (
        photo["l2"] == pytest.approx(float((y - x).square().mean()), rel=1e-5)
        and photo["linf"] == pytest.approx(6 / 127.5, abs=1e-6)
        and photo["psnr"] > 20
    )
    worst = found["metrics"]["worst"]
    assert (
        worst["l2"]
        == min(m["l2"] for m in found["per_group"]["translator"].values())
        == found["per_group"]["translator"][worst["translator"]]["l2"]
    )


def test_the_record_says_what_was_run(stage):
    flags, results = stage
    run(flags, "--attack_type random-sign --test_noise_var 0.1")
    found = only(results)
    config = {
        k: v
        for k, v in found["config"].items()
        if k not in ("attack_blur", "attack_jpeg", "perturbation", "skipped")
    }
    assert config == {
        "translators": ["stargan", "stgan"],
        "attack": "random-sign",
        "eps": 0.1,
        "attack_steps": None,
        "attack_step_size": None,
        "attack_target": None,
        "attack_label": "original",
        "crafted_on": None,
        "attack_weights": None,
        "attack_features": None,
        "trained_on_victims": None,
        "finetuning": None,
        "variant": None,
        "num_images": 4,
        "image_size": 32,
    }
    assert (
        set(found["provenance"]["gan_sha256"]) == {"stargan", "stgan"}
        and found["split"] == "b"
        and found["features"] is None
    )
    assert found["cost"]["attack_s_per_image"] > 0 and found["cost"]["peak_memory_mb"] > 0


def test_gradient_attacks_are_made_on_each_translator_or_on_one(stage):
    flags, results = stage
    attack = "--attack_type pgd --attack_target clean --attack_steps 5"
    run(flags, attack)
    assert len(cached(results)) == 2 * 4
    for name in ("stargan", "stgan"):
        run(flags, f"{attack} --crafted_on {name}")
    assert len(cached(results)) == 2 * 4  # nothing is attacked twice
    found = records(results)
    assert set(found) == {
        "pgd-eps0.05-clean/000",
        "pgd-eps0.05-clean-on-stargan/000",
        "pgd-eps0.05-clean-on-stgan/000",
    }
    own, *on = (found[f"pgd-eps0.05-clean{end}/000"] for end in ("", "-on-stargan", "-on-stgan"))
    assert [f["config"]["crafted_on"] for f in (own, *on)] == ["own", "stargan", "stgan"]
    assert own["cost"]["attack_s_per_image"] > 0 and on[0]["cost"]["attack_s_per_image"] is None

    def l2(f, name):
        return f["per_group"]["translator"][name]["l2"]

    for f, name, other in ((on[0], "stargan", "stgan"), (on[1], "stgan", "stargan")):
        assert l2(f, name) == l2(own, name) and l2(f, other) != l2(own, other)
    shared = [f["metrics"]["input"] for f in on]
    # of all images of each photo
    assert own["metrics"]["input"]["l2"] == pytest.approx(sum(m["l2"] for m in shared) / 2)
    assert own["metrics"]["input"]["linf"] == max(m["linf"] for m in shared)


def test_trained_weights_name_their_run(stage, tmp_path):
    flags, results = stage
    both = tiny.dadfi(tmp_path / "both.safetensors", ["stargan", "stgan"])
    one = tiny.dadfi(tmp_path / "one.safetensors", ["stargan"], finetuning=False)
    for weights in (both, one):
        run(flags, f"--attack_type dadfi --attack_weights {weights}")
    found = records(results)
    assert list(found) == ["dadfi-eps0.05-stargan+stgan/000", "dadfi-eps0.05-stargan-without-finetuning/000"]
    a, b = (f["config"] for f in found.values())
    assert (a["trained_on_victims"], a["finetuning"]) == (["stargan", "stgan"], "yes") and (
        b["trained_on_victims"],
        b["finetuning"],
    ) == (["stargan"], "no")
    assert (
        a["attack_weights"] != b["attack_weights"]
        and len(a["attack_weights"]) == 64
        and a["crafted_on"] is None
    )
    assert found["dadfi-eps0.05-stargan+stgan/000"]["provenance"]["trained_on_sha256"] == {
        "stargan": "c" * 64,
        "stgan": "c" * 64,
    }


def test_one_image_made_on_all_at_once_lies_between_the_upper_bounds_and_another_victims_image(stage):
    flags, results = stage
    for crafted_on in ("own", "all", "stargan"):
        run(
            flags,
            "--attack_type pgd --attack_target clean --attack_label iterative --attack_steps 10 --crafted_on"
            f" {crafted_on}",
        )
    l2 = {
        r["config"]["crafted_on"]: r["per_group"]["translator"]["stgan"]["l2"]
        for r in records(results).values()
    }
    assert (
        l2["stargan"] < l2["all"] <= 1.05 * l2["own"]
        and len(list((results / "attacked" / "toy").iterdir())) == 3
    )
    assert "pgd-eps0.05-clean-iterative-on-all/000" in records(results)


def test_the_grid_holds_photo_protected_change_and_two_fakes_for_each_translator(stage):
    flags, results = stage
    run(flags, "--attack_type random-sign")
    run(flags, "--attack_type fgsm --limit 8")

    def size(name):
        return Image.open(results / "disruption" / "toy" / name / "000" / "grid.png").size

    assert size("random-sign-eps0.05") == ((1 + 2 + 2 * 2) * 34 + 2, 4 * 34 + 2)
    # an image for each translator; six photos at most
    assert size("fgsm-eps0.05") == ((1 + 2 * (2 + 2)) * 34 + 2, 6 * 34 + 2)


def test_the_distance_names_its_features(stage, tmp_path, monkeypatch):
    from models.classifier import network

    monkeypatch.setattr(network, "SHIPPED", tiny.classifier(tmp_path / "classifier.safetensors"))
    flags, results = stage
    run(flags.replace("--features none", ""), "--attack_type gaussian --test_noise_var 0.2")
    found = only(results)
    assert found["features"]["name"] == "attribute-classifier"
    assert all(m["frechet"] > 0 and m["fid"] is None for m in found["per_group"]["translator"].values())


def test_a_finished_run_is_a_no_op_with_resume_and_a_dry_run_writes_nothing(stage, capsys):
    flags, results = stage
    run(flags, "--attack_type none --dry_run")
    assert not results.exists() or not list(results.rglob("*.*"))
    run(flags, "--attack_type none --resume")
    before = {p: p.stat().st_mtime_ns for p in results.rglob("*")}
    run(flags, "--attack_type none --resume")
    assert (
        "this run is finished" in capsys.readouterr().out
        and {p: p.stat().st_mtime_ns for p in results.rglob("*")} == before
    )
    m = only(results)
    assert m["metrics"]["worst"]["l2"] == 0 and m["config"]["eps"] == 0


def test_wrong_flags_are_one_line_and_leave_nothing(stage, tmp_path):
    flags, results = stage
    weights = tiny.dadfi(tmp_path / "weights.safetensors")
    large, wide = (
        tiny.stgan(tmp_path / "large.safetensors", image_size=64),
        tiny.dadfi(tmp_path / "wide.safetensors", image_size=64),
    )
    for more, message in (
        (
            "--attack_type pgd --crafted_on all",
            "--crafted_on all is made for --attack_type pgd --attack_target clean --attack_label iterative",
        ),
        (f"--victims stargn={large}", r"unknown translator 'stargn' \(did you mean stargan\?\)"),
        (f"--victims stgan={large}", "stgan was trained at 64 pixels, --image_size is 32"),
        (
            f"--victims stargan={tmp_path}/stargan.safetensors stgan={large}",
            r"trained at different ones \(stargan 32, stgan 64\)",
        ),
        (f"--victims stargan={large} stargan={large}", "stargan is there 2 times"),
        ("--victims stargan=nowhere.pt", "nowhere.pt: no such weight file"),
        (
            f"--attack_type dadfi --attack_weights {weights} --crafted_on stargan",
            "--crafted_on stargan is for attacks that use a translator, fgsm bim pgd mim apgd square"
            " low-frequency worst; dadfi",
        ),
        (
            "--attack_type pgd --crafted_on starganv2",
            "--crafted_on starganv2: expected own, all or one of --victims, stargan, stgan",
        ),
        ("--attack_type dadfi", "needs --attack_weights FILE"),
        (
            f"--attack_type dadfi --attack_weights {wide}",
            "trained on photos of 64 pixels, --image_size is 32: give --image_size 64",
        ),
        (
            f"--attack_type dadfi --attack_weights {weights} --test_noise_var 0.1",
            "was trained for a bound of 0.05",
        ),
        ("--attack_label target", "unknown value 'target'"),
        ("--split a", "unknown value 'a'"),
    ):
        with pytest.raises(UserError, match=message) as raised:
            run(flags, more)
        assert "\n" not in str(raised.value)
    assert not list(results.rglob("*.*"))
