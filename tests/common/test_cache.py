import json
import multiprocessing
import os

import numpy as np
import pytest

from common import cache, files, images
from common.cache import ImageCache
from common.cli import UserError

DEFINITION = {"attack": "pgd", "eps": 0.05, "seed": 0}


def pictures(n, value=0):
    return np.full((n, 6, 5, 3), value, np.uint8) + np.arange(n, dtype=np.uint8)[:, None, None, None]


def test_save_missing_load_extend(tmp_path):
    store = ImageCache(tmp_path, "pgd-eps0.05", DEFINITION)
    names = ["a.jpg", "b.png", "c.d.jpg"]
    assert store.missing(names) == names and not list(tmp_path.iterdir())
    store.save(names[:2], pictures(2))
    assert store.missing(names) == ["c.d.jpg"]
    store.save(names[2:], pictures(1, 9))
    assert store.missing(names) == [] and store.missing(["c.e.jpg", "a.jpg"]) == ["c.e.jpg"]
    assert np.array_equal(store.load(["c.d.jpg", "a.jpg"]), np.concatenate([pictures(1, 9), pictures(1)]))
    assert sorted(os.listdir(store.folder)) == ["a.png", "b.png", "c.d.png", "definition.json"]
    x = store.floats(["b.png"])
    assert x.shape == (1, 3, 6, 5) and np.array_equal(images.to_uint8(x), pictures(2)[1:])


def test_the_folder_names_the_definition_and_holds_it(tmp_path):
    store = ImageCache(tmp_path, "pgd", DEFINITION)
    assert store.folder.name == f"pgd-{store.key[:8]}"
    store.save(["a.jpg"], pictures(1))
    assert json.loads((store.folder / "definition.json").read_text()) == {
        "cache_format": cache.FORMAT_VERSION,
        **DEFINITION,
    }


def test_the_key_is_the_definition_alone(tmp_path):
    key = ImageCache(tmp_path, "pgd", DEFINITION).key
    assert ImageCache(tmp_path / "elsewhere", "other name", dict(reversed(DEFINITION.items()))).key == key
    for change in ({"eps": 0.1}, {"seed": 1}, {"steps": 10}):
        assert ImageCache(tmp_path, "pgd", {**DEFINITION, **change}).key != key
    extended = ImageCache(tmp_path, "pgd", DEFINITION)  # more photos, more often: the same cache
    extended.save(["a.jpg"], pictures(1))
    extended.save(["b.jpg", "c.jpg"], pictures(2))
    assert extended.key == key and [p.name for p in tmp_path.iterdir()] == [extended.folder.name]


def test_the_format_version_is_part_of_the_key(tmp_path, monkeypatch):
    key = ImageCache(tmp_path, "pgd", DEFINITION).key
    monkeypatch.setattr(cache, "FORMAT_VERSION", cache.FORMAT_VERSION + 1)
    assert ImageCache(tmp_path, "pgd", DEFINITION).key != key


def test_an_unfinished_write_is_not_an_image(tmp_path):
    store = ImageCache(tmp_path, "pgd", DEFINITION)
    store.save(["a.jpg"], pictures(1))
    (store.folder / ".b.png.123.tmp").write_bytes(b"half")
    assert store.missing(["a.jpg", "b.jpg"]) == ["b.jpg"]


def fill(root, names):
    store = ImageCache(root, "pgd", {"attack": "pgd"})
    for name in names:
        if store.missing([name]):
            store.save([name], np.full((1, 40, 40, 3), int(name[:3]), np.uint8))


def test_two_processes_fill_one_cache(tmp_path):
    names = [f"{i:03d}.jpg" for i in range(60)]
    workers = [
        multiprocessing.get_context("fork").Process(target=fill, args=(tmp_path, order))
        for order in (names, names[::-1])
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert [w.exitcode for w in workers] == [0, 0]
    store = ImageCache(tmp_path, "pgd", {"attack": "pgd"})
    assert store.missing(names) == [] and len(os.listdir(store.folder)) == 61
    assert store.load(names)[:, 0, 0, 0].tolist() == list(range(60))


def test_a_root_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        ImageCache(tmp_path / "file", "pgd", DEFINITION).save(["a.jpg"], pictures(1))


def test_a_folder_of_other_weights_is_refused_and_the_difference_named(tmp_path):
    """Renamed or copied: the readable name and the key in it are those of this cache, what is inside is
    another's."""
    mine, theirs = ({**DEFINITION, "weights": letter * 64} for letter in "ab")
    other = ImageCache(tmp_path, "pgd", theirs)
    other.save(["a.jpg"], pictures(1))
    folder = tmp_path / f"pgd-{files.key_of({'cache_format': cache.FORMAT_VERSION, **mine})[:8]}"
    other.folder.rename(folder)
    with pytest.raises(
        UserError,
        match=(
            rf"{folder.name}: .* belongs to something else \(weights: b{{24}}, expected a{{24}}\); delete it"
        ),
    ):
        ImageCache(tmp_path, "pgd", mine)
    (folder / "definition.json").write_text(
        json.dumps({"cache_format": cache.FORMAT_VERSION, **mine, "eps": 0.1, "blur": "eot"})
    )
    with pytest.raises(UserError, match=r"\(eps: 0.1, expected 0.05; blur: eot, expected None\)"):
        ImageCache(tmp_path, "pgd", mine)
    # nothing is deleted for the user
    assert sorted(os.listdir(folder)) == ["a.png", "definition.json"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "definition.json: cannot be read"),
        ("", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        ("[]", "belongs to something else"),
        ("null", "belongs to something else"),
        ("{}", "belongs to something else"),
    ],
)
def test_a_damaged_definition_is_one_line(tmp_path, text, words):
    store = ImageCache(tmp_path, "pgd", DEFINITION)
    store.save(["a.jpg"], pictures(1))
    (store.folder / "definition.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=words) as e:
        ImageCache(tmp_path, "pgd", DEFINITION)
    assert "\n" not in str(e.value) and str(store.folder) in str(e.value)


def test_a_definition_is_its_own_again_after_json(tmp_path):
    """Tuples become lists, 1.0 equals 1; a folder whose definition is not written yet belongs to whoever
    fills it."""
    definition = {
        "attributes": ("Male", "Young"),
        "params": {"start": 10, "sigma": 1.5},
        "weights": None,
        "eps": 1.0,
    }
    ImageCache(tmp_path, "pgd", definition).save(["a.jpg"], pictures(1))
    again = ImageCache(tmp_path, "pgd", {**definition, "attributes": ["Male", "Young"]})
    assert again.missing(["a.jpg"]) == []
    (again.folder / "definition.json").unlink()
    again = ImageCache(tmp_path, "pgd", definition)
    again.save(["b.jpg"], pictures(1))
    assert (again.folder / "definition.json").exists() and again.missing(["a.jpg", "b.jpg"]) == []


def test_notes_go_with_their_images(tmp_path):
    store = ImageCache(tmp_path, "worst", DEFINITION)
    store.save(["a.jpg", "b.jpg"], pictures(2), [{"won": "apgd"}, {"won": "square"}])
    store.save(["c.jpg"], pictures(1))
    assert store.notes(["b.jpg", "c.jpg", "a.jpg"]) == [{"won": "square"}, None, {"won": "apgd"}]


def test_an_empty_image_and_a_damaged_list_are_made_again(tmp_path):
    names = ["a.jpg", "b.jpg"]
    store = ImageCache(tmp_path, "pgd", DEFINITION, {"a.jpg": "1", "b.jpg": "2"})
    store.save(names, pictures(2))
    listed = store.listed.read_bytes()
    store.listed.write_bytes(b"\xff" + listed[1:])
    assert store.missing(names) == ["a.jpg"]
    store.save(["a.jpg"], pictures(1))
    assert store.missing(names) == []
    store.path("b.jpg").write_bytes(b"")
    assert store.missing(names) == ["b.jpg"]
