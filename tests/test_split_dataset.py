"""The split: exact parts, exact rows, sources untouched, whole or not at all."""

import json
import os
import stat

import numpy as np
import pytest

import split_dataset
from common.cli import UserError
from faces.attributes import Attributes, read_attributes, read_table, write_attributes
from faces.celeba import FaceFolder

PARTS = split_dataset.PARTS
COLUMNS = ["Black_Hair", "Male", "Young"]


@pytest.fixture
def source(tmp_path):
    """make(n) -> a folder of n small files named as photos, and the attribute file beside it, in shuffled
    order."""

    def make(n=20):
        folder = tmp_path / "celeba" / "img"
        folder.mkdir(parents=True)
        names = [f"{i + 1:06d}.jpg" for i in range(n)]
        for name in names:
            (folder / name).write_bytes(b"photo " + name.encode())
        values = np.random.RandomState(0).randint(0, 2, (n, 3)).astype(np.int8)
        order = np.random.RandomState(1).permutation(n)
        write_attributes(
            folder.parent / "list_attr_celeba.txt",
            Attributes([names[i] for i in order], COLUMNS, values[order]),
        )
        return folder

    return make


def split(folder, output, *flags):
    return split_dataset.main(["--folder_path", str(folder), "--output_dir", str(output), *map(str, flags)])


def names_of(output):
    return [sorted(set(os.listdir(output / part)) - {"list_attr_celeba.txt"}) for part in PARTS]


def snapshot(folder):
    """Everything that a later write would change: names, contents, times, modes."""
    return {
        p: (p.read_bytes() if p.is_file() else None, p.stat().st_mtime_ns, p.stat().st_mode)
        for p in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_parts_rows_and_files(source, tmp_path, mode):
    folder, output = source(20), tmp_path / "dataset" / "CelebA"
    before = snapshot(folder.parent)
    split(folder, output, "--mode", mode)
    parts = names_of(output)
    # in order, no overlap, none lost
    assert [len(p) for p in parts] == [14, 4, 2] and sum(parts, []) == sorted(os.listdir(folder))
    whole = read_attributes(folder.parent / "list_attr_celeba.txt")
    value = dict(zip(whole.names, whole.values.tolist(), strict=True))
    for part, names in zip(PARTS, parts, strict=True):
        lines = (output / part / "list_attr_celeba.txt").read_text().splitlines()
        assert lines[0] == str(len(names)) and lines[1].split() == COLUMNS and len(lines) == 2 + len(names)
        table = read_attributes(output / part / "list_attr_celeba.txt")
        assert table.names == names and table.values.tolist() == [value[n] for n in names]
        for name in names:
            assert (output / part / name).read_bytes() == (folder / name).read_bytes()
            assert os.path.samefile(output / part / name, folder / name) == (mode == "link")
    assert snapshot(folder.parent) == before
    assert set(os.listdir(output)) == {*PARTS, "split.json"} and os.listdir(output.parent) == ["CelebA"]
    assert all(stat.S_IMODE((output / part).stat().st_mode) & 0o500 == 0o500 for part in PARTS)


def test_record(source, tmp_path):
    folder, output = source(10), tmp_path / "out"
    split(folder, output)
    record = json.loads((output / "split.json").read_text())
    assert record["source"] == str(folder) and record["attr_path"] == str(
        folder.parent / "list_attr_celeba.txt"
    )
    assert record["ratios"] == [0.7, 0.2, 0.1] and record["mode"] == "link" and record["num_images"] == 10
    assert [record["parts"][p]["num_images"] for p in PARTS] == [7, 2, 1]
    assert record["parts"]["images_c"]["names_sha256"] == split_dataset.digest(b"000010.jpg")


def test_counts_of_the_whole_of_celeba():
    a, b, c = split_dataset.boundaries(202599, [0.7, 0.2, 0.1])
    assert (a, b - a, c - b) == (141820, 40520, 20259)
    assert split_dataset.boundaries(10, [0.7, 0.2, 0.1]) == [7, 9, 10] and split_dataset.boundaries(
        1000, [0.1, 0.2, 0.7]
    ) == [100, 300, 1000]
    assert split_dataset.boundaries(9, [0.7, 0.2, 0.1]) == [7, 8, 9] and split_dataset.boundaries(
        3, [0.7, 0.2, 0.1]
    ) == [1, 2, 3]


@pytest.mark.parametrize("rows", ["1,0,0", "1,-1,-1"])
def test_values_are_kept_as_they_were_written(source, tmp_path, rows):
    folder = source(10)
    csv = tmp_path / "mine.csv"
    csv.write_text(
        "image_id,Black_Hair,Male,Young\n" + "".join(f"{i + 1:06d}.jpg,{rows}\n" for i in range(10))
    )
    split(folder, tmp_path / "out", "--attr_path", csv)
    assert (
        tmp_path / "out" / "images_c" / "list_attr_celeba.txt"
    ).read_text() == f"1\nBlack_Hair Male Young\n000010.jpg {rows.replace(',', ' ')}\n"


def test_the_same_split_again_does_nothing(source, tmp_path, capsys):
    folder, output = source(10), tmp_path / "out"
    split(folder, output)
    # what readers leave there is not part of the split
    (output / ".crops").mkdir()
    before = snapshot(output)
    assert not split(folder, output) and "nothing to do" in capsys.readouterr().out
    assert snapshot(output) == before


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--ratios", 0.5, 0.3, 0.2], r"ratios: \[0.7, 0.2, 0.1\] -> \[0.5, 0.3, 0.2\]"),
        (["--mode", "copy"], "mode: link -> copy"),
        (["--limit", 9], "limit: None -> 9"),
    ],
)
def test_another_split_is_refused_and_leaves_the_first(source, tmp_path, flags, said):
    folder, output = source(10), tmp_path / "out"
    split(folder, output)
    before = snapshot(output)
    with pytest.raises(UserError, match=f"holds another split .*{said}.*--output_dir"):
        split(folder, output, *flags)
    assert snapshot(output) == before


def test_changed_labels_are_another_split(source, tmp_path):
    folder, output = source(10), tmp_path / "out"
    split(folder, output)
    listing = folder.parent / "list_attr_celeba.txt"
    listing.write_text(listing.read_text().replace("-1", " 1"))
    with pytest.raises(UserError, match="holds another split .*other attributes_sha256"):
        split(folder, output)


def test_a_split_that_lost_a_photo_or_is_incomplete_is_refused(source, tmp_path):
    folder, output = source(10), tmp_path / "out"
    split(folder, output)
    (output / "images_b" / "000008.jpg").unlink()
    with pytest.raises(UserError, match=r"images_b was changed since it was split \(000008.jpg\)"):
        split(folder, output)
    (output / "split.json").unlink()
    with pytest.raises(UserError, match="no complete split; remove images_a, images_b, images_c"):
        split(folder, output)


def test_an_output_folder_with_other_things_keeps_them(source, tmp_path):
    folder = source(10)
    # the split beside the photos themselves
    output = folder.parent
    split(folder, output)
    assert [len(p) for p in names_of(output)] == [7, 2, 1] and len(os.listdir(folder)) == 10
    assert set(os.listdir(output)) == {"img", "list_attr_celeba.txt", *PARTS, "split.json"}


@pytest.mark.parametrize("failing", ["link", "rename"])
@pytest.mark.parametrize("there", [["mine"], None])
def test_an_error_leaves_nothing(source, tmp_path, monkeypatch, failing, there):
    folder, output = source(10), tmp_path / "dataset" / "CelebA"
    output.parent.mkdir()
    if there:
        output.mkdir()
        (output / "mine").write_text("keep")
    real, calls = getattr(os, failing), []

    def fail(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(os, failing, fail)
    before = snapshot(folder.parent)
    with pytest.raises(KeyboardInterrupt):
        split(folder, output)
    assert os.listdir(output.parent) == (["CelebA"] if there else []) and snapshot(folder.parent) == before
    assert there is None or os.listdir(output) == there


def test_symbolic_links_where_hard_ones_fail(source, tmp_path, monkeypatch, capsys):
    folder, output = source(10), tmp_path / "out"

    def other_disk(*args, **kwargs):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    split(folder, output)
    assert (output / "images_b" / "000008.jpg").is_symlink() and (
        output / "images_b" / "000008.jpg"
    ).read_bytes() == b"photo 000008.jpg"
    assert "10 of them by symbolic links" in capsys.readouterr().out
    split(folder, output)  # and it is recognised again


def test_a_source_of_relative_symbolic_links(source, tmp_path):
    folder = source(10)
    links = tmp_path / "links"
    links.mkdir()
    for name in os.listdir(folder):
        (links / name).symlink_to(os.path.join("..", "celeba", "img", name))
    for mode in ("link", "copy"):
        split(links, tmp_path / mode, "--attr_path", folder.parent / "list_attr_celeba.txt", "--mode", mode)
        assert (tmp_path / mode / "images_c" / "000010.jpg").read_bytes() == b"photo 000010.jpg"


def test_identities_stay_together(source, tmp_path):
    folder, output = source(40), tmp_path / "out"
    person = {f"{i + 1:06d}.jpg": str(i * 7 % 13) for i in range(40)}
    (tmp_path / "identity.txt").write_text("".join(f"{name} {who}\n" for name, who in person.items()))
    split(folder, output, "--identity_path", tmp_path / "identity.txt")
    parts = names_of(output)
    people = [{person[n] for n in names} for names in parts]
    assert not (people[0] & people[1] or people[0] & people[2] or people[1] & people[2])
    assert sorted(sum(parts, [])) == sorted(person) and len(people[0] | people[1] | people[2]) == 13
    assert all(abs(len(p) - share * 40) <= 4 for p, share in zip(parts, (0.7, 0.2, 0.1), strict=True))
    assert [read_table(output / part / "list_attr_celeba.txt").names for part in PARTS] == parts


@pytest.mark.parametrize(
    "text, said",
    [
        ("000001.jpg 5\n", r"no identity for 9 photos \(000002.jpg, 000003.jpg, 000004.jpg, ...\)"),
        ("000001.jpg 5\n000001.jpg 6\n", "line 2: found '000001.jpg 6'"),
        ("000001.jpg 5\n000002.jpg\n", "line 2: found '000002.jpg'"),
        ("000001.jpg 5\n000002.jpg 1 -1 1\n", "line 2: found '000002.jpg 1 -1 1'"),
        ("".join(f"{i + 1:06d}.jpg {i // 4}\n" for i in range(10)), "list_eval_partition.*identity_CelebA"),
        ("image_id,partition\n000001.jpg,0\n000002.jpg,1\n", "list_eval_partition.*identity_CelebA"),
    ],
)
def test_bad_identity_files_are_refused(source, tmp_path, text, said):
    folder = source(10)
    (tmp_path / "identity.txt").write_text(text)
    with pytest.raises(UserError, match=said):
        split(folder, tmp_path / "out", "--identity_path", tmp_path / "identity.txt")
    with pytest.raises(UserError, match="--identity_path .*none.txt: cannot be read"):
        split(folder, tmp_path / "out", "--identity_path", tmp_path / "none.txt")
    assert not (tmp_path / "out").exists()


def test_limit_and_dry_run(source, tmp_path, capsys):
    folder, output = source(20), tmp_path / "out"
    split(folder, output, "--limit", 10, "--dry_run")
    assert "images_b: 2 photos, 000008.jpg ... 000009.jpg" in capsys.readouterr().out and not output.exists()
    split(folder, output, "--limit", 10)
    assert sum(names_of(output), []) == [f"{i + 1:06d}.jpg" for i in range(10)]


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--ratios", 0.7, 0.2, 0.2], r"found the sum 1.1, expected three shares above 0"),
        (["--ratios", 0.8, 0.2, 0], "above 0"),
        (["--ratios", 0.8, 0.2, "x"], "ratios"),
        (["--limit", 2], "cannot be split"),
        (["--limit", 0], "above 0"),
        (["--seed", 1], "unknown argument --seed"),
        (["--folder_path", "nowhere"], "nowhere: no such folder"),
        (["--attr_path", "none.txt"], "none.txt: cannot be read"),
    ],
)
def test_bad_flags_are_one_line_and_write_nothing(source, tmp_path, flags, said):
    folder = source(10)
    with pytest.raises(UserError, match=said) as error:
        split(folder, tmp_path / "out", *flags)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_rows_and_photos_must_match(source, tmp_path):
    folder = source(10)
    (folder / "000004.jpg").rename(folder / "other.jpg")
    with pytest.raises(
        UserError, match=r"1 files without a row \(other.jpg\) and 1 rows without a file \(000004.jpg\)"
    ):
        split(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_part_opens_as_a_face_folder(face_folder, tmp_path):
    """The original's split lists have no header in B and C, and rows two photos off."""
    folder = face_folder(20)
    split(folder, tmp_path / "out")
    whole = FaceFolder(folder, ["Black_Hair", "Young"], crop=40, size=16)
    for part in PARTS:
        faces = FaceFolder(tmp_path / "out" / part, ["Black_Hair", "Young"], crop=40, size=16)
        twin = whole.subset(faces.names)
        assert (faces.labels == twin.labels).all() and (
            faces.load(range(len(faces))) == twin.load(range(len(faces)))
        ).all()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".crops", *PARTS, "split.json"]
