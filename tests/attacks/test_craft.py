import copy

import pytest
import torch

import weights
from attacks import build
from attacks import craft as command
from attacks.craft import craft
from attacks.universal import load_perturbation
from common import seeds
from common.cli import RunError, UserError


def test_a_crafted_one_stays_in_its_ball_and_beats_random_signs_on_photos_it_has_not_seen(
    faces, tiny_generator
):
    x, c = faces(8)
    new, labels = faces(8, seed=1)
    p = craft([(tiny_generator, c[:, None])], x, 0.05, 0.01, 10, seeds.Streams([0]))
    assert p.shape == (3, 32, 32) and p.abs().max() <= 0.05
    signs = torch.randn(p.shape, generator=torch.Generator().manual_seed(0)).sign() * 0.05
    harm = [
        (
            tiny_generator(
                build("universal", None, 0.05, perturbation=each)(new, labels[:, None], None), labels
            )
            - tiny_generator(new, labels)
        )
        .square()
        .mean()
        for each in (p, signs)
    ]
    assert harm[0] > 2 * harm[1]


def test_crafting_does_not_depend_on_the_chunk(faces, tiny_generator):
    x, c = faces(5)
    labels = torch.stack([c, 1 - c], dim=1)
    whole, parts = (
        craft([(tiny_generator, labels)], x, 0.05, 0.01, 3, seeds.Streams([0]), chunk=n) for n in (5, 2)
    )
    assert ((whole - parts).abs() > 1e-6).float().mean() <= 0.01


def test_one_crafted_against_two_translators_hurts_the_worse_off_more_than_one_crafted_against_the_other(
    faces, tiny_generator
):
    other = copy.deepcopy(tiny_generator)
    with torch.no_grad():
        for q in other.parameters():
            q.copy_(
                torch.randn(q.shape, generator=torch.Generator().manual_seed(q.numel())) * q.std()
                if q.ndim > 1
                else q
            )
    x, c = faces(8)
    conditions = c[:, None]

    def harm(p, G):
        return float((G((x + p).clamp(-1, 1), c) - G(x, c)).square().mean())

    alone = craft([(tiny_generator, conditions)], x, 0.05, 0.01, 10, seeds.Streams([0]))
    both = craft([(tiny_generator, conditions), (other, conditions)], x, 0.05, 0.01, 10, seeds.Streams([0]))
    assert harm(both, other) > harm(alone, other) and harm(both, tiny_generator) < harm(alone, tiny_generator)


def test_the_command_crafts_on_a_without_its_held_out_part_and_asks_each_victim_its_own_way(
    face_folder, tmp_path, monkeypatch, capsys
):
    face_folder(8, tmp_path / "data" / "images_a")
    victims = [
        f"stargan={weights.translator(tmp_path / 'a.safetensors')}",
        f"stgan={weights.stgan(tmp_path / 'b.safetensors')}",
    ]
    words = [
        "--data_dir",
        str(tmp_path / "data"),
        "--image_size",
        "32",
        "--celeba_crop_size",
        "40",
        "--victims",
        *victims,
        "--device",
        "cpu",
        "--num_workers",
        "0",
        "--attack_steps",
        "2",
        "--save_perturbation",
        str(tmp_path / "p.pt"),
    ]
    seen = []
    whole = command.craft
    monkeypatch.setattr(
        command,
        "craft",
        lambda asked, photos, *more: seen.append((asked, photos)) or whole(asked, photos, *more),
    )
    command.main([*words, "--dry_run"])
    assert not (tmp_path / "p.pt").exists() and not seen
    command.main(words)
    ((asked, photos),) = seen
    assert (
        len(photos) == 7
        and [tuple(c.shape) for _, c in asked] == [(7, 5, 5), (7, 2, 2)]
        and set(asked[1][1].unique().tolist()) <= {-1, 0, 1}
    )
    assert (
        load_perturbation(tmp_path / "p.pt").shape == (3, 32, 32)
        and "2 passes of 7 photos through stargan, stgan" in capsys.readouterr().out
    )
    with pytest.raises(UserError, match="p.pt: exists"):
        command.main(words)


def test_a_gradient_that_is_not_finite_stops_the_crafting(faces):
    x, c = faces(2)
    with pytest.raises(RunError, match="universal: a gradient is not finite"):
        craft([(lambda x, c: x * float("inf"), c[:, None])], x, 0.05, 0.01, 2, seeds.Streams([0]))
