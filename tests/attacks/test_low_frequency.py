import pytest
import torch
import torch.nn.functional as F

from attacks import build
from attacks.flags import add_attack_flags, attack_from_flags
from attacks.harm import fake_mse
from common import cli, images, seeds
from common.cli import UserError

NAMES = ["a", "b", "c", "d"]


def test_the_perturbation_is_a_coarse_grid_enlarged(faces, tiny_generator):
    x, c = faces(2)
    x = images.quantise(x * 0.5)  # away from the box, which would clip it
    attack = build("low-frequency", tiny_generator, 0.05, apgd_steps=5, restarts=1, grid=4)
    with torch.no_grad():
        d = attack.perturb(x, c[:, None], seeds.named(0, "ab"))
    # cells of an even enlargement by 8: their centres lie between pixels 3 and 4 of each
    cells = F.interpolate(d, size=(4, 4), mode="bilinear", align_corners=False)
    again = F.interpolate(cells, size=(32, 32), mode="bilinear", align_corners=False)
    inner = (slice(None), slice(None), slice(8, 24), slice(8, 24))
    assert (d.diff(dim=3).abs().max() <= 2 * 0.05 / 8 + 1e-6) and d.abs().max() <= 0.05 + 1e-6
    assert (again - d)[inner].abs().mean() < 0.3 * d[inner].abs().mean()


@pytest.mark.parametrize("grid", [1, 5, 32])
def test_it_harms_more_than_its_start_inside_the_ball(grid, faces, tiny_generator):
    x, c = faces(4)
    found = []
    for steps in (1, 15):
        attack = build("low-frequency", tiny_generator, 0.05, apgd_steps=steps, restarts=1, grid=grid)
        x_adv = attack(x, c[:, None], seeds.named(0, NAMES))
        assert (x_adv - x).abs().max() <= 6 / 127.5 + 1e-6 and torch.equal(images.quantise(x_adv), x_adv)
        found.append(fake_mse(attack, x_adv, c[:, None], [attack.reference(x, c)], seeds.named(1, NAMES)))
    assert found[1].mean() >= found[0].mean() > 0


def test_a_grid_of_the_photos_own_pixels_is_apgd(faces, tiny_generator):
    x, c = faces(2)
    x = images.quantise(x * 0.5)
    options = {"apgd_steps": 5, "restarts": 1}
    fine = build("low-frequency", tiny_generator, 0.05, grid=32, **options)
    pixels = build("apgd", tiny_generator, 0.05, **options)
    one, other = (a(x, c[:, None], seeds.named(0, "ab")) for a in (fine, pixels))
    assert (one != other).float().mean() < 0.01


def test_one_by_one_equals_the_batch(faces, tiny_generator):
    x, c = faces(3)
    x = images.quantise(x.double())
    attack = build("low-frequency", tiny_generator.double(), 0.05, apgd_steps=8)
    whole = attack(x, c[:, None], seeds.named(0, NAMES[:3]))
    single = torch.cat(
        [attack(x[i : i + 1], c[i : i + 1, None], seeds.named(0, [NAMES[i]])) for i in range(3)]
    )
    assert (whole != single).float().mean() <= 0.001


def test_grids_that_cannot_be_are_refused(faces, tiny_generator):
    parser = cli.ArgumentParser()
    add_attack_flags(parser)
    words = ["--attack_type", "low-frequency", "--attack_grid"]
    with pytest.raises(UserError, match="--attack_grid: expected a whole number above 0"):
        parser.parse_args([*words, "0"])
    parsed = parser.parse_args([*words, "65"])
    parsed.image_size = 64
    with pytest.raises(UserError, match="--attack_grid 65: photos of 64 pixels have fewer"):
        attack_from_flags(parsed, tiny_generator)
    x, c = faces(1)
    with pytest.raises(UserError, match="--attack_grid 33: photos of 32 pixels"):
        build("low-frequency", tiny_generator, 0.05, grid=33)(x, c[:, None], seeds.named(0, "a"))
    assert build("low-frequency", None, 0.05, grid=4).definition()["grid"] == 4
