from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import weights as weights_of_tests
from attacks import build
from attacks.dadfi import shrunk
from common import checkpoint, files, images
from common.cli import RunError, UserError
from models.dadfi.network import Perturber, load_perturber


@pytest.fixture
def weights(tmp_path):
    """weights(gain, lim, **meta) -> file of a seeded generator for photos of 32 pixels; its last layer is
    multiplied by gain."""

    def make(gain=1.0, lim=0.05, name="w.safetensors", **meta):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = Perturber(4, lim)
        with torch.no_grad():
            network.main[-1].weight.mul_(gain)
        checkpoint.save_weights(
            tmp_path / name,
            network.state_dict(),
            {
                "kind": "dadfi",
                "lim": lim,
                "bound": "tanh",
                "image_size": 32,
                "options": {"conv_dim": 4},
                **meta,
            },
        )
        return str(tmp_path / name)

    return make


def labels(x):
    return torch.zeros(len(x), 1, 5)


@pytest.mark.parametrize("bound", ["tanh", "hinge"])
@pytest.mark.parametrize("lim", [0.05, 0.03, 1 / 127.5])
def test_what_is_released_stays_in_the_ball_and_on_the_grid(weights, faces, bound, lim):
    attack = build("dadfi", None, lim, weights=weights(1000, lim, bound=bound))
    extremes = torch.stack(
        [torch.ones(3, 32, 32), -torch.ones(3, 32, 32), torch.rand(3, 32, 32).lt(0.5) * 2.0 - 1]
    )
    for x in (faces(3)[0], extremes):
        x_adv = attack(x, labels(x), None)
        assert (
            (x_adv - x).abs().max() <= lim + 1e-6
            and x_adv.abs().max() <= 1
            and torch.equal(images.quantise(x_adv), x_adv)
        )
        assert attack.perturb(x, labels(x), None).abs().max() <= lim + 1e-6
    x = faces(3)[0]
    # it does something
    assert float((attack(x, labels(x), None) - x).abs().mean()) > 0.9 * attack.levels / 127.5


def test_it_is_the_generators_perturbation(weights, faces):
    path, x = weights(), faces(2)[0]
    expected = load_perturber(path).perturbation(x)
    assert torch.allclose(
        build("dadfi", None, 0.05, weights=path).perturb(x, labels(x), None), expected, atol=1e-6
    )


def test_a_photo_does_not_depend_on_the_photos_beside_it(weights, faces):
    attack, x = build("dadfi", None, 0.05, weights=weights()), faces(4)[0]
    whole, alone = (
        attack(x, labels(x), None),
        torch.cat([attack(x[i : i + 1], labels(x[:1]), None) for i in range(4)]),
    )
    assert float((whole != alone).float().mean()) <= 0.01


def test_photos_of_another_size_are_refused_or_get_an_enlarged_perturbation(weights, faces):
    path, x = (
        weights(3),
        images.quantise(F.interpolate(faces(2)[0], size=(96, 80), mode="bicubic").clamp(-1, 1)),
    )
    with pytest.raises(
        UserError, match="trained on photos of 32 x 32 pixels, these have 80 x 96: give --image_size 32"
    ):
        build("dadfi", None, 0.05, weights=path)(x, labels(x), None)
    attack = build("dadfi", None, 0.05, weights=path, other_sizes="resize")
    x_adv = attack(x, labels(x), None)
    assert x_adv.shape == x.shape and (x_adv - x).abs().max() <= 0.05 + 1e-6
    small = F.interpolate(x, size=(38, 32), mode="bilinear", align_corners=False, antialias=True)
    expected = F.interpolate(
        load_perturber(path).perturbation(small), size=(96, 80), mode="bilinear", align_corners=False
    )
    assert torch.allclose(attack.perturb(x, labels(x), None), expected, atol=1e-5)
    # A victim who shrinks the photo meets the perturbation of the small photo, weakened by the two resizings
    # alone.
    seen = F.interpolate(x_adv - x, size=(38, 32), mode="bilinear", align_corners=False, antialias=True)
    made = load_perturber(path).perturbation(small)
    assert float((seen * made).mean() / made.square().mean()) > 0.5


def test_a_photo_whose_short_side_fits_is_not_resized(weights, faces):
    path, x = weights(), faces(1, 40)[0][..., :32, :]
    attack = build("dadfi", None, 0.05, weights=path, other_sizes="resize")
    assert torch.allclose(attack.perturb(x, labels(x), None), load_perturber(path).perturbation(x), atol=1e-6)
    with pytest.raises(UserError, match="32 x 32 pixels, these have 40 x 32"):
        build("dadfi", None, 0.05, weights=path)(x, labels(x), None)


def test_the_short_side_gets_the_size_and_the_long_one_follows():
    assert (
        shrunk(100, 200, 64) == (64, 128)
        and shrunk(218, 178, 64) == (78, 64)
        and shrunk(50, 50, 64) == (64, 64)
    )


def test_another_bound_than_the_weights_own_is_refused(weights):
    path = weights(lim=0.05)
    with pytest.raises(UserError, match="was trained for a bound of 0.05, --test_noise_var is 0.03: ") as e:
        build("dadfi", None, 0.03, weights=path)
    assert path in str(e.value) and "\n" not in str(e.value)
    build("dadfi", None, 0.05 + 1e-12, weights=path)


def test_wrong_files_are_refused_in_one_line(tmp_path, weights):
    whole = Path(weights())
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-64])
    weights_of_tests.translator(tmp_path / "gan.safetensors")
    weights(name="other.safetensors", kind="dae")
    for name, words in (
        ("gan.safetensors", "found a stargan-generator"),
        ("other.safetensors", "found a dae"),
        ("cut.safetensors", "truncated"),
        ("none.safetensors", "no such weight file"),
    ):
        with pytest.raises(UserError, match=f"{name}: .*{words}"):
            build("dadfi", None, 0.05, weights=str(tmp_path / name))
    with pytest.raises(UserError, match="--attack_weights"):
        build("dadfi", None, 0.05)
    with pytest.raises(ValueError, match="other_sizes 'tile'"):
        build("dadfi", None, 0.05, weights=str(whole), other_sizes="tile")


def test_a_perturbation_that_is_not_finite_is_an_error(weights, faces):
    x = faces(1)[0]
    with pytest.raises(UserError, match="w.safetensors: 192 of 192 values of main.19.weight are not finite"):
        build("dadfi", None, 0.05, weights=weights(float("nan")))
    attack = build("dadfi", None, 0.05, weights=weights())
    attack.network.main[-1].weight.fill_(float("nan"))  # as one that overflows
    with pytest.raises(RunError, match="w.safetensors: its perturbation is not finite"):
        attack(x, labels(x), None)


def test_definition_follows_the_weights_content(weights):
    first, again, other = weights(), weights(name="copy.safetensors"), weights(2, name="other.safetensors")
    keys = [
        str(build("dadfi", None, 0.05, weights=p, other_sizes=s).definition())
        for p, s in ((first, "refuse"), (again, "refuse"), (other, "refuse"), (first, "resize"))
    ]
    assert keys[0] == keys[1] and len(set(keys)) == 3 and files.sha256(first) in keys[0]
