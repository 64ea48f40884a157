"""The export holds exactly what train_detector.py trains and tests on, in the layout that DeepfakeBench
reads."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import detectors
import train_detector
from common import images
from common.cli import UserError
from evaluation.detector_export import open_source, parse
from models.detector import export
from models.detector.samples import CLASSES

stage, opened = detectors.stage, detectors.opened
PURIFIED = "--condition purified --poison_rate 0.5 --defense_model_type jpeg"
NETWORK = " --detector meso4 --epochs 2 --batch_size 8 --seeds 0"


def run(flags, more):
    assert NETWORK in flags
    export.main(f"{flags.replace(NETWORK, '')} {more}".split(), parse, open_source)


def read(folder, name, mode, root):
    """[(path below the folder, 0 or 1, name of the video)] as DeepfakeBench's abstract_dataset.py collects
    them: file NAME.json, its key NAME, every label's part `mode`, label_dict's number of the video's label;
    frames sorted by the whole numbers that they are called."""
    settings = yaml.safe_load((folder / "deepfakebench.yaml").read_text())
    assert settings["dataset_json_folder"] == f"{root}/dataset_json" and settings["lmdb"] is False
    content = json.loads((folder / "dataset_json" / f"{name}.json").read_text())
    assert list(content) == [name]
    found = []
    for parts in content[name].values():
        for video, info in parts[mode].items():
            for frame in sorted(info["frames"], key=lambda x: int(x.split("/")[-1].split(".")[0])):
                # a path that does not begin with a dot is put below rgb_dir with a backslash
                assert frame.startswith(f"./{root[2:]}/") and "\\" not in frame
                below = frame.removeprefix(f"{root}/")
                found.append((below, settings["label_dict"][info["label"]], info["label"] + "_" + video))
    return found


def test_it_holds_what_would_be_trained_and_tested_on(stage, tmp_path, capsys):
    flags, _ = stage
    out, root = tmp_path / "purified", "./datasets/rgb/purified"
    run(flags, f"--output {out} {PURIFIED}")
    assert f"dataset_json_folder: {root}/dataset_json" in capsys.readouterr().out
    whole = opened(flags, PURIFIED)
    sets = dict(zip(("training", "validation"), whole.training(), strict=True)) | whole.tests()
    places = {
        "training": ("purified", "train"),
        "validation": ("purified", "val"),
        "clean": ("purified", "test"),
        "disrupted": ("purified_disrupted", "test"),
        "purified": ("purified_purified", "test"),
    }
    assert set(sets) == set(places)
    for which, samples in sets.items():
        found = read(out, *places[which], root)
        expected = {
            f"frames/{which}/{CLASSES[label]}_{Path(name).stem}/000.png": (label, pixels)
            for name, label, pixels in zip(
                samples.names, samples.labels.tolist(), samples.pixels, strict=True
            )
        }
        assert {path: label for path, label, _ in found} == {p: label for p, (label, _) in expected.items()}
        assert len(found) == len(samples)
        for path, (_, pixels) in expected.items():
            assert np.array_equal(images.load_png(out / path), pixels)
        # scores are averaged over frames in folders of one name
        assert len({path.split("/")[-2] for path, *_ in found}) == len({v for *_, v in found}) == len(found)
    assert read(out, "purified_validation", "test", root) == read(out, "purified", "val", root)
    every = [json.loads(p.read_text()) for p in (out / "dataset_json").iterdir()]
    labels = [parts for content in every for one in content.values() for parts in one.values()]
    assert len(every) == 4 and all(set(parts) == {"train", "val", "test"} for parts in labels)
    listed = {path for name, mode in places.values() for path, *_ in read(out, name, mode, root)}
    assert listed == {p.relative_to(out).as_posix() for p in out.rglob("*.png")}


def test_the_same_command_completes_it_and_other_options_are_refused(stage, tmp_path, capsys, monkeypatch):
    flags, _ = stage
    out = tmp_path / "x"
    command = f"--output {out} --condition clean --attack_type none"
    run(flags, command)
    first = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.rglob("*.png")}
    gone = sorted(first)[3]
    gone.unlink()
    (out / "dataset_json" / "x.json").unlink()
    capsys.readouterr()
    run(flags, f"{command} --image_batch_size 3")
    assert f"{out}: 1 images written, {len(first) - 1} were there" in capsys.readouterr().out
    assert gone.read_bytes() == first[gone][0] and (out / "dataset_json" / "x.json").exists()
    assert all(p.stat().st_mtime_ns == t for p, (_, t) in first.items() if p != gone)
    with pytest.raises(UserError, match=r"holds images of other parameters \(limit: None -> 10\)"):
        run(flags, f"{command} --limit 10")
    with monkeypatch.context() as patched:
        patched.setattr(export, "digest", lambda samples: "another")
        with pytest.raises(UserError, match="holds other images under the same options"):
            run(flags, command)
    (out / "options.yaml").unlink()
    with pytest.raises(UserError, match="is there without an options.yaml"):
        run(flags, command)


def test_dry_run_counts_and_writes_nothing(stage, tmp_path, capsys):
    flags, results = stage
    run(flags, f"--output {tmp_path}/x --condition disrupted --dry_run")
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "training: 36 images",
        "validation: 4 images",
        "each test set: 24 images",
    ]
    assert not (tmp_path / "x").exists() and not results.exists()


def test_trusted_photos_are_another_data_set(stage, tmp_path):
    flags, _ = stage
    (tmp_path / "data" / "images_a").symlink_to(tmp_path / "data" / "images_c")
    run(
        flags,
        f"--output {tmp_path}/x --name n --frames_root ../e/ --trusted --condition clean --attack_type none",
    )
    content = json.loads((tmp_path / "x/dataset_json/n_trusted.json").read_text())["n_trusted"]
    assert {label: {k: len(v) for k, v in parts.items()} for label, parts in content.items()} == {
        label: {"train": 12, "val": 0, "test": 0} for label in export.LABELS
    }
    (path,) = content[export.LABELS[1]]["train"]["fake_000021"]["frames"]
    assert path == "../e/frames/trusted/fake_000021/000.png"
    assert (tmp_path / "x" / path.removeprefix("../e/")).exists()


@pytest.mark.parametrize(
    "more, message",
    [
        ("--condition purified", "--condition purified needs --defense_model_type"),
        ("--condition clean --name FF-DF", "--name 'FF-DF'"),
        ("--condition clean --name a/b", "--name 'a/b'"),
        ("--condition clean --frames_root /data", "--frames_root /data: must begin with a dot"),
        ("--condition clean --detector meso4", "unknown argument --detector"),
        ("--condition clean --format other", "unknown value 'other'"),
    ],
)
def test_flags_that_cannot_be_exported_are_one_line(stage, tmp_path, more, message):
    flags, _ = stage
    with pytest.raises(UserError, match=message):
        run(flags, f"--output {tmp_path}/x {more}")


def test_it_knows_the_flags_that_decide_samples(stage, tmp_path):
    flags, _ = stage
    ours = vars(train_detector.parse_args(f"{flags} {PURIFIED}".split()))
    p = export.cli.ArgumentParser()
    export.add_export_flags(p)
    its = vars(parse(p, f"{flags.replace(NETWORK, '')} --output {tmp_path}/x {PURIFIED}".split()))
    changed = {k for k in ours if ours[k] != its[k]}
    assert changed == {
        "detector",
        "base",
        "epochs",
        "lr",
        "lr_schedule",
        "data_augmentation",
        "batch_size",
        "seeds",
    }
    assert set(its) - set(ours) == {"format", "output", "name", "frames_root", "trusted"}
