"""A folder of faces is checked before any work; its crops are decoded once and never served stale."""

import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common import images
from common.cli import UserError
from faces import crops
from faces.celeba import FaceFolder, held_out, read_attributes, write_attributes

ATTRIBUTES = ["Black_Hair", "Male"]


def open_folder(folder, **options):
    return FaceFolder(folder, ATTRIBUTES, **{"crop": 40, "size": 16, **options})


def expected_crop(path, crop=40, size=16):
    return np.asarray(images.center_crop_resize(images.read_rgb(path), crop, size))


def count_decoding(monkeypatch):
    decoded, real = [], images.read_rgb
    monkeypatch.setattr(crops.images, "read_rgb", lambda path: decoded.append(Path(path).name) or real(path))
    return decoded


def test_labels_and_crops_follow_the_file_names(face_folder):
    folder = face_folder(8)
    table = read_attributes(folder / "list_attr_celeba.txt")
    order = np.random.RandomState(0).permutation(8)
    write_attributes(
        folder / "list_attr_celeba.txt",
        type(table)([table.names[i] for i in order], table.columns, table.values[order]),
    )
    faces = open_folder(folder)
    assert faces.names == sorted(table.names) and len(faces) == 8
    assert torch.equal(faces.labels, table.select(ATTRIBUTES)) and faces.labels.dtype == torch.float32
    x = faces.load([5, 0, 5])
    assert x.shape == (3, 16, 16, 3) and x.dtype == np.uint8
    for image, k in zip(x, [5, 0, 5], strict=True):
        assert np.array_equal(image, expected_crop(folder / faces.names[k]))
    assert torch.equal(faces.floats([5]), images.to_float(x[:1])) and faces.load([]).shape == (0, 16, 16, 3)


def test_attribute_file_beside_the_folder_or_named(face_folder, tmp_path):
    folder = face_folder(4)
    (folder / "list_attr_celeba.txt").rename(tmp_path / "list_attr_celeba.txt")
    assert len(open_folder(folder)) == 4
    (tmp_path / "list_attr_celeba.txt").rename(tmp_path / "mine.txt")
    assert len(open_folder(folder, attr_path=tmp_path / "mine.txt")) == 4
    with pytest.raises(UserError, match="found no attribute file.*--attr_path"):
        open_folder(folder)


def test_missing_empty_and_nested_folders_are_refused(face_folder, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        open_folder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        open_folder(tmp_path / "empty")
    folder = face_folder(2)
    with pytest.raises(UserError, match="holds the folders empty, photos: give the one"):
        open_folder(folder.parent / "photos" / "..")
    with pytest.raises(UserError, match="is a file"):
        open_folder(folder / "000001.png")


def test_rows_and_files_that_do_not_match_are_counted_and_named(face_folder):
    folder = face_folder(8)
    for k in range(1, 6):
        (folder / f"00000{k}.png").rename(folder / f"x{k}.png")
    with pytest.raises(
        UserError,
        match=r"5 files without a row \(x1.png, x2.png, x3.png, ...\) and "
        r"5 rows without a file \(000001.png, 000002.png, 000003.png, ...\)",
    ):
        open_folder(folder, limit=1)
    for k in range(1, 6):
        (folder / f"x{k}.png").rename(folder / f"00000{k}.png")
    (folder / "000008.png").unlink()
    with pytest.raises(UserError, match=r"found 1 rows without a file \(000008.png\);"):
        open_folder(folder)


def test_other_extensions_in_the_file_are_said(face_folder):
    folder = face_folder(3)
    listing = folder / "list_attr_celeba.txt"
    listing.write_text(listing.read_text().replace(".png", ".jpg"))
    with pytest.raises(UserError, match=r"only the extensions differ \(.png and .jpg\)"):
        open_folder(folder)


def test_two_photos_of_one_stem_are_refused(face_folder):
    folder = face_folder(3)
    shutil.copy(folder / "000001.png", folder / "000001.jpg")
    listing = folder / "list_attr_celeba.txt"
    listing.write_text(listing.read_text().replace("3\n", "4\n", 1) + "000001.jpg" + " 1" * 5 + "\n")
    with pytest.raises(UserError, match="000001.jpg and 000001.png differ in the extension alone"):
        open_folder(folder)


def test_a_damaged_photo_is_named_or_skipped(face_folder):
    folder = face_folder(6)
    whole = (folder / "000003.png").read_bytes()
    (folder / "000003.png").write_bytes(whole[:200])
    faces = open_folder(folder)
    assert len(faces.load([0, 1])) == 2
    for _ in range(2):  # the second time the mark in the cache is met
        with pytest.raises(UserError, match=r"000003.png: damaged.*--skip_damaged"):
            faces.load([1, 2])
    skipping = open_folder(folder, skip_damaged=True)
    assert (
        skipping.skipped == ["000003.png"]
        and "000003.png" not in skipping.names
        and len(skipping.labels) == len(skipping) == 5
    )
    assert np.array_equal(skipping.load([2])[0], expected_crop(folder / "000004.png"))
    (folder / "000003.png").write_bytes(whole)
    assert open_folder(folder, skip_damaged=True).skipped == []


def test_an_empty_file_is_named_before_any_work(face_folder):
    folder = face_folder(4)
    (folder / "000002.png").write_bytes(b"")
    with pytest.raises(UserError, match="000002.png: damaged, an empty file"):
        open_folder(folder)
    assert open_folder(folder, skip_damaged=True).skipped == ["000002.png"]


def test_a_link_to_a_lost_photo_is_named(face_folder):
    folder = face_folder(3)
    (folder / "000002.png").unlink()
    (folder / "000002.png").symlink_to(folder / "gone.png")
    with pytest.raises(UserError, match="000002.png: cannot be read"):
        open_folder(folder)


def test_every_photo_is_decoded_once_and_only_when_asked(face_folder, monkeypatch):
    folder = face_folder(6)
    decoded = count_decoding(monkeypatch)
    faces = open_folder(folder)
    assert decoded == [] and not (folder.parent / ".crops").exists()  # opening writes nothing
    faces.load([0, 2])
    faces.load([2, 1, 0])
    open_folder(folder, limit=3).load([0, 1, 2])
    open_folder(folder).subset(["000003.png"]).load([0])
    assert sorted(decoded) == ["000001.png", "000002.png", "000003.png"]
    open_folder(folder, size=20).load([0])  # another size is another cache
    assert len(decoded) == 4 and len(list((folder.parent / ".crops").iterdir())) == 2


def test_a_killed_fill_goes_on_where_it_stopped(face_folder, monkeypatch):
    folder = face_folder(6)
    decoded, real = [], images.read_rgb

    def killed(path):
        if len(decoded) == 3:
            raise KeyboardInterrupt
        decoded.append(path.name)
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(crops.images, "read_rgb", killed)
        with pytest.raises(KeyboardInterrupt):
            open_folder(folder).prepare()
    again = count_decoding(monkeypatch)
    faces = open_folder(folder)
    faces.prepare()
    assert decoded + again == faces.names
    assert all(
        np.array_equal(x, expected_crop(folder / n))
        for n, x in zip(faces.names, faces.load(range(6)), strict=True)
    )


def test_a_row_without_its_mark_is_decoded_again(face_folder):
    """A process killed between a row and its mark leaves the mark at 0, whatever the row holds."""
    folder = face_folder(3)
    faces = open_folder(folder)
    faces.prepare()
    with open(faces.cache.place / "marks.npy", "r+b") as f:
        f.seek(faces.cache.marks.offset + 8)
        f.write(bytes(8))
    with open(faces.cache.place / "crops.npy", "r+b") as f:
        f.seek(faces.cache.crops.offset + 16 * 16 * 3)
        f.write(bytes(100))
    assert np.array_equal(open_folder(folder).load([1])[0], expected_crop(folder / "000002.png"))


def test_a_replaced_photo_is_not_served_stale(face_folder, monkeypatch):
    folder = face_folder(4)
    open_folder(folder).prepare()
    Image.fromarray(np.full((48, 40, 3), 7, np.uint8)).save(folder / "000002.png")
    decoded = count_decoding(monkeypatch)
    assert (open_folder(folder).load(range(4))[1] == 7).all() and decoded == ["000002.png"]
    stat = (folder / "000003.png").stat()
    # equal size, later by 1 ns
    os.utime(folder / "000003.png", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    open_folder(folder).load(range(4))
    assert decoded == ["000002.png", "000003.png"]


def fill(folder, step):
    faces = open_folder(folder, num_workers=2)
    order = list(range(len(faces)))[::step]
    for k in range(0, len(order), 4):
        faces.load(order[k : k + 4])


def test_two_processes_fill_one_cache(face_folder):
    folder, fork = face_folder(60), multiprocessing.get_context("fork")
    fillers = [fork.Process(target=fill, args=(folder, step)) for step in (1, -1)]
    for p in fillers:
        p.start()
    for p in fillers:
        p.join(60)
    assert [p.exitcode for p in fillers] == [0, 0] and len(list((folder.parent / ".crops").iterdir())) == 1
    faces = open_folder(folder)
    assert len(faces.cache.missing(np.arange(60))) == 0
    assert all(
        np.array_equal(x, expected_crop(folder / n))
        for n, x in zip(faces.names, faces.load(range(60)), strict=True)
    )


def test_threads_give_the_same_crops(face_folder, tmp_path):
    folder = face_folder(40)
    one, four = (
        open_folder(folder, cache_dir=tmp_path / "one"),
        open_folder(folder, cache_dir=tmp_path / "four", num_workers=4),
    )
    assert np.array_equal(one.load(range(40)), four.load(range(40)))
    assert not (folder.parent / ".crops").exists() and one.cache.place.parent == tmp_path / "one"


def test_a_read_only_place_falls_back_to_a_private_folder(face_folder, tmp_path):
    folder = face_folder(3)
    # no folder can be made below a file, not even by root
    (tmp_path / "file").write_text("")
    faces = open_folder(folder, cache_dir=tmp_path / "file")
    with pytest.warns(UserWarning, match="for this run only.*--cache_dir"):
        assert np.array_equal(faces.load([1])[0], expected_crop(folder / "000002.png"))
    place = faces.cache.place
    assert place.is_dir() and tmp_path not in place.parents
    del faces
    assert not place.exists()
    folder.parent.chmod(0o555)
    try:
        with pytest.warns(UserWarning, match="for this run only"):
            open_folder(folder).load([0])
    finally:
        folder.parent.chmod(0o755)
    assert not (folder.parent / ".crops").exists()


def test_a_damaged_cache_names_the_folder_to_remove(face_folder):
    folder = face_folder(3)
    faces = open_folder(folder)
    faces.load([0])
    (faces.cache.place / "marks.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match="damaged crop cache.*remove the folder"):
        open_folder(folder).load([0])


def test_subset_keeps_the_order_asked_for(face_folder):
    faces = open_folder(face_folder(6))
    part = faces.subset(["000005.png", "000002.png"])
    assert part.names == ["000005.png", "000002.png"] and torch.equal(part.labels, faces.labels[[4, 1]])
    assert (
        np.array_equal(part.load([0, 1]), faces.load([4, 1]))
        and part.cache is faces.cache
        and len(faces) == 6
    )
    with pytest.raises(ValueError, match="nobody.png"):
        faces.subset(["nobody.png"])


def test_held_out_is_a_partition_that_depends_on_names_and_seed_alone():
    names = [f"{i:06d}.jpg" for i in range(200)]
    kept, validation = held_out(names, 0)
    assert (
        len(validation) == 20
        and sorted(kept + validation) == names
        and kept == sorted(kept)
        and validation == sorted(validation)
    )
    assert set(held_out(names[::-1], 0)[1]) == set(validation) and held_out(names, 1)[1] != validation
    # fewer names hardly change who is held out
    assert len(set(validation) & set(held_out(names[:190], 0)[1])) >= 16
    assert [len(part) for part in held_out(names[:8])] == [7, 1] and held_out(names[:1]) == (names[:1], [])


def test_held_out_is_at_most_1999():
    names = [f"{i:06d}.jpg" for i in range(21000)]
    assert len(held_out(names)[1]) == 1999
