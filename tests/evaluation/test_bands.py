"""What gets through a purifier by wavelength: hand-made waves, the figures of a batch, and the whole command
on four tiny photos."""

import csv
import json
import math

import pytest
import torch
import torch.nn.functional as F

import test_defense as script
import weights as tiny
from attacks.apgd import APGD
from attacks.through import ThroughDefence
from common import seeds
from common.cli import UserError
from evaluation import bands
from evaluation.bands_rows import BANDS, effects, measure_field, split
from purify.base import Purifier
from purify.plain import Blur, Nothing


def wave(wavelength, size=48, down=False):
    """A cosine along the rows, or down the columns, symmetric about the border of the image, (1, 3, size,
    size)."""
    row = torch.cos(2 * math.pi * (torch.arange(size) + 0.5) / wavelength)
    return 0.05 * row[:, None].expand(1, 3, size, size) if down else 0.05 * row.expand(1, 3, size, size)


def squares(d):
    return split(d).square().mean((1, 2, 3, 4))


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize(
    "wavelength, band", [(96, 0), (16, 0), (12, 1), (8, 1), (6, 2), (96 / 19, 2), (4.8, 3), (3, 3), (2.4, 4)]
)
def test_a_wave_falls_into_the_band_of_its_length(wavelength, band, down):
    found = squares(wave(wavelength, down=down))
    assert float(found[band] / found.sum()) == pytest.approx(1, abs=1e-5)


def test_bands_add_up_to_the_difference_and_their_squares_to_its_own():
    d = torch.randn(2, 3, 20, 27, generator=seeds.generator("bands"))
    torch.testing.assert_close(split(d).sum(0), d, rtol=0, atol=1e-5)
    assert float(squares(d).sum()) == pytest.approx(float(d.square().mean()), rel=1e-5)
    assert float(squares(torch.ones(1, 1, 9, 9))[0]) == pytest.approx(1)


def test_a_smooth_slope_is_not_taken_for_fine_detail():
    d = torch.linspace(-1, 1, 64).expand(1, 1, 64, 64)
    assert float(squares(d)[4] / squares(d).sum()) < 1e-4


def through(network, purifier, x, d, c):
    attack = APGD(ThroughDefence(network, purifier), 0.05, 2)
    return effects(attack, x, x + d, c, lambda: seeds.named(0, range(len(x))))


@pytest.mark.parametrize("wavelength", [24, 12, 6, 4.8])
def test_the_gain_of_a_blur_falls_with_the_wavelength(tiny_generator, faces, wavelength):
    c = faces(1, 48)[1]
    found = through(tiny_generator, Blur(1.0), torch.zeros(1, 3, 48, 48), wave(wavelength), c)
    gain = float((found["out"][0, -1] / found["in"][0, -1]).sqrt())
    assert gain == pytest.approx(math.exp(-2 * math.pi**2 / wavelength**2), rel=0.05)


def test_without_a_purifier_all_that_enters_leaves(tiny_generator, faces):
    x, c = faces(3)
    d = 0.05 * torch.randn(x.shape, generator=seeds.generator("d")).sign()
    found = through(tiny_generator, Nothing(), 0.8 * x, d, c)
    torch.testing.assert_close(found["in"], found["out"])
    assert found["in"].shape == (3, len(BANDS) + 1) and (found["undisturbed"] == 0).all()
    torch.testing.assert_close(
        found["cumulative"][:, -2:], found["l2"][:, -1:].expand(3, 2), rtol=1e-3, atol=0
    )
    fakes = tiny_generator(0.8 * x + d, c) - tiny_generator(0.8 * x, c)
    torch.testing.assert_close(found["l2"][:, -1], fakes.double().square().mean((1, 2, 3)))


def test_a_band_alone_is_added_to_the_purified_photo(tiny_generator, faces):
    x, c = faces(2)
    d, blur = 0.05 * torch.randn(x.shape, generator=seeds.generator("d")), Blur(1.0)
    found = through(tiny_generator, blur, 0.5 * x, d, c)
    goal, calm = tiny_generator(0.5 * x, c), blur(0.5 * x)
    part = split(blur(0.5 * x + d) - calm)
    for y, mine in (
        (calm, found["undisturbed"][:, 0]),
        (calm + part[2], found["l2"][:, 2]),
        (calm + part[0] + part[1], found["cumulative"][:, 1]),
    ):
        theirs = (tiny_generator(y, c) - goal).double().square().mean((1, 2, 3))
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=0)


class Mean(Purifier):
    """Half the photo, half its mean."""

    def purify(self, x, rng):
        return (x + x.mean((2, 3), keepdim=True)) / 2


class Noisy(Purifier):
    """Noise that drowns every perturbation, and passes it on nevertheless."""

    name = "noisy"
    stochastic = True

    def purify(self, x, rng):
        return x * 0.5 + 0.2 * rng.uniform(x, -1, 1)


@pytest.mark.parametrize(
    "purifier, side", [(Nothing(), 1), (Blur(1.0), 11), (Mean(), 32), (lambda x, rng: x * 0, None)]
)
def test_the_field_is_what_a_pixel_depends_on(faces, purifier, side):
    x = 0.5 * faces(3)[0]
    assert measure_field(purifier, x, seeds.named(0, "abc")) == side


def test_the_field_of_a_convolution_is_its_kernel(faces):
    kernel = torch.rand(3, 3, 5, 3, generator=seeds.generator("kernel"))
    assert measure_field(lambda x, rng: F.conv2d(x, kernel, padding=(2, 1)), faces(2)[0], None) == 5


def test_a_purifier_that_draws_noise_draws_the_same_for_both(tiny_generator, faces):
    x, c = faces(2)
    found = through(tiny_generator, Noisy(), 0.5 * x, wave(8, 32), c)
    torch.testing.assert_close(found["out"], found["in"] / 4, rtol=1e-3, atol=1e-9)


@pytest.fixture
def stage(tmp_path, face_folder):
    """(flags, results): a split B of four photos, a translator, and the flags that all runs share."""
    face_folder(4, tmp_path / "data" / "images_b")
    gan = tiny.translator(tmp_path / "gan.safetensors")
    flags = (
        f"--data_dir {tmp_path}/data --dataset toy --result_dir {tmp_path}/results --image_size 32"
        f" --celeba_crop_size 40 --gan_weights {gan} --device cpu --num_workers 0 --limit 3 --batch_size 2"
        f" --apgd_steps 2 --apgd_restarts 1"
    )
    return flags, tmp_path / "results"


def run(flags, more):
    bands.main(f"{flags} {more}".split())


def rows_of(results):
    (path,) = results.rglob("bands.csv")
    assert str(path.parent.relative_to(results)) == "bands/toy/stargan/apgd-eps0.05/000"
    return {(row["defense"], row["band"]): row for row in csv.DictReader(path.open())}, path


def test_the_table_has_a_row_a_band_of_each_defence(stage, tmp_path, capsys):
    flags, results = stage
    weights = tiny.diffusion(tmp_path / "one.safetensors", "one-step", channel_mult="1")
    more = f"--defense_model_type none blur-1.5 one-step --defense_weights {weights}"
    run(flags, more)
    rows, path = rows_of(results)
    assert list(rows) == [(d, b) for d in ("none", "blur-1.5", "one-step") for b in (*BANDS, "all")]
    bare, blur, net = (rows[d, "all"] for d in ("none", "blur-1.5", "one-step"))
    assert [bare[k] for k in ("gain", "undisturbed", "parameters", "field")] == ["1", "0", "0", "1"]
    assert (blur["field"], blur["parameters"]) == ("11", "0") and int(net["parameters"]) > 1000
    assert float(bare["in"]) <= 6 / 127.5 + 1e-6 and float(bare["l2"]) > 0
    for (name, band), row in rows.items():
        if band == "<3":
            assert float(row["cumulative"]) == pytest.approx(float(rows[name, "all"]["l2"]), rel=1e-3)
    assert float(rows["blur-1.5", "<3"]["gain"]) < 0.1 < float(rows["blur-1.5", ">=16"]["gain"])
    said = capsys.readouterr().out
    assert "3 photos, one domain each" in said and said.count("\nblur-1.5 ") == 1
    before = path.stat().st_mtime_ns
    run(flags, f"{more} --resume")
    assert rows_of(results)[1].stat().st_mtime_ns == before


@pytest.mark.slow
def test_of_a_purifier_that_draws_noise_the_draws_are_known_whatever_the_batch(stage, tmp_path):
    flags, results = stage
    weights = tiny.diffusion(tmp_path / "ddpm.safetensors", channel_mult="1")
    more = f"--defense_model_type ddpm-2 --defense_weights {weights} --limit 2 --apgd_steps 1"
    run(flags, more)
    run(flags, f"{more} --batch_size 1")
    one, other = (list(csv.DictReader(path.open())) for path in sorted(results.rglob("bands.csv")))
    for a, b in zip(one, other, strict=True):
        for key in ("in", "out", "l2", "cumulative"):
            assert float(a[key]) == pytest.approx(float(b[key]), rel=1e-3)


def test_all_domains_are_attacked_as_test_defense_does(stage):
    flags, results = stage
    flags += " --defense_model_type blur-1.5 --attack_label target"
    run(flags, "")
    script.main(f"{flags} --features none --attack_type apgd --attack_through self".split())
    rows, (path,) = rows_of(results)[0], results.rglob("record.json")
    theirs = json.loads(path.read_text())["metrics"]
    # which rounds the purified photos to 8 bits
    for mine, side in (("l2", "purified"), ("undisturbed", "clean_purified")):
        assert float(rows["blur-1.5", "all"][mine]) == pytest.approx(theirs[side]["l2"], rel=0.02)


@pytest.mark.parametrize(
    "more, words",
    [
        ("none blur-1.5 blur", ["named twice"]),
        ("none --test_noise_var 0.001", ["--test_noise_var", "0.001"]),
        ("none --attack_label joint", ["--attack_label", "one, target"]),
        ("jpg", ["jpg", "jpeg"]),
    ],
)
def test_mistakes_write_nothing(stage, more, words):
    flags, results = stage
    with pytest.raises(UserError) as e:
        run(flags, f"--defense_model_type {more}")
    assert all(word in str(e.value) for word in words) and not results.exists()
