"""The drawn faces are reproducible, complete and true: each attribute can be measured in the pictures."""

import numpy as np
import pytest

from common import cli, files
from common.cli import UserError
from faces import procedural
from faces.person import ATTRIBUTES, attributes, sample_face
from faces.procedural import draw_face, draw_folder, stream

STARGAN_ATTRIBUTES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]
HAIR = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"]


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def drawn():
    """150 pictures (N, H, W, 3) in [0, 255] and their attributes, name -> (N,) of booleans."""
    pictures, rows = zip(*(draw_face(7, i) for i in range(150)), strict=True)
    return np.stack([np.asarray(p, float) for p in pictures]), {
        a: np.array([r[a] == 1 for r in rows]) for a in ATTRIBUTES
    }


@pytest.fixture(scope="module")
def labels():
    """Attributes of 300 faces, name -> (N,) of booleans; nothing is painted."""
    rows = [attributes(sample_face(stream(0, i))) for i in range(300)]
    return {a: np.array([r[a] == 1 for r in rows]) for a in ATTRIBUTES}


def mean_colour(pictures, top, bottom, left, right):
    return pictures[:, top:bottom, left:right].mean((1, 2))  # (N, 3)


def test_same_bytes_with_one_and_two_workers(tmp_path):
    draw_folder(tmp_path / "one", 20, seed=3, num_workers=1)
    draw_folder(tmp_path / "two", 20, seed=3, num_workers=2)
    one = contents(tmp_path / "one")
    assert len(one) == 21 and one == contents(tmp_path / "two")


def test_a_longer_run_begins_with_the_shorter_one(tmp_path):
    draw_folder(tmp_path / "short", 3, seed=0)
    draw_folder(tmp_path / "long", 6, seed=0)
    short, long = contents(tmp_path / "short"), contents(tmp_path / "long")
    assert all(short[f"images/{i:06d}.jpg"] == long[f"images/{i:06d}.jpg"] for i in (1, 2, 3))
    rows = [c["list_attr_celeba.txt"].decode().splitlines()[2:] for c in (short, long)]
    assert rows[0] == rows[1][:3]


def test_another_seed_gives_other_faces():
    assert draw_face(0, 0)[0].tobytes() != draw_face(1, 0)[0].tobytes()


def test_the_layout_is_celebas(tmp_path):
    assert procedural.main(
        ["--out", str(tmp_path / "d"), "-n", "4", "--seed", "5", "--num_workers", "1"]
    ) in (None, 0)
    lines = (tmp_path / "d" / "list_attr_celeba.txt").read_text().splitlines()
    assert (
        lines[0] == "4" and lines[1].split() == ATTRIBUTES and len(ATTRIBUTES) == 40 == len(set(ATTRIBUTES))
    )
    assert [line.split()[0] for line in lines[2:]] == sorted(
        p.name for p in (tmp_path / "d" / "images").iterdir()
    )
    assert all(len(line.split()) == 41 and set(line.split()[1:]) <= {"1", "-1"} for line in lines[2:])
    assert draw_face(5, 0)[0].size == (178, 218) and draw_face(5, 0)[0].mode == "RGB"


def test_hair_has_one_colour_and_the_bald_none(labels):
    assert sum(labels[h].astype(int) for h in HAIR).max() == 1
    assert labels["Bald"].any()
    assert not np.any(
        labels["Bald"] & np.any([labels[a] for a in HAIR + ["Bangs", "Wavy_Hair", "Straight_Hair"]], axis=0)
    )


def test_beards_agree(labels):
    bearded = np.any([labels[a] for a in ("5_o_Clock_Shadow", "Goatee", "Mustache")], axis=0)
    assert np.array_equal(labels["No_Beard"], ~bearded) and not np.any(bearded & ~labels["Male"])


@pytest.mark.parametrize("name", STARGAN_ATTRIBUTES)
def test_shares_are_between_a_tenth_and_nine_tenths(labels, name):
    assert 0.1 < labels[name].mean() < 0.9


def test_no_stargan_attribute_gives_another_away(labels):
    table = np.corrcoef([labels[a] for a in STARGAN_ATTRIBUTES])
    # two hair colours exclude each other: about -0.4
    assert np.abs(table - np.eye(5)).max() < 0.55


def test_hair_colours_are_visible(drawn):
    pictures, labels = drawn
    bare = ~labels["Wearing_Hat"] & ~labels["Receding_Hairline"]
    top = mean_colour(pictures, 52, 66, 74, 104)
    black, brown, blond = (top[labels[h] & bare].mean(0) for h in ("Black_Hair", "Brown_Hair", "Blond_Hair"))
    assert black.mean() + 20 < brown.mean() < blond.mean() - 40
    assert blond[0] - blond[2] > 60  # blond is yellow
    # Black and blond never meet, whatever the light.
    assert top[labels["Black_Hair"] & bare].mean(1).max() < top[labels["Blond_Hair"] & bare].mean(1).min()


def test_lipstick_is_red(drawn):
    pictures, labels = drawn
    lips = mean_colour(pictures, 150, 162, 80, 98)
    redness = lips[:, 0] - lips[:, 1]
    shaven = labels["No_Beard"] & ~labels["Male"]
    assert (
        redness[labels["Wearing_Lipstick"]].mean() > redness[shaven & ~labels["Wearing_Lipstick"]].mean() + 25
    )


def test_age_draws_lines_on_the_forehead(drawn):
    pictures, labels = drawn
    forehead = pictures[:, 82:100, 80:98].mean(3)
    edges = np.abs(np.diff(forehead, axis=1)).mean((1, 2))
    plain = ~labels["Bangs"] & ~labels["Blurry"]
    assert edges[plain & ~labels["Young"]].mean() > edges[plain & labels["Young"]].mean() + 2


def test_men_have_wider_jaws_or_beards(drawn):
    pictures, labels = drawn
    lips = mean_colour(pictures, 150, 162, 80, 98)
    neck = np.abs(mean_colour(pictures, 176, 184, 62, 66) - mean_colour(pictures, 176, 184, 84, 94)).mean(1)
    assert neck[labels["Male"]].mean() < neck[~labels["Male"]].mean()
    assert (lips[:, 0] - lips[:, 1])[labels["Male"]].mean() < (lips[:, 0] - lips[:, 1])[
        ~labels["Male"]
    ].mean() - 20


def test_a_finished_folder_is_left_alone(tmp_path):
    assert draw_folder(tmp_path / "d", 3, seed=0) == 3
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "d").rglob("*")}
    assert draw_folder(tmp_path / "d", 3, seed=0) == 0
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "d").rglob("*")}


def test_what_was_begun_is_finished(tmp_path):
    """A folder of these faces, of no others, with what a killed process and a power cut left."""
    draw_folder(tmp_path / "whole", 4, seed=0)
    out = tmp_path / "d"
    draw_folder(out, 4, seed=0)
    (out / "list_attr_celeba.txt").unlink()
    (out / "images" / "000002.jpg").unlink()
    (out / "images" / "000003.jpg").write_bytes(b"")
    litter = f".000002.jpg.{files.HOST}.{2**22 + 1}.tmp"
    (out / "images" / litter).write_bytes(b"half")
    for other in ((4, 1), (1, 0)):
        with pytest.raises(UserError, match="found other files"):
            draw_folder(out, *other)
    assert draw_folder(out, 4, seed=0) == 4 and contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    "spoil", ["other seed", "other number", "missing image", "damaged image", "foreign file"]
)
def test_any_other_folder_is_refused(tmp_path, spoil):
    out, n, seed = tmp_path / "d", 3, 0
    draw_folder(out, n, seed)
    if spoil == "missing image":
        (out / "images" / "000002.jpg").unlink()
    elif spoil == "damaged image":
        (out / "images" / "000002.jpg").write_bytes(b"x")
    elif spoil == "foreign file":
        (out / "notes.txt").write_text("mine")
    before = contents(out)
    with pytest.raises(SystemExit) as stop:
        cli.run(
            procedural.main,
            [
                "--out",
                str(out),
                "-n",
                str(n + (spoil == "other number")),
                "--seed",
                str(seed + (spoil == "other seed")),
                "--num_workers",
                "1",
            ],
        )
    assert stop.value.code == 2 and contents(out) == before
