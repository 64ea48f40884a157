"""`--batch_size auto` of the commands whose results do not depend on it: on a GPU a few photos are tried
first. Here the CPU tries them, and chooses 4."""

import json

import pytest
import yaml

import attacks.__main__
import detectors
import purify.__main__
import test_defense
import train_detector
import weights as tiny
from common.batch import PhotosAtATime
from common.errors import UserError
from evaluation import disruption
from tools import same

stage, drawn = detectors.stage, detectors.drawn
few_resamples, pictures_where_asked = detectors.few_resamples, detectors.pictures_where_asked


@pytest.fixture
def tried(monkeypatch):
    """The numbers of photos that were tried."""
    found = []

    def choose(self, ctx, rehearse):
        if self.asked != "auto":
            return self.asked
        for count in (2, 4):
            rehearse(count)
            found.append(count)
        return 4

    monkeypatch.setattr(PhotosAtATime, "choose", choose)
    return found


def same_but_for_rounding(a, b):
    """Two result folders that differ in a record's digits at most; they have it in their cost what was
    chosen."""
    lines, equal = same.differences(a, b)
    assert all("record.json: differs" in line for line in lines) and equal[".png"] > 0
    for path in a.rglob("record.json"):
        one, other = (json.loads((folder / path.relative_to(a)).read_text()) for folder in (a, b))
        assert one["cost"]["photos_at_a_time"] == 4
        yield one["metrics"], other["metrics"]


def faces_flags(tmp_path, face_folder):
    face_folder(6, tmp_path / "data" / "images_b")
    return (
        f"--data_dir {tmp_path}/data --dataset toy --image_size 32 --celeba_crop_size 40 --attack_steps 1"
        " --features none --device cpu --num_workers 0"
    )


@pytest.mark.parametrize(
    "protocol", ["--attack_label original", "--attack_target clean --attack_label target"]
)
def test_a_test_of_defences(tried, tmp_path, face_folder, protocol):
    flags = (
        faces_flags(tmp_path, face_folder) + f" --gan_weights {tiny.translator(tmp_path / 'g.safetensors')}"
    )
    for folder, size in (("auto", "auto"), ("plain", "4")):
        words = f"--defense_model_type none jpeg-75 --result_dir {tmp_path / folder} --batch_size {size}"
        test_defense.main(f"{flags} {protocol} {words}".split())
    assert tried == [2, 4]  # once for both, which meet the same disruption
    for one, other in same_but_for_rounding(tmp_path / "auto", tmp_path / "plain"):
        assert one["purified"]["l2"] == pytest.approx(other["purified"]["l2"], rel=1e-5)


def test_a_disruption_measured_on_two_translators(tried, tmp_path, face_folder):
    flags = faces_flags(tmp_path, face_folder)
    files = tiny.translator(tmp_path / "g.safetensors"), tiny.stgan(tmp_path / "s.safetensors")
    for folder, size in (("auto", "auto"), ("plain", "4")):
        words = f"--attack_type pgd --result_dir {tmp_path / folder} --batch_size {size}"
        disruption.main(f"{flags} --victims stargan={files[0]} stgan={files[1]} {words}".split())
    assert tried == [2, 4]
    for one, other in same_but_for_rounding(tmp_path / "auto", tmp_path / "plain"):
        assert one["worst"]["l2"] == pytest.approx(other["worst"]["l2"], rel=1e-5)


def test_folders_of_photos(tried, tmp_path, face_folder):
    photos, gan = face_folder(5), tiny.translator(tmp_path / "g.safetensors")
    for folder, size in (("auto", "auto"), ("plain", "4")):
        more = f"--input {photos} --device cpu --num_workers 0 --batch_size {size}".split()
        out = [*more, "--output", str(tmp_path / folder / "disrupted")]
        attacks.__main__.main([*out, "--gan_weights", str(gan), "--attack_steps", "1"])
        out = [*more, "--output", str(tmp_path / folder / "purified")]
        purify.__main__.main([*out, "--defense_model_type", "jpeg-75"])
    assert tried == [2, 4, 2, 4]
    assert same.differences(tmp_path / "auto", tmp_path / "plain")[0] == []
    for name in ("disrupted/attack.yaml", "purified/purify.yaml"):
        assert yaml.safe_load((tmp_path / "auto" / name).read_text())["photos_at_a_time"] == 4


def test_a_detectors_photos(tried, stage):
    flags, results = stage
    words = f"{flags} --condition purified --defense_model_type jpeg-75 --image_batch_size auto"
    train_detector.main(words.split())
    (record,) = detectors.records(results)
    assert tried and set(tried) == {2, 4} and record["cost"]["photos_at_a_time"] == 4
    before = {p: p.read_bytes() for p in results.rglob("attacked/**/*.png")}
    for path in before:
        path.unlink()
    train_detector.main(words.replace("auto", "4").split())
    assert {p: p.read_bytes() for p in results.rglob("attacked/**/*.png")} == before


def test_the_batch_of_a_training_is_a_number():
    with pytest.raises(UserError, match="a training depends on it"):
        train_detector.parse_args(["--condition", "clean", "--batch_size", "auto"])
