"""A folder of photos in, a folder of PNGs out: what python -m attacks and python -m purify share."""

import os

import numpy as np
import pytest
import yaml
from PIL import Image

from common.cli import UserError
from common.folder import Output, batches, inspect

SIZES = {"a.png": (20, 14), "b.jpg": (14, 20), "c.bmp": (20, 14), "d.webp": (20, 14)}  # width, height


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in SIZES.items():
        Image.new("RGB", size).save(folder / name)
    return sorted(folder.iterdir())


@pytest.fixture
def output(tmp_path, photos):
    return Output(tmp_path / "out", photos, "attack.yaml")


def fill(output, sources, parameters):
    """Leave what a run over these sources leaves."""
    output.describe(parameters, {"commit": "abc"})
    for source in sources:
        Image.open(source).save(output.path(source))


def test_sizes_are_height_and_width_in_order(photos):
    sizes, damaged = inspect(photos, num_workers=2)
    assert [(p.name, size) for p, size in sizes.items()] == [(name, (h, w)) for name, (w, h) in SIZES.items()]
    assert damaged == {} and inspect([]) == ({}, {})


def test_a_damaged_photo_is_named_or_listed(photos):
    photos[1].write_bytes(photos[1].read_bytes()[:100])
    with pytest.raises(UserError, match="b.jpg: damaged"):
        inspect(photos)
    sizes, damaged = inspect(photos, skip_damaged=True)
    assert list(damaged) == [photos[1]] and list(sizes) == [photos[0], photos[2], photos[3]]


def test_batches_hold_photos_of_one_size_and_each_photo_once(photos):
    a, b, c, d = photos
    assert batches(inspect(photos)[0], 2) == [[a, c], [d], [b]]
    assert batches(inspect(photos)[0], 9) == [[a, c, d], [b]]
    assert batches({}, 2) == []


def test_images_keep_the_photo_s_name(output, photos):
    assert [output.path(p).name for p in photos] == ["a.png", "b.png", "c.png", "d.png"]


def test_checks_write_nothing(output, photos):
    assert output.missing(photos, {"eps": 0.05}) == photos
    assert not output.described and not output.folder.exists()


def test_the_photos_own_folder_is_refused_also_through_links(tmp_path, photos):
    (tmp_path / "linked folder").symlink_to(photos[0].parent)
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "z.png"
    link.symlink_to(photos[0])
    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.write_bytes(photos[0].read_bytes())
    for folder, sources in [
        (photos[0].parent, photos),
        (tmp_path / "linked folder", photos),
        (tmp_path / "links", [link]),
        (photos[0].parent, [elsewhere, link]),
    ]:
        with pytest.raises(UserError, match="originals are never touched"):
            Output(folder, sources, "attack.yaml")


def test_a_file_and_two_photos_of_one_stem_are_refused(tmp_path, photos):
    (tmp_path / "file").write_text("text")
    with pytest.raises(UserError, match="is a file, expected a folder"):
        Output(tmp_path / "file", photos, "attack.yaml")
    with pytest.raises(UserError, match="a.png has the same stem, both would become a.png"):
        Output(tmp_path / "out", [*photos, photos[0].with_suffix(".bmp")], "attack.yaml")


def test_what_is_described_goes_on_with_the_same_parameters_only(output, photos):
    fill(output, photos[:2], {"eps": 0.05, "labels": {"attributes": ["Male"]}, "seed": None})
    assert yaml.safe_load(output.description.read_text())["commit"] == "abc"
    assert (
        output.missing(photos, {"eps": 0.05, "labels": {"attributes": ["Male"]}, "seed": None}) == photos[2:]
    )
    for other, message in [
        ({"eps": 0.1, "labels": {"attributes": ["Male"]}}, r"\(eps: 0.05 -> 0.1\)"),
        ({"eps": 0.05, "labels": "zeros"}, r"labels: .* -> zeros"),
        ({"eps": 0.05, "labels": {"attributes": ["Male"]}, "steps": 3}, r"\(steps: None -> 3\)"),
        ({"labels": {"attributes": ["Male"]}}, r"\(eps: 0.05 -> None\)"),
    ]:
        with pytest.raises(UserError, match=f"holds images of other parameters .*{message}"):
            output.missing(photos, other)


@pytest.mark.parametrize(
    "description, message",
    [("attack.yaml", "without an attack.yaml"), ("purify.yaml", "without a purify.yaml")],
)
def test_images_without_a_description_are_refused(tmp_path, photos, description, message):
    output = Output(tmp_path / "out", photos, description)
    fill(output, photos[2:], {"eps": 0.05})
    output.description.unlink()
    with pytest.raises(UserError, match=f"c.png: exists, {message} that says"):
        output.missing(photos, {"eps": 0.05})
    # images of other photos are in nobody's way
    assert output.missing(photos[:2], {"eps": 0.05}) == photos[:2]


@pytest.mark.parametrize(
    "content", [b"", b"[1, 2]", b"parameters: 3", b"facts: {}", b"a: [", b"\xff\xfe\x00"]
)
def test_a_description_that_cannot_be_read_is_refused(output, photos, content):
    fill(output, photos[:1], {"eps": 0.05})
    output.description.write_bytes(content)
    with pytest.raises(UserError, match="attack.yaml cannot be read"):
        output.missing(photos, {"eps": 0.05})


def test_a_later_description_replaces_the_earlier(output):
    output.describe({"eps": 0.05}, {})
    output.describe({"eps": 0.05}, {"seconds_per_image": 0.5})
    assert yaml.safe_load(output.description.read_text()) == {
        "parameters": {"eps": 0.05},
        "seconds_per_image": 0.5,
    }
    assert [p.name for p in output.folder.iterdir()] == ["attack.yaml"]


def test_what_a_photo_was_replaced_for_is_made_anew(output, photos, capsys):
    made = output.missing(photos, {"eps": 0.05})
    output.claim(made)
    fill(output, photos, {"eps": 0.05})
    again = Output(output.folder, photos, "attack.yaml")
    photos[2].touch()  # a new time alone is no new photo
    assert again.missing(photos, {"eps": 0.05}) == [] and again.claim(photos) == []
    Image.new("RGB", SIZES["a.png"], "red").save(photos[0])
    again = Output(output.folder, photos, "attack.yaml")
    assert again.missing(photos, {"eps": 0.05}) == [photos[0]]
    assert "made anew, for the photo was replaced since: a.png" in capsys.readouterr().out
    assert again.path(photos[0]).exists()  # until the work begins
    assert again.claim(photos) == [photos[0]] and not again.path(photos[0]).exists()
    assert Output(output.folder, photos, "attack.yaml").missing(photos, {"eps": 0.05}) == [photos[0]]


def test_a_folder_of_before_there_were_fingerprints_goes_by_time(output, photos):
    fill(output, photos, {"eps": 0.05})
    assert output.missing(photos, {"eps": 0.05}) == []
    now = output.path(photos[1]).stat().st_mtime_ns
    os.utime(photos[1], ns=(now + 1, now + 1))
    assert output.missing(photos, {"eps": 0.05}) == [photos[1]]
    output.claim(photos)
    Image.open(photos[1]).save(output.path(photos[1]))
    assert Output(output.folder, photos, "attack.yaml").missing(photos, {"eps": 0.05}) == []


def test_photos_of_subfolders_keep_them(tmp_path, photos):
    (photos[0].parent / "sub").mkdir()
    Image.new("RGB", (4, 4)).save(photos[0].parent / "sub" / "a.png")  # the name is there already, above
    sources = [*photos, photos[0].parent / "sub" / "a.png"]
    output = Output(tmp_path / "out", sources, "attack.yaml", photos[0].parent)
    assert output.name(sources[-1]) == "sub/a.png" and output.path(photos[1]).name == "b.png"
    output.save_image(sources[-1], np.zeros((4, 4, 3), np.uint8))
    assert (tmp_path / "out" / "sub" / "a.png").exists()


def test_names_that_are_no_text_go_through(tmp_path):
    photo = tmp_path / "photos" / os.fsdecode(b"caf\xe9.png")
    photo.parent.mkdir()
    Image.new("RGB", (4, 4)).save(photo)
    output = Output(tmp_path / "out", [photo], "attack.yaml")
    output.claim([photo])
    fill(output, [photo], {"name": photo.name})
    again = Output(tmp_path / "out", [photo], "attack.yaml")
    assert again.missing([photo], {"name": photo.name}) == [] and b"caf\xe9.png" in os.listdir(
        os.fsencode(tmp_path / "out")
    )
