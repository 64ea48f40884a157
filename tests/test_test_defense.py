"""The table's engine, run whole on eight tiny photos."""

import json
import os

import pytest

import test_defense as script
import weights as tiny
from common import files
from common.cli import UserError


@pytest.fixture
def stage(tmp_path, face_folder):
    """(flags, results): a split B of eight photos, a translator, and the flags that all runs share."""
    face_folder(8, tmp_path / "data" / "images_b")
    results = tmp_path / "results"
    gan = tiny.translator(tmp_path / "gan.safetensors")
    flags = (
        f"--data_dir {tmp_path}/data --dataset toy --result_dir {results} --image_size 32 --celeba_crop_size"
        f" 40 --gan_weights {gan} --attack_steps 2 --features none --device cpu --num_workers 0"
    )
    return flags, results


def run(flags, more=""):
    script.main(f"{flags} {more}".split())


def records(results):
    paths = sorted(results.rglob("record.json"))
    return {str(p.relative_to(results)): json.loads(p.read_text()) for p in paths}


def only(results):
    (record,) = records(results).values()
    return record


def test_none_is_as_bad_as_the_disruption_and_harmless_without_one(stage):
    flags, results = stage
    run(flags, "--defense_model_type none --attack_target clean")
    m = only(results)["metrics"]
    assert m["disrupted"]["l2"] > 0 and m["purified"]["l2"] == m["disrupted"]["l2"]
    assert m["clean_purified"]["l2"] == 0 and m["input"]["clean_purified"]["l2"] == 0
    assert m["input"]["disrupted"]["linf"] == pytest.approx(6 / 127.5, abs=1e-6)


def test_the_folder_and_the_record_say_what_was_run(stage):
    flags, results = stage
    run(flags, "--defense_model_type jpeg --jpeg_quality 50 --limit 6")
    assert list(records(results)) == ["jpeg-q50/toy/stargan/none/pgd-eps0.05/000/record.json"]
    record = only(results)
    config = record["config"]
    assert config["num_images"] == 6 and config["num_pairs"] == 30
    assert config["defense_params"] == {"quality": 50} and config["attack_target"] == "gray"
    assert set(record["per_group"]["domain"]) == set(tiny.ATTRIBUTES)
    assert (results / "jpeg-q50/toy/stargan/none/pgd-eps0.05/000/grid.png").exists()


def test_defences_share_attacked_photos_and_pay_once(stage):
    flags, results = stage
    run(flags, "--defense_model_type none")
    before = {p: p.stat().st_mtime_ns for p in (results / "attacked").rglob("*.png")}
    assert len(before) == 8
    run(flags, "--defense_model_type blur")
    assert {p: p.stat().st_mtime_ns for p in (results / "attacked").rglob("*.png")} == before
    a, b = records(results).values()
    assert a["provenance"]["attacked_key"] == b["provenance"]["attacked_key"]
    assert a["metrics"]["disrupted"] == b["metrics"]["disrupted"]


def test_limit_and_batch_size_do_not_change_a_photos_result(stage):
    flags, results = stage
    run(flags, "--defense_model_type none --limit 3 --batch_size 1")
    three = {p.name: p.read_bytes() for p in (results / "attacked").rglob("*.png")}
    for p in (results / "attacked").rglob("*.png"):
        p.unlink()
    run(flags, "--defense_model_type none --batch_size 8")
    eight = {p.name: p.read_bytes() for p in (results / "attacked").rglob("*.png")}
    assert len(three) == 3 and len(eight) == 8
    # a sign near zero may flip with the batch: float rounding
    assert sum(eight[k] != v for k, v in three.items()) <= 1


def test_label_target_attacks_every_domain_by_itself_and_is_stronger(stage):
    flags, results = stage
    run(flags, "--defense_model_type none --attack_target clean --attack_label original --attack_steps 5")
    run(flags, "--defense_model_type none --attack_target clean --attack_label target --attack_steps 5")
    by_label = {
        r["config"]["attack_label"]: r["metrics"]["disrupted"]["l2"] for r in records(results).values()
    }
    assert len(list((results / "attacked").rglob("*.png"))) == 8 * 6
    assert by_label["target"] > by_label["original"]


def test_diffusion_defences_use_one_checkpoint_and_count_their_evaluations(stage, tmp_path):
    flags, results = stage
    weights = tiny.diffusion(tmp_path / "diffusion.safetensors")
    for more, nfe in (
        ("ddpm --ddpm_start_num 3", 3),
        ("diffpure --ddpm_start_num 300 --respacing 10", 3),
        ("one-step-plain", 1),
    ):
        run(flags, f"--defense_model_type {more} --defense_weights {weights}")
        newest = max(results.rglob("record.json"), key=os.path.getmtime)
        assert json.loads(newest.read_text())["cost"]["nfe"] == nfe


def test_an_attack_through_the_purifier_is_another_attack(stage, tmp_path):
    flags, results = f"{stage[0]} --attack_steps 6", stage[1]  # enough to tell it from its random start
    weights = tiny.diffusion(tmp_path / "one.safetensors", "one-step", channel_mult="1")
    run(flags, f"--defense_model_type one-step --defense_weights {weights} --attack_target clean")
    run(
        flags,
        f"--defense_model_type one-step --defense_weights {weights} --attack_target clean --attack_through"
        " one-step --gradient full",
    )
    plain, through = sorted(records(results).values(), key=lambda r: r["config"]["attack_through"] or "")
    assert (
        through["config"]["attack_through"] == "one-step" and through["config"]["attack_gradient"] == "full"
    )
    assert plain["provenance"]["attacked_key"] != through["provenance"]["attacked_key"]
    assert through["metrics"]["purified"]["l2"] > plain["metrics"]["purified"]["l2"]


def test_adversarially_trained_translators_are_attacked_twice_and_judged_by_their_own_fakes(stage, tmp_path):
    flags, results = stage
    adversarial = tiny.translator(tmp_path / "adv.safetensors", conv_dim=6)
    for on in ("standard", "self"):
        run(
            flags,
            f"--defense_model_type adv-train --adv_gan_weights {adversarial} --attack_on {on} --attack_target"
            " clean",
        )
    found = {r["config"]["attack_on"]: r for r in records(results).values()}
    assert set(found) == {"standard", "self"}
    assert found["self"]["metrics"]["disrupted"]["l2"] > found["standard"]["metrics"]["disrupted"]["l2"]
    assert found["self"]["metrics"]["clean_fake_to_standard"]["l2"] > 0


def test_saved_images_are_one_file_each_named_as_their_photo(stage):
    flags, results = stage
    run(flags, "--defense_model_type jpeg --save_image --limit 2")
    (folder,) = results.rglob("images")
    assert {p.name for p in folder.iterdir()} >= {"photo", "disrupted", "purified", "fake_of_purified_Male"}
    assert all(
        sorted(p.name for p in kind.iterdir()) == ["000001.png", "000002.png"] for kind in folder.iterdir()
    )


def test_frechet_names_its_features(stage, tmp_path, monkeypatch):
    from models.classifier import network

    monkeypatch.setattr(network, "SHIPPED", tiny.classifier(tmp_path / "classifier.safetensors"))
    flags, results = stage
    run(flags.replace("--features none", ""), "--defense_model_type none")
    record = only(results)
    assert record["features"]["name"] == "attribute-classifier"
    assert record["metrics"]["disrupted"]["frechet"] > 0 and record["metrics"]["disrupted"]["fid"] is None
    assert record["metrics"]["clean_purified"]["frechet"] == pytest.approx(0, abs=1e-6)


def test_a_finished_run_is_a_no_op_with_resume_and_a_new_folder_without(stage):
    flags, results = stage
    run(flags, "--defense_model_type none --resume")
    run(flags, "--defense_model_type none --resume")
    assert len(records(results)) == 1
    run(flags, "--defense_model_type none")
    assert len(records(results)) == 2


@pytest.mark.parametrize(
    "more, words",
    [
        (
            "--defense_model_type ddpm",
            ["ddpm has no finished training", "python train_defense.py --defense_model_type ddpm"],
        ),
        (
            "--defense_model_type one-step",
            ["one-step has no finished training", "train_defense.py --defense_model_type one-step"],
        ),
        ("--defense_model_type adv-train", ["models.stargan.train", "--adversarial"]),
        ("--defense_model_type jpg", ["jpg", "jpeg"]),
        ("--defense_model_type none --attack_type pgdd", ["pgdd", "pgd"]),
        ("--defense_model_type none --test_noise_var 0.004", ["0.00784"]),
        ("--defense_model_type none --test_noise_var nan", ["nan"]),
        ("--defense_model_type none --limit 0", ["--limit", "above 0"]),
        ("--defense_model_type none --attack_typ pgd", ["--attack_typ", "--attack_type"]),
        ("--defense_model_type none --image_size 30", ["multiples of 4", "28"]),
        ("--defense_model_type none --attack_on self", ["adversarially trained"]),
        ("--defense_model_type none --device cuda:7", ["cuda:7"]),
        (
            "--defense_model_type none --selected_attrs Male Young",
            ["5 attributes", "--selected_attrs names 2"],
        ),
        ("--defense_model_type none --result_dir /proc/results", ["/proc"]),
        ("--defense_model_type none --gan_weights nowhere.ckpt", ["nowhere.ckpt"]),
        ("--defense_model_type jpeg --ddpm_start_num 10", ["jpeg has no start"]),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(stage, more, words):
    flags, results = stage
    with pytest.raises(UserError) as e:
        run(flags, more)
    assert all(word in str(e.value) for word in words) and "\n" not in str(e.value)
    assert not results.exists()


def test_dry_run_writes_nothing(stage, capsys):
    flags, results = stage
    run(flags, "--defense_model_type jpeg --dry_run")
    assert not results.exists() and '"defense_model_type": "jpeg"' in capsys.readouterr().out


def test_another_translator_is_named_in_folder_and_record_and_judged_in_its_own_domains(stage, tmp_path):
    flags, results = stage
    gan = tiny.stgan(tmp_path / "stgan.safetensors")
    dadfi = tiny.dadfi(tmp_path / "dadfi.safetensors")
    run(
        flags,
        f"--gan_weights {gan} --gan_type stgan --gan_name mine --selected_attrs Male Young"
        f" --defense_model_type jpeg --attack_type dadfi --attack_weights {dadfi}",
    )
    assert list(records(results)) == ["jpeg-q75/toy/mine/none/dadfi-eps0.05/000/record.json"]
    record = only(results)
    assert (record["config"]["gan"], record["config"]["gan_type"], record["config"]["attack"]) == (
        "mine",
        "stgan",
        "dadfi",
    )
    assert (
        set(record["per_group"]["domain"]) == {"Male", "Young"}
        and record["metrics"]["input"]["disrupted"]["linf"] <= 6 / 127.5 + 1e-6
    )


@pytest.mark.parametrize(
    "more, words",
    [
        ("--gan_type stgan", "holds a stargan generator, asked for is stgan"),
        ("--gan_style 3", "--gan_style is for --gan_type starganv2"),
        (
            "--selected_attrs Young Male Black_Hair Blond_Hair Brown_Hair",
            "was trained on the attributes Black_Hair, .*: give --selected_attrs Black_Hair",
        ),
        ("--attack_type dadfi", "needs --attack_weights FILE"),
        ("--attack_weights x", "--attack_weights is for --attack_type dadfi"),
        (
            "--image_size 16 --attack_type dadfi --attack_weights DADFI",
            "trained on photos of 32 pixels, --image_size is 16",
        ),
        (
            "--test_noise_var 0.03 --attack_type dadfi --attack_weights DADFI",
            "trained for a bound of 0.05, --test_noise_var is 0.03",
        ),
        (
            "--gan_type stgan --gan_weights STGAN --selected_attrs Male Young --image_size 30",
            "multiples of 4, 28 for example",
        ),
    ],
)
def test_translators_and_generators_that_do_not_fit_are_told_before_anything_is_written(
    stage, tmp_path, more, words
):
    flags, results = stage
    more = more.replace("STGAN", str(tiny.stgan(tmp_path / "stgan.safetensors"))).replace(
        "DADFI", str(tiny.dadfi(tmp_path / "dadfi.safetensors"))
    )
    with pytest.raises(UserError, match=words):
        run(flags, f"--defense_model_type jpeg {more}")
    assert not list(results.rglob("record.json")) and not list(results.rglob("options.yaml"))


@pytest.fixture
def flagged(tmp_path, monkeypatch):
    """Weights of a purifier whose kept verdict is backdoored, with a stop sign for the trigger; few faces
    are drawn for the threshold of a screen."""
    from models.diffusion import triggers
    from purify.terd import screen
    from purify.terd.verdict import Verdict, keep

    monkeypatch.setattr(screen, "NUM", 10)
    weights = tiny.diffusion(tmp_path / "ddpm.safetensors")
    sha = files.sha256(weights)
    keep(
        Verdict(
            "backdoored", "M_r 1", sha, "reduced", 1.0, 1.0, 1.0, triggers.trigger("stop_sign", 32), "r.json"
        ),
        weights,
        tmp_path,
    )
    return weights


def test_scan_refuses_a_backdoored_purifier_with_exit_3_and_writes_nothing(stage, flagged):
    flags, results = stage
    with pytest.raises(UserError, match="backdoored") as e:
        run(flags, f"--defense_model_type ddpm --ddpm_start_num 2 --defense_weights {flagged} --scan")
    assert e.value.exit_code == 3 and not records(results) and not list(results.rglob("*.png"))


def test_scan_screen_goes_on_and_the_record_tells(stage, flagged):
    flags, results = stage
    run(flags, f"--defense_model_type ddpm --ddpm_start_num 2 --defense_weights {flagged} --scan screen")
    scan = only(results)["config"]["scan"]
    assert scan["verdict"] == "backdoored" and set(scan["carry_the_trigger"]) == {"clean", "disrupted"}


def test_without_scan_nothing_is_scanned(stage, flagged):
    flags, results = stage
    run(flags, f"--defense_model_type ddpm --ddpm_start_num 2 --defense_weights {flagged}")
    assert only(results)["config"]["scan"] is None


def test_several_defences_have_the_records_of_one_at_a_time_and_resume_their_runs(stage, capsys):
    flags, results = stage
    for one in ("none", "jpeg --jpeg_quality 60", "blur"):
        run(flags, f"--defense_model_type {one}")
    alone = records(results)
    run(flags, "--defense_model_type none jpeg-60 blur-1.5 --resume")
    assert records(results).keys() == alone.keys()  # finished already
    run(flags, "--defense_model_type none jpeg-60 blur-1.5")
    assert "jpeg-q60                 l2 purified" in capsys.readouterr().out
    again = {k: v for k, v in records(results).items() if k not in alone}
    assert len(again) == 3
    for path, record in again.items():
        before = alone[path.replace("/001/", "/000/")]
        for part in ("name", "config", "metrics", "per_group", "features"):
            assert record[part] == before[part]


@pytest.mark.parametrize(
    "more, words",
    [
        ("--defense_model_type jpeg-75 --jpeg_quality 75", ["jpeg-75", "--jpeg_quality", "drop one"]),
        ("--defense_model_type none jpeg-101", ["from 1 to 100", "jpeg[-QUALITY]"]),
        ("--defense_model_type jpeg jpeg-75", ["named twice"]),
        ("--defense_model_type ddpm-5 one-step --defense_weights w.pt", ["ddpm-5, one-step", "NAME=FILE"]),
        ("--defense_model_type none ddpm", ["ddpm has no finished training"]),
        ("--defense_model_type none jpeg --resume somewhere", ["names one run"]),
    ],
)
def test_mistakes_in_names_of_defences_write_nothing(stage, more, words):
    flags, results = stage
    with pytest.raises(UserError) as e:
        run(flags, more)
    assert all(word in str(e.value) for word in words) and not results.exists()
