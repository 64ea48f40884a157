"""The cost of a test against the number of photos: its folder, its arithmetic, a whole one."""

import pytest
from PIL import Image

from common.cli import UserError
from evaluation import benchmark
from evaluation.speed import scale
from faces.attributes import read_attributes
from faces.procedural import ATTRIBUTE_FILE
from report import record


@pytest.mark.parametrize("sizes", [[5], [5, 5], [9, 4], [1, 3, 2]])
def test_sizes_that_do_not_rise_are_refused(sizes):
    with pytest.raises(UserError, match="--scale_sizes .*: expected two sizes or more"):
        benchmark.main(["--scale", "--scale_sizes", *map(str, sizes)])


def test_a_split_is_links_to_few_photos_and_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "DRAWN", 3)
    photos = scale.make_split(tmp_path, 8) / "images_b"
    table = read_attributes(photos / ATTRIBUTE_FILE)
    names = sorted(p.name for p in photos.glob("*.jpg"))
    assert table.names == names and len(names) == 8
    assert (photos / names[1]).samefile(photos / names[4]) and (photos / names[1]).samefile(photos / names[7])
    assert (table.values[1] == table.values[4]).all() and not (photos / names[0]).samefile(photos / names[1])
    Image.open(photos / names[7]).verify()
    (photos / names[0]).unlink()
    assert scale.make_split(tmp_path, 8) == photos.parent and not (photos / names[0]).exists()
    (photos / ATTRIBUTE_FILE).unlink()  # as a killed run leaves it
    scale.make_split(tmp_path, 8)
    assert (photos / names[0]).exists()


def costs(cpu, networks, memory, anonymous=None):
    named = {"cpu_seconds": cpu, "networks_cpu_seconds": networks, "wall_seconds": cpu, "seconds": cpu}
    return {**named, "peak_memory_mb": memory, "peak_anonymous_mb": anonymous}


def test_growth_is_that_of_hand():
    metrics = {
        "10": scale.figures_of(10, costs(30.0, 10.0, 500.0, 400.0)),
        "20": scale.figures_of(20, costs(41.0, 12.0, 510.0, 405.0)),
        "50": scale.figures_of(50, costs(70.0, 30.0, 620.0, 450.0)),
    }
    assert metrics["20"]["cpu_per_photo"] == 2.05 and metrics["20"]["besides_per_photo"] == 1.45
    assert scale.growth(metrics) == {
        "photos": [10, 50],
        "memory_mb": 120.0,
        "anonymous_mb": 50.0,
        "cpu_per_further_photo": 1.0,
        "besides_per_further_photo": 0.5,
    }
    assert "memory +120 MB (+50 MB" in scale.summary(scale.growth(metrics))
    assert (
        scale.growth({k: {**m, "peak_anonymous_mb": None} for k, m in metrics.items()})["anonymous_mb"]
        is None
    )


@pytest.mark.slow
def test_a_whole_scale_writes_a_record_and_keeps_its_photos(tmp_path):
    flags = {"scratch": tmp_path / "scratch", "result_dir": tmp_path / "results", "image_size": 32}
    words = [str(word) for key, value in flags.items() for word in (f"--{key}", value)]
    benchmark.main(["--scale", "--scale_sizes", "6", "12", "--num_workers", "1", "--device", "cpu", *words])
    found = record.read(tmp_path / "results" / "benchmark" / "drawn" / "000" / "record.json")
    assert found.name == "scale" and list(found.metrics) == ["6", "12"]
    for n, m in found.metrics.items():
        assert m["num_images"] == int(n) and 0 < m["networks_cpu_seconds"] < m["cpu_seconds"]
    assert found.per_group["growth"]["photos"] == [6, 12]
    kept = sorted(p.name for p in (tmp_path / "scratch").iterdir())
    assert kept == ["drawn-12", "split-12", "tiny.safetensors"]
