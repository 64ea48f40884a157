"""Detectors trained on what a filter has kept: the disrupted photos as they are, or purified."""

from pathlib import Path

import numpy as np
import pytest

import detectors
import train_detector as script
from common.cli import UserError
from faces.celeba import held_out
from models.detector.samples import join
from report.comparison import compare
from report.looks import Looks

few_resamples, pictures_where_asked = detectors.few_resamples, detectors.pictures_where_asked
stage = detectors.stage
run, records, only, opened = (getattr(detectors, k) for k in ("run", "records", "only", "opened"))
NAMES = [f"{i + 1:06d}.png" for i in range(20)]  # of split B
BOTH = "--condition purified --defense_model_type jpeg --poison_rate 0.5"


def listed(path, names=(), ids=(), said="# filter: de-pois\n# share dropped: 0.2\n"):
    path.write_text(said + "\n".join([*names, *ids]) + "\n")
    return path


def pixels(samples):
    return dict(zip(samples.ids, samples.pixels, strict=True))


def test_a_filter_leaves_only_what_it_kept(stage, tmp_path):
    flags, results = stage
    names = opened(flags, "--condition clean").b.names
    kept = tmp_path / "kept.txt"
    kept.write_text("# kept\n" + "\n".join(names[:15]) + f"\nreal/{names[16]}\n")
    opened_stage = opened(flags, f"--condition filtered --kept_names {kept}")
    whole = join(opened_stage.training())
    assert set(whole.names) == {*names[:15], names[16]} and len(whole) == 31
    run(flags, f"--condition filtered --kept_names {kept}")
    assert (
        only(results)["config"]["kept"] == "kept.txt"
        and only(results)["config"]["num_train"] + only(results)["config"]["num_validation"] == 31
    )


def test_both_drops_samples_as_scraped_and_purifies_the_photos_of_the_others(stage, tmp_path):
    flags, results = stage
    kept = listed(tmp_path / "kept.txt", NAMES[:14], [f"real/{NAMES[15]}", f"fake/{NAMES[17]}"])
    both = pixels(join(opened(flags, f"{BOTH} --kept_names {kept}").training()))
    assert both.keys() == {
        *(f"{kind}/{name}" for name in NAMES[:14] for kind in ("real", "fake")),
        f"real/{NAMES[15]}",
        f"fake/{NAMES[17]}",
    }
    # photos of which nothing is kept are not purified
    assert len(list((results / "purified").rglob("*.png"))) == 16
    purified, scraped = (
        pixels(join(opened(flags, more).training()))
        for more in (BOTH, "--condition disrupted --poison_rate 0.5")
    )
    assert all(
        np.array_equal(both[one], purified[one]) and not np.array_equal(both[one], scraped[one])
        for one in both
    )
    # one cache of disrupted photos, one of the others, both shared
    assert len(list((results / "purified" / "toy").iterdir())) == 2


def test_both_has_a_folder_a_record_and_a_row_of_its_own(stage, tmp_path):
    flags, results = stage
    kept = listed(tmp_path / "kept.txt", NAMES[:15])
    for more in (
        "--condition clean",
        "--condition disrupted --poison_rate 0.5",
        BOTH,
        f"{BOTH} --kept_names {kept}",
        f"--condition filtered --poison_rate 0.5 --kept_names {kept}",
    ):
        run(flags, more)
    found = {
        Path(p).parts[4]: record
        for p, record in zip(
            [p.relative_to(results) for p in sorted(results.rglob("record.json"))],
            records(results),
            strict=True,
        )
    }
    assert list(found) == ["clean", "disrupted", "filtered", "jpeg-q75", "jpeg-q75+filtered"]
    assert all(
        next((results / "detector/toy/stargan/meso4" / name).iterdir()).name == "pgd-eps0.05-rate0.5"
        for name in list(found)[1:]
    )
    config = {
        name: [record["config"][k] for k in ("condition", "defense", "kept", "kept_filter")]
        for name, record in found.items()
    }
    assert config["jpeg-q75+filtered"] == ["purified", "jpeg", "kept.txt", "de-pois"] and config[
        "jpeg-q75"
    ] == ["purified", "jpeg", None, None]
    assert (
        config["filtered"] == ["filtered", "none", "kept.txt", "de-pois"]
        and found["jpeg-q75+filtered"]["name"] == "jpeg-q75+filtered"
    )
    (table,) = compare(results, looks=Looks).tables["detector"]
    assert [row.label for row in table.rows] == [
        "clean",
        "disrupted",
        "jpeg-q75",
        "jpeg-q75 + filtered (de-pois)",
        "filtered (de-pois)",
    ]
    assert not table.notes and all(row.cell("lost").value is not None for row in table.rows[1:])


def test_a_list_without_the_name_of_its_filter_says_so_in_the_record(stage, tmp_path):
    flags, results = stage
    run(flags, f"--condition filtered --kept_names {listed(tmp_path / 'kept.txt', NAMES[:15], said='')}")
    assert only(results)["config"]["kept_filter"] is None and only(results)["config"]["kept"] == "kept.txt"


def kept_of(names, what):
    validation = held_out(names)[1]
    return {
        "nothing": "",
        "unknown": "000099.png\n",
        "one class": "\n".join(f"real/{n}" for n in names),
        "one class in validation": "\n".join(f"fake/{n}" if n in validation else n for n in names),
    }[what]


@pytest.mark.parametrize("condition", ["--condition filtered", BOTH])
@pytest.mark.parametrize(
    "what, message",
    [
        ("nothing", "keeps no sample"),
        ("unknown", "line 1 names '000099.png'"),
        ("one class", "training set holds .* 0 fakes, expected both"),
        ("one class in validation", "validation part of it holds 0 real photos and 2 fakes, expected both"),
    ],
)
def test_a_filter_that_leaves_nothing_to_learn_is_one_line(stage, tmp_path, what, message, condition):
    flags, results = stage
    kept = tmp_path / "kept.txt"
    kept.write_text(kept_of(NAMES, what))
    with pytest.raises(UserError, match=message):
        run(flags, f"{condition} --kept_names {kept}")
    assert not results.exists()


@pytest.mark.parametrize(
    "more, message",
    [
        (
            "--condition disrupted --kept_names kept.txt",
            "filters nothing; drop --kept_names, or give --condition filtered, or purified for both",
        ),
        ("--condition clean --kept_names kept.txt", "filters nothing"),
        ("--condition purified --kept_names kept.txt", "needs --defense_model_type"),
        ("--condition filtered --defense_model_type jpeg --kept_names kept.txt", "filtered purifies nothing"),
    ],
)
def test_flags_that_neither_filter_nor_do_both_are_one_line(stage, more, message):
    with pytest.raises(UserError, match=message):
        script.parse_args(f"{stage[0]} {more}".split())


def test_another_list_under_the_same_name_is_another_training(stage, tmp_path):
    flags, results = stage
    kept = tmp_path / "kept.txt"
    for count in (15, 18, 18):
        kept.write_text("\n".join(NAMES[:count]))
        run(flags, f"--condition filtered --kept_names {kept} --resume")
    assert [r["config"]["num_train"] + r["config"]["num_validation"] for r in records(results)] == [30, 36]
