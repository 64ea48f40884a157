"""The split of what people have: other forms of list files, other spellings, fewer photos than rows."""

import os
import re
import unicodedata

import pytest

import test_split_dataset
from common.cli import UserError
from faces.attributes import format_csv, read_attributes
from faces.celeba import FaceFolder
from faces.identities import read_identities

source, split, names_of = test_split_dataset.source, test_split_dataset.split, test_split_dataset.names_of
PARTS = test_split_dataset.PARTS


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text.replace("\n", "\r\n") + "\x1a",
        lambda text: "image_id,identity\n" + text.replace(" ", ","),
        lambda text: "file_name;person\n" + text.replace(" ", ";"),
        lambda text: '"image_id","identity"\n' + re.sub(r"(\S+) (\S+)", r'"\1","\2"', text),
        lambda text: (
            ",image_id,identity\n"
            + "".join(f"{i},{row}\n" for i, row in enumerate(text.replace(" ", ",").split()))
        ),
        lambda text: text.replace(" ", "\t").replace("\n", "  \n"),
        lambda text: "10\n" + text,
    ],
)
def test_every_form_of_the_identities_gives_the_same(tmp_path, change):
    person = {f"{i + 1:06d}.jpg": str(100 + i // 3) for i in range(10)}
    text = "".join(f"{name} {who}\n" for name, who in person.items())
    (tmp_path / "identity.txt").write_bytes(change(text).encode())
    assert read_identities(tmp_path / "identity.txt", list(person)) == person


def test_a_subset_takes_what_has_a_photo_and_a_row(source, tmp_path, capsys):
    folder = source(20)
    for i in range(11, 20):
        (folder / f"{i:06d}.jpg").unlink()
    (folder / "new.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="9 rows without a file.*or take what has both with --subset"):
        split(folder, tmp_path / "out")
    split(folder, tmp_path / "out", "--subset")
    assert sum(names_of(tmp_path / "out"), []) == [f"{i:06d}.jpg" for i in [*range(1, 11), 20]]
    said = capsys.readouterr().out
    assert "1 file left out: 1 without a row (new.jpg)" in said and "9 rows without a photo left out" in said


def test_names_with_blanks_or_of_no_text_or_spelled_otherwise_are_split(face_folder, tmp_path):
    folder = face_folder(9)
    table = read_attributes(folder / "list_attr_celeba.txt")
    names = ["my photo.png", os.fsdecode(b"caf\xe9.png"), "Jose\u0301.png", *table.names[3:]]
    for old, new in zip(table.names, names, strict=True):
        (folder / old).rename(folder / new)
    (folder / "list_attr_celeba.txt").unlink()
    listed = [unicodedata.normalize("NFC", name) for name in names]
    rows = [b" ".join(b"%d" % v for v in row) for row in table.values.tolist()]
    (folder / "list_attr_celeba.csv").write_bytes(format_csv(listed, table.columns, rows))
    (folder / "._my photo.png").write_bytes(b"litter")
    split(folder, tmp_path / "out")
    split(folder, tmp_path / "out")  # is there already
    found = [
        dict(zip(f.names, f.labels.tolist(), strict=True))
        for f in (FaceFolder(tmp_path / "out" / p, ["Male"], crop=40, size=16) for p in PARTS)
    ]
    male = table.values[:, table.columns.index("Male")].tolist()
    assert {k: v for part in found for k, v in part.items()} == {
        n: [m] for n, m in zip(names, male, strict=True)
    }


def test_a_link_to_a_photo_that_is_gone_is_said_before_anything_is_made(source, tmp_path):
    folder = source(10)
    (folder / "000004.jpg").unlink()
    (folder / "000004.jpg").symlink_to("/nowhere/000004.jpg")
    with pytest.raises(
        UserError, match=r"img/000004.jpg: cannot be read, a link to a photo that was moved \(/nowh"
    ):
        split(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
