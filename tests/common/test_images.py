import io
import json
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from common import images
from common.cli import RunError, UserError


def ramp(width, height):
    """A photo whose red channel is the column and whose green channel is the row."""
    a = np.zeros((height, width, 3), np.uint8)
    a[..., 0], a[..., 1] = np.arange(width), np.arange(height)[:, None]
    return Image.fromarray(a)


def test_centre_crop_without_resize_takes_the_middle():
    out = np.asarray(images.center_crop_resize(ramp(178, 218), 178, 178))
    assert out.shape == (178, 178, 3)
    assert (out[0, 0, 0], out[0, 0, 1], out[-1, -1, 0], out[-1, -1, 1]) == (0, 20, 177, 197)


@pytest.mark.parametrize("width, height, crop", [(179, 218, 178), (40, 48, 33), (41, 40, 8)])
def test_odd_margins_are_cut_as_torchvision_cuts_them(width, height, crop):
    from torchvision.transforms.functional import center_crop

    photo = ramp(width, height)
    assert np.array_equal(
        np.asarray(images.center_crop_resize(photo, crop, crop)), np.asarray(center_crop(photo, [crop, crop]))
    )


def test_resize_is_antialiased():
    board = Image.fromarray(
        (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8).repeat(3).reshape(64, 64, 3)
    )
    out = np.asarray(images.center_crop_resize(board, 64, 16)).astype(int)
    assert out.shape == (16, 16, 3) and abs(out[2:-2, 2:-2] - 127).max() <= 3


@pytest.mark.parametrize("width, height", [(40, 48), (48, 40), (40, 40), (17, 200), (1, 1)])
def test_a_photo_smaller_than_the_crop_is_enlarged_by_its_short_side(width, height):
    photo = ramp(width, height)
    out = np.asarray(images.center_crop_resize(photo, 178, 64)).astype(int)
    assert out.shape == (64, 64, 3)
    if min(width, height) == 40:  # the whole short side is there, nothing is padded with black
        short = 0 if width <= height else 1
        values = out[..., short].mean(axis=short)
        assert values[0] < 2 and values[-1] > 37


def test_crop_0_takes_the_largest_centred_square():
    out = np.asarray(images.center_crop_resize(ramp(50, 30), 0, 30))
    assert out[0, 0, 0] == 10 and out[-1, -1, 0] == 39 and out[-1, -1, 1] == 29


def test_eight_bits_survive_the_way_to_floats_and_back():
    a = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    x = images.to_float(a)
    assert (
        x.shape == (1, 3, 16, 16)
        and x.dtype == torch.float32
        and float(x.min()) == -1
        and float(x.max()) == 1
    )
    assert np.array_equal(images.to_uint8(x), a) and torch.equal(images.quantise(x), x)
    assert images.to_float(a[0]).shape == (3, 16, 16)


def test_rounding_is_to_the_nearest_level_and_stays_in_range():
    x = (
        torch.tensor([-3.0, -1.0, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 0.9999, 3.0])
        .reshape(1, 1, 1, 6)
        .expand(1, 3, 1, 6)
    )
    assert images.to_uint8(x)[0, 0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]
    assert torch.equal(images.quantise(x), images.to_float(images.to_uint8(x)))


def test_check_range():
    images.check_range(torch.zeros(1, 3, 2, 2))
    for bad in (
        torch.full((1, 3, 2, 2), 255.0),
        torch.full((1, 3, 2, 2), float("nan")),
        torch.zeros(3, 2, 2),
        torch.zeros(1, 1, 2, 2),
        torch.zeros(1, 3, 2, 2, dtype=torch.uint8),
    ):
        with pytest.raises(ValueError, match="expected"):
            images.check_range(bad)


def test_png_round_trip(tmp_path):
    a = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    images.save_png(tmp_path / "a.png", a)
    assert np.array_equal(images.load_png(tmp_path / "a.png"), a) and [
        p.name for p in tmp_path.iterdir()
    ] == ["a.png"]


@pytest.mark.parametrize("content", [b"", b"no image at all", "cut.jpg", "cut.png"])
def test_a_damaged_image_is_named(tmp_path, content):
    path = tmp_path / "000007.jpg"
    if isinstance(content, str):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
            tmp_path / content
        )
        content = (tmp_path / content).read_bytes()[:-900]
    path.write_bytes(content)
    with pytest.raises(UserError, match="000007.jpg: damaged or not an image") as e:
        images.read_rgb(path)
    assert "\n" not in str(e.value) and "--skip_damaged" in str(e.value)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(UserError, match="none.png: no such image"):
        images.read_rgb(tmp_path / "none.png")


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    # the camera lay on its side: turn by 90 degrees clockwise
    exif[0x0112] = 6
    ramp(40, 20).save(tmp_path / "a.png", exif=exif)
    out = np.asarray(images.read_rgb(tmp_path / "a.png"))
    assert (
        out.shape == (40, 20, 3) and out[0, 0].tolist() == [0, 19, 0] and out[-1, -1].tolist() == [39, 0, 0]
    )


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_other_colour_modes_become_rgb(tmp_path, mode):
    name = "a.tif" if mode == "CMYK" else "a.png"
    ramp(8, 8).convert(mode).save(tmp_path / name)
    assert images.read_rgb(tmp_path / name).mode == "RGB"


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path):
    Image.fromarray(np.full((4, 4), 0x8080, np.uint16)).save(tmp_path / "a.png")
    assert np.asarray(images.read_rgb(tmp_path / "a.png")).max() == 128


def test_grid_places_cells_between_white_lines():
    x = -torch.ones(3, 4, 5)
    grid = images.make_grid([[x, x], [x]], pad=2, scale=1)
    assert (
        grid.shape == (14, 16, 3)
        and (grid[2:6, 2:7] == 0).all()
        and (grid[2:6, 9:14] == 0).all()
        and (grid[8:12, 9:14] == 255).all()
    )
    assert images.make_grid([[x]], scale=3).shape == (24, 27, 3)


def test_a_note_goes_with_a_png_and_changes_no_pixel(tmp_path):
    a = np.asarray(ramp(9, 7))
    note = {"won": "apgd", "l2": {"apgd": 0.25, "square": 0.125}, "text": "ä"}
    images.save_png(tmp_path / "noted.png", a, note)
    images.save_png(tmp_path / "plain.png", a)
    assert images.read_note(tmp_path / "noted.png") == note
    assert images.read_note(tmp_path / "plain.png") is None
    assert np.array_equal(images.load_png(tmp_path / "noted.png"), a)
    with Image.open(tmp_path / "noted.png") as image:
        assert json.loads(image.text["note"]) == note
    buffer = io.BytesIO()
    Image.fromarray(a).save(buffer, format="PNG", compress_level=1, compress_type=images.RUNS)
    assert (tmp_path / "plain.png").read_bytes() == buffer.getvalue()
    with pytest.raises(UserError, match="nowhere.png: no such image"):
        images.read_note(tmp_path / "nowhere.png")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_that_are_not_finite_never_become_pixels(value):
    x = torch.zeros(2, 3, 4, 4)
    assert images.to_uint8(x).shape == (2, 4, 4, 3)
    x[1, 2, 3, 0] = value
    with pytest.raises(RunError, match="not made of finite numbers"):
        images.to_uint8(x)


def jpeg(path, exif=b"", segment=b""):
    """A JPEG of 6 x 4 pixels with an EXIF block and further bytes after its first marker."""
    out = io.BytesIO()
    Image.new("RGB", (6, 4), "red").save(out, "JPEG", exif=exif)
    data = out.getvalue()
    path.write_bytes(data[:2] + segment + data[2:])
    return path


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize(
    "body, size",
    [
        # orientation 6 beside a rational of kind 0/0, which cannot be written again
        (b"II*\0\x08\0\0\0\2\0\x12\1\3\0\1\0\0\0\6\0\0\0\x1a\1\5\0\1\0\0\0\x26\0\0\0" + b"\0" * 12, (4, 6)),
        (b"II*\0\xff\xff\xff\xff", (6, 4)),  # a directory behind the end
        (b"garbage", (6, 4)),
        (b"", (6, 4)),
    ],
)
def test_odd_exif_costs_the_orientation_at_most(tmp_path, body, size):
    assert images.read_rgb(jpeg(tmp_path / "a.jpg", b"Exif\0\0" + body)).size == size


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"eXIf"])
def test_a_chunk_beside_the_pixels_may_be_large_or_damaged(tmp_path, kind):
    out = io.BytesIO()
    Image.new("RGB", (6, 4), "red").save(out, "PNG")
    data, large = out.getvalue(), b"k\0\0" + zlib.compress(bytes(2 << 20))
    for body in (large, b"", b"k\0\0broken"):
        for extra in (chunk(kind, body), chunk(kind, body)[:-1] + b"\0"):  # and with a wrong checksum
            (tmp_path / "a.png").write_bytes(data[:33] + extra + data[33:])
            assert images.read_rgb(tmp_path / "a.png").getpixel((0, 0)) == (255, 0, 0)


def test_transparency_is_composed_onto_white_and_said(tmp_path):
    a = np.zeros((2, 2, 4), np.uint8)
    a[0, 0] = 255, 0, 0, 255
    a[0, 1] = 0, 0, 255, 0  # hidden blue
    a[1] = 0, 0, 0, 51  # a fifth of black
    Image.fromarray(a).save(tmp_path / "a.png")
    image = images.read_rgb(tmp_path / "a.png")
    assert np.asarray(image).tolist() == [[[255, 0, 0], [255] * 3], [[204] * 3, [204] * 3]]
    assert images.remarks([("a.png", image.info["remarks"])]) == [
        "transparency composed onto white: 1 photo (a.png)"
    ]
    a[..., 3] = 255  # opaque: the colours as they are, and nothing to say
    Image.fromarray(a).save(tmp_path / "b.png")
    image = images.read_rgb(tmp_path / "b.png")
    assert np.array_equal(image, a[..., :3]) and images.remarks([("b.png", image.info["remarks"])]) == []


def test_of_an_animation_the_first_frame_is_taken_and_said(tmp_path):
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    red.save(tmp_path / "a.gif", save_all=True, append_images=[blue])
    image = images.read_rgb(tmp_path / "a.gif")
    assert image.getpixel((0, 0)) == (255, 0, 0) and image.info["remarks"] == ("first frame of several",)


def test_too_large_and_no_decoder_are_said_as_such(tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=r"a.png: too large \(10,000 pixels\), expected at most 2,000 pixels"):
        images.read_rgb(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(32))
    with pytest.raises(UserError, match=r"b.jpg: no decoder for HEIC \(install pillow-heif\)"):
        images.read_rgb(tmp_path / "b.jpg")


def test_a_crop_of_less_than_half_of_the_short_side_is_refused(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        Image.new("L", (120, 101)).save(path)
    for crop in (0, 51, 200):
        images.check_crop(paths, crop)
    with pytest.raises(UserError, match=r"covers 50% of its short side of 101.*--celeba_crop_size 0"):
        images.check_crop(paths, 50)
    images.check_crop([], 50)
