"""Which image is real and which is fake, in one order whatever way they come, and which of them a filter
keeps."""

import numpy as np
import pytest
import torch

from common import images
from common.cli import UserError
from models.detector.network import CLASSES
from models.detector.samples import FAKE, REAL, Samples, join, kept_filter, read_kept, sample_id

NAMES = ["b.jpg", "a.jpg", "c.jpg"]


def part(names, label, value):
    """Images of one class; image i is filled with value + i."""
    pixels = (
        np.full((len(names), 4, 6, 3), value, np.uint8)
        + np.arange(len(names), dtype=np.uint8)[:, None, None, None]
    )
    return Samples(
        list(names), ["Male" if label else None] * len(names), torch.full((len(names),), label), pixels
    )


def listed(samples):
    return list(
        zip(
            samples.names,
            samples.labels.tolist(),
            samples.domains,
            samples.pixels[:, 0, 0, 0].tolist(),
            strict=True,
        )
    )


def test_fake_is_one_everywhere():
    assert (REAL, FAKE) == (0, 1) and CLASSES[REAL] == "real" and CLASSES[FAKE] == "fake"
    assert [sample_id("a.jpg", label) for label in (REAL, FAKE)] == ["real/a.jpg", "fake/a.jpg"]
    assert join([part(NAMES[:1], FAKE, 0), part(NAMES[:1], REAL, 0)]).ids == ["real/b.jpg", "fake/b.jpg"]


def test_images_come_as_floats_in_their_order():
    samples = part(NAMES, FAKE, 100)
    assert len(samples) == 3 and samples.floats([2, 0]).shape == (2, 3, 4, 6)
    assert torch.allclose(
        samples.floats(torch.tensor([2, 0]))[:, 0, 0, 0], torch.tensor([102, 100]) / 127.5 - 1
    )
    assert [len(x) for x in samples.batches(2)] == [2, 1] and np.array_equal(
        images.to_uint8(torch.cat(list(samples.batches(2)))), samples.pixels
    )


def test_a_subset_keeps_what_belongs_together():
    assert listed(part(NAMES, FAKE, 100).subset([2, 1])) == [
        ("c.jpg", 1, "Male", 102),
        ("a.jpg", 1, "Male", 101),
    ]
    assert len(part(NAMES, REAL, 0).subset([])) == 0


def test_join_is_in_the_order_of_name_and_label_whatever_the_parts_are():
    real, fake = part(NAMES, REAL, 10), part(NAMES, FAKE, 100)
    wanted = [
        ("a.jpg", 0, None, 11),
        ("a.jpg", 1, "Male", 101),
        ("b.jpg", 0, None, 10),
        ("b.jpg", 1, "Male", 100),
        ("c.jpg", 0, None, 12),
        ("c.jpg", 1, "Male", 102),
    ]
    assert listed(join([real, fake])) == listed(join([fake, real])) == wanted
    pieces = [fake.subset([2]), real.subset([1, 0]), fake.subset([0, 1]), real.subset([2])]
    assert listed(join(pieces)) == listed(join(pieces[::-1])) == wanted
    assert join([real, fake]).labels.dtype == torch.int64 and join([real, fake]).pixels.dtype == np.uint8


def kept(tmp_path, text):
    path = tmp_path / "kept.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_kept(path, NAMES)


def test_a_bare_name_is_the_photo_and_its_fake(tmp_path):
    assert kept(tmp_path, "a.jpg\n") == {"real/a.jpg", "fake/a.jpg"}
    assert kept(tmp_path, "real/a.jpg\r\nfake/b.jpg\r\n\r\n  c.jpg  \n") == {
        "real/a.jpg",
        "fake/b.jpg",
        "real/c.jpg",
        "fake/c.jpg",
    }
    assert kept(tmp_path, "# of two/classes\na.jpg\na.jpg\nfake/a.jpg\n#c.jpg") == {
        "real/a.jpg",
        "fake/a.jpg",
    }


@pytest.mark.parametrize(
    "text, words",
    [
        ("a.jpg\n\nz.jpg\n", "line 3 names 'z.jpg', which is none of the"),
        ("real/z.jpg", "line 1 names 'real/z.jpg'"),
        ("pristine/a.jpg", "line 1 names 'pristine/a.jpg'"),
        ("Real/a.jpg", "line 1 names"),
        ("", "keeps no sample"),
        ("# a.jpg\n \n", "keeps no sample"),
        (b"\x89PNG\xff\xfe\x00", "cannot be read .not UTF-8 text"),
    ],
)
def test_a_list_that_keeps_something_else_or_nothing(tmp_path, text, words):
    with pytest.raises(UserError, match=f"--kept_names .*kept.txt: {words}"):
        kept(tmp_path, text)


@pytest.mark.parametrize(
    "text, name",
    [
        ("# filter: de-pois\nreal/a.jpg\n", "de-pois"),
        ("\ufeff#filter:  De-Pois,  quantile \r\na.jpg", "De-Pois, quantile"),
        ("# made today\n\n# share dropped: 0.25\n# filter: de-pois\n# filter: other\na.jpg", "de-pois"),
        ("real/a.jpg\n", None),
        ("# filter:\na.jpg", None),
        ("# kept\na.jpg", None),
        ("a.jpg\n# filter: de-pois\n", None),
        ("# filters: 3\na.jpg", None),
    ],
)
def test_a_list_may_name_its_filter_above_the_samples(tmp_path, text, name):
    path = tmp_path / "kept.txt"
    path.write_text(text, encoding="utf-8")
    assert kept_filter(path) == name and "real/a.jpg" in read_kept(path, NAMES)


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="--kept_names .*gone.txt: cannot be read .No such file"):
        read_kept(tmp_path / "gone.txt", NAMES)
    with pytest.raises(UserError, match="cannot be read .Is a directory"):
        read_kept(tmp_path, NAMES)
    with pytest.raises(UserError, match="cannot be read .No such file"):
        kept_filter(tmp_path / "gone.txt")
