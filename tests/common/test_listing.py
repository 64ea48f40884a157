"""What of a folder is a photo, and the one line about the rest."""

import os

import pytest
from PIL import Image

from common import images
from common.cli import UserError
from common.errors import shown
from common.listing import EXTENSIONS, canonical, is_photo, listing, photos_of, relative


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "photos"
    place.mkdir()
    for name in ("b.PNG", "a.jfif", "c.tif", "d.gif", "e.jpe"):
        Image.new("RGB", (4, 4)).save(place / name, format="GIF" if name == "d.gif" else "PNG")
    return place


def test_every_format_that_pillow_decodes_is_a_photo():
    Image.init()
    known = {e for e, f in Image.registered_extensions().items() if f in Image.OPEN}
    # stubs without a decoder, films, vectors that other programs draw, floats, astronomy, rare containers
    none = set(
        ".bufr .grib .h5 .hdf .mpeg .mpg .wmf .emf .eps .ps .pfm .fit .fits .iim .ftc .ftu .gbr .pcd"
        " .pxr".split()
    )
    assert known - none <= set(EXTENSIONS) and set(EXTENSIONS) <= known | {".avif", ".avifs"}


def test_what_is_left_out_is_counted_and_named(folder, capsys):
    assert listing(folder).left_out == ""
    for name in ("._b.PNG", ".DS_Store", "Thumbs.db", "h.heic", "notes\x1b[31m.txt"):
        (folder / name).write_bytes(b"x")
    (folder / "deep" / "er").mkdir(parents=True)
    for name in ("deep/a.jpg", "deep/er/b.jpg", "deep/._a.jpg"):
        (folder / name).write_bytes(b"x")
    os.mkfifo(folder / "pipe.png")  # opening it would wait for ever
    found = listing(folder)
    assert [n for n, _ in found.photos] == ["a.jfif", "b.PNG", "c.tif", "d.gif", "e.jpe"]
    said = found.left_out
    assert said.startswith("8 files left out: 3 of the operating system (.DS_Store, ._b.PNG, Thumbs.db), ")
    assert "1 without a decoder for HEIC, install pillow-heif (h.heic)" in said
    assert "2 not images (notes\\x1b[31m.txt, pipe.png)" in said
    assert said.endswith("2 in the folders deep, which --recursive reads")
    assert photos_of(folder, limit=2) == [folder / "a.jfif", folder / "b.PNG"]
    assert capsys.readouterr().out == f"{folder}: {said}\n"


def test_recursive_takes_subfolders_and_names_photos_by_them(folder):
    (folder / "sub").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "sub" / "a.png")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "a.png").write_bytes(b"x")
    paths = photos_of(folder, recursive=True)
    assert [relative(p, folder) for p in paths][-1] == "sub/a.png" and len(paths) == 6
    assert relative(folder / "a.jfif", folder / "a.jfif") == "a.jfif"


def test_a_folder_without_photos_says_what_it_holds(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "IMG_1.heic").write_bytes(b"x")
    with pytest.raises(UserError, match="holds no images.*folders photos: give the one.*install pillow-heif"):
        listing(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        photos_of(tmp_path / "none")


def test_a_link_that_leads_nowhere_is_said_alike_everywhere(tmp_path):
    link = tmp_path / "a.jpg"
    link.symlink_to(tmp_path / "gone.jpg")
    for read in (photos_of, images.read_rgb):
        with pytest.raises(
            UserError, match=r"a.jpg: cannot be read, a link to a photo that was moved \(.*gone.jpg"
        ):
            read(link)


def test_names():
    assert canonical("Jose\u0301.jpg") == canonical("Jos\u00e9.jpg") == "Jos\u00e9.jpg"
    assert is_photo("..dots.png") and not is_photo("._dots.png") and not is_photo("png")
    assert (
        shown("caf\udce9 \x1b[2J\n\u202e") == "caf\\udce9 \\x1b[2J\\n\\u202e" and shown("日本 é") == "日本 é"
    )
