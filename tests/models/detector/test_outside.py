"""Scores of a detector that was trained elsewhere: which image each is of, one line for what they lack."""

import numpy as np
import pytest
import torch

from common.cli import UserError
from models.detector.outside import frame_of, matched, read_scores
from models.detector.samples import FAKE, REAL, Samples, join


def samples(*names):
    def part(label):
        n = len(names)
        return Samples(list(names), [None] * n, torch.full((n,), label), np.zeros((n, 2, 2, 3), np.uint8))

    return join([part(REAL), part(FAKE)])


TESTS = {name: samples("1.jpg", "2.jpg") for name in ("clean", "disrupted", "of two words")}
CLEAN = "real/2.jpg,0.25\nfake/2.jpg,1\nfake/1.jpg,0.75\nreal/1.jpg,0\n"


def read(tmp_path, *texts):
    paths = [tmp_path / f"{i}.csv" for i in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return {k: p.tolist() for k, p in matched(read_scores(paths), TESTS).items()}


def test_scores_come_in_the_order_of_the_test_images(tmp_path):
    expected = {"clean": [0, 0.75, 0.25, 1]}
    assert TESTS["clean"].ids == ["real/1.jpg", "fake/1.jpg", "real/2.jpg", "fake/2.jpg"]
    for header in ("name,probability", "name,probability_fake", "\ufeffname,probability"):
        assert read(tmp_path, f"{header}\n{CLEAN}") == expected
    own = "test_set,name,domain,label,probability_fake\n" + "".join(
        f"clean,{n}.jpg,,{label},{p}\n"
        for n, label, p in ((1, "real", 0), (1, "fake", 0.75), (2, "real", 0.25), (2, "fake", 1))
    )
    assert read(tmp_path, own) == expected


def test_test_sets_are_told_by_a_column_or_by_exported_frames(tmp_path):
    both = "name,probability,test_set\n" + "".join(
        f"{line},{which}\n" for which in ("clean", "disrupted") for line in CLEAN.split()
    )
    expected = {"clean": [0, 0.75, 0.25, 1], "disrupted": [0, 0.75, 0.25, 1]}
    assert read(tmp_path, both) == expected
    frames = [
        "name,probability\n"
        + "".join(
            f"{root}{frame_of(which, f'{n}.jpg', label)},{p}\n"
            for n, label, p in ((2, 1, 1), (1, 0, 0), (1, 1, 0.75), (2, 0, 0.25))
        )
        for which, root in (("disrupted", "./datasets/rgb/frames/x/"), ("clean", ""))
    ]
    assert read(tmp_path, *frames) == expected
    assert frame_of("of two words", "1.jpg", 1) == "frames/of_two_words/fake_1/000.png"
    third = both.replace("disrupted", "of two words")
    words = [frames[0].replace("/disrupted/", "/of_two_words/"), frames[1]]
    assert (
        read(tmp_path, third)
        == read(tmp_path, *words)
        == {k: [0, 0.75, 0.25, 1] for k in ("clean", "of two words")}
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ("name,probability\n", "is empty"),
        ("name,score\n" + CLEAN, "expected the columns name and probability, found name, score"),
        ("photo,probability\n" + CLEAN, "expected the columns name and probability, found photo"),
        ("name,probability\nreal/1.jpg,1.01\n", "line 2 gives 'real/1.jpg' the probability '1.01'"),
        (
            "name,probability\n" + CLEAN + "fake/1.jpg,nan\n",
            "line 6 gives 'fake/1.jpg' the probability 'nan'",
        ),
        ("name,probability\nreal/1.jpg,-0.1\n", "probability '-0.1'"),
        ("name,probability\nreal/1.jpg,high\n", "probability 'high'"),
        ("name,probability\nreal/1.jpg\n", "probability None"),
        ("name,probability\n,0.5\n", "line 2 gives '' the probability"),
        ("name,probability\n" + CLEAN + "real/3.jpg,0\nfake/3.jpg,0\n", "2 of 6 names .* first: real/3.jpg"),
        ("name,probability\n" + CLEAN + "1.jpg,0\n", "1 of 5 names are none of the test images"),
        ("name,probability,test_set\nreal/1.jpg,0,purified\n", "real/1.jpg of the test set purified"),
        ("name,probability\n" + CLEAN + "real/1.jpg,0\n", r"1 names come again \(the first: real/1.jpg\)"),
        ("name,probability\nreal/1.jpg,0\n", "3 of the 4 images of the test set clean .* first: fake/1.jpg"),
        ("name,probability,test_set\nreal/1.jpg,0,disrupted\n", "4 of the 4 images of the test set clean"),
    ],
)
def test_what_scores_lack_is_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as e:
        read(tmp_path, text)
    assert str(e.value).startswith("--scores") and "\n" not in str(e.value)


def test_a_test_set_is_scored_wholly_or_not_at_all(tmp_path):
    rest = "name,probability,test_set\nreal/1.jpg,0,disrupted\n"
    with pytest.raises(UserError, match="3 of the 4 images of the test set disrupted have no score"):
        read(tmp_path, "name,probability\n" + CLEAN, rest)


def test_files_that_cannot_be_read_are_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_scores([tmp_path / "none.csv"])
    (tmp_path / "x.csv").write_bytes("name,probability\nreal/a.jpg,1\n".encode("utf-16"))
    with pytest.raises(UserError, match="cannot be read|expected the columns"):
        read_scores([tmp_path / "x.csv"])
