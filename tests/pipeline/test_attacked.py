"""Disrupted photos are made once, per label set where the rule asks for it, and keyed by what decides
them."""

import torch

from attacks import build
from common.distributed import Context
from faces.celeba import FaceFolder
from models.translators import Translator
from pipeline.attacked import AttackedPhotos

ATTRIBUTES = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]
CPU = Context(0, 1, torch.device("cpu"))


def photos(tiny_generator, faces, root, rule="original", seed=0, **options):
    attack = build("pgd", tiny_generator, 0.05, steps=1, label=rule, **options)
    return AttackedPhotos(attack, rule, faces, ATTRIBUTES, root, faces.preparation, seed)


def test_what_is_there_is_not_attacked_again(tiny_generator, face_folder, tmp_path):
    folder = face_folder(4)
    faces = FaceFolder(folder, ATTRIBUTES, 40, 32)
    first = photos(tiny_generator, faces, tmp_path)
    assert first.fill(CPU, 3) == 4 and first.fill(CPU, 3) == 0
    assert (first.floats(faces.names) - faces.floats(range(4))).abs().amax() <= 6 / 127.5 + 1e-6


def test_a_larger_folder_extends_the_cache(tiny_generator, face_folder, tmp_path):
    folder = face_folder(6)
    assert photos(tiny_generator, FaceFolder(folder, ATTRIBUTES, 40, 32, limit=2), tmp_path).fill(CPU, 8) == 2
    assert photos(tiny_generator, FaceFolder(folder, ATTRIBUTES, 40, 32), tmp_path).fill(CPU, 8) == 4


def test_rule_target_keeps_one_image_per_domain_and_every_option_has_its_own_key(
    tiny_generator, face_folder, tmp_path
):
    faces = FaceFolder(face_folder(2), ATTRIBUTES, 40, 32)
    by_target = photos(tiny_generator, faces, tmp_path, "target", target="clean")
    assert by_target.fill(CPU, 8) == 10
    assert not torch.equal(by_target.floats(faces.names, 0), by_target.floats(faces.names, 3))
    keys = [
        photos(tiny_generator, faces, tmp_path, **more).key
        for more in ({}, {"seed": 1}, {"target": "clean"}, {"step_size": 0.02}, {"rule": "joint"})
    ]
    assert len(set(keys)) == len(keys)


def test_a_replaced_photo_is_attacked_again(tiny_generator, face_folder, tmp_path):
    folder = face_folder(4)
    photos(tiny_generator, FaceFolder(folder, ATTRIBUTES, 40, 32), tmp_path).fill(CPU, 8)
    (folder / "000002.png").write_bytes((folder / "000003.png").read_bytes())
    faces = FaceFolder(folder, ATTRIBUTES, 40, 32)
    again = photos(tiny_generator, faces, tmp_path)
    assert again.fill(CPU, 8) == 1
    assert (again.floats(["000002.png"]) - faces.floats([2])).abs().amax() <= 6 / 127.5 + 1e-6


class Asking(Translator):
    """Asked with differences, and keeps what it was asked."""

    def __init__(self, network):
        super().__init__(network, "a" * 64)
        self.asked = []

    def condition(self, c_org, target):
        return target - c_org

    def forward(self, x, c):
        self.asked.append(c.detach().clone())
        return super().forward(x, c)


def test_a_translator_is_attacked_with_its_own_kind_of_conditions(tiny_generator, face_folder, tmp_path):
    faces = FaceFolder(face_folder(3), ATTRIBUTES, 40, 32)
    for rule in ("original", "iterative"):
        translator = Asking(tiny_generator)
        photos(translator, faces, tmp_path / rule, rule).fill(CPU, 8)
        found = torch.cat(translator.asked)
        assert (
            (not found.any())
            if rule == "original"
            else set(found.unique().tolist()) <= {-1.0, 0.0, 1.0} and bool((found == -1).any())
        )


def test_what_an_attack_notes_of_a_photo_is_kept_with_it(tiny_generator, face_folder, tmp_path):
    faces = FaceFolder(face_folder(3), ATTRIBUTES, 40, 32)
    plain = photos(tiny_generator, faces, tmp_path)
    plain.fill(CPU, 8)
    assert plain.notes(faces.names) == []
    noting = photos(tiny_generator, faces, tmp_path / "noted", "target", target="clean")
    attack, calls = noting.attack, []

    class Noting:
        generator, definition = attack.generator, attack.definition

        def __call__(self, x, labels, rng):
            calls.append(len(x))
            self.notes = [{"call": len(calls), "row": row} for row in range(len(x))]
            return attack(x, labels, rng)

    noting.attack = Noting()
    noting.fill(CPU, 2)
    found = noting.notes(faces.names)
    assert len(found) == 15 and found[:3] == [
        {"call": 1, "row": 0},
        {"call": 1, "row": 1},
        {"call": 2, "row": 0},
    ]
    # read from the cache again, in the order asked for
    assert photos(tiny_generator, faces, tmp_path / "noted", "target", target="clean").notes(
        faces.names[::-1]
    )[:3] == [found[2], found[1], found[0]]
