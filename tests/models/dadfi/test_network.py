import pickle

import pytest
import torch

import weights
from common import checkpoint
from common.cli import UserError
from models.dadfi.network import Perturber, Recogniser, load_perturber


def network(**options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Perturber(**{"conv_dim": 4, **options})


def meta(**changes):
    return {
        "kind": "dadfi",
        "lim": 0.05,
        "bound": "tanh",
        "image_size": 16,
        "options": {"conv_dim": 4},
        **changes,
    }


@pytest.mark.parametrize("bound", ["tanh", "hinge"])
@pytest.mark.parametrize("lim", [0.05, 0.03, 1 / 127.5])
def test_a_perturbation_never_leaves_its_bound_in_use(faces, bound, lim):
    gen = network(bound=bound, lim=lim).eval()
    with torch.no_grad():
        gen.main[-1].weight.mul_(1000)  # saturates
        for x in (
            faces(2, 32)[0],
            torch.ones(1, 3, 32, 32),
            -torch.ones(1, 3, 32, 32),
            torch.rand(1, 3, 32, 32).sub(0.5).sign(),
        ):
            p = gen.perturbation(x)
            assert (
                p.shape == x.shape
                and p.dtype == torch.float32
                and float(p.abs().max()) <= float(torch.tensor(lim))
            )


def test_of_the_soft_bound_training_sees_what_lies_outside_and_use_the_clipped(faces):
    gen, x = network(bound="hinge"), faces(2)[0]
    with torch.no_grad():
        gen.main[-1].weight.mul_(10)
        soft, hard = gen.train().perturbation(x), gen.eval().perturbation(x)
    assert (
        soft.abs().max() > 0.1
        and torch.equal(hard, soft.clamp(-0.05, 0.05))
        and torch.allclose(soft, 0.05 * gen(x))
    )
    tanh = network(bound="tanh")
    assert torch.equal(tanh.train().perturbation(x), tanh.eval().perturbation(x))


@pytest.mark.parametrize("bound", ["tanh", "hinge"])
def test_a_new_generator_starts_visible_and_unsaturated(faces, bound):
    p = network(bound=bound, conv_dim=32).perturbation(faces(4, 64)[0]).detach()
    assert 1 / 127.5 < float(p.abs().mean()) < 0.04


@pytest.mark.parametrize("size", [(9, 9), (16, 16), (17, 24), (30, 43), (64, 20)])
def test_any_size_above_eight_goes_through(size):
    x = torch.rand(2, 3, *size)
    assert network()(x).shape == x.shape


def test_a_multiple_of_eight_is_not_padded_and_another_is_padded_by_reflection(faces):
    gen, x = network(), faces(1, 32)[0]
    assert torch.equal(gen(x), gen.main(x))
    part = x[..., :30, :27]
    padded = torch.nn.functional.pad(part, (0, 5, 0, 2), mode="reflect")
    assert torch.equal(gen(part), gen.main(padded)[..., :30, :27])


def test_a_photo_is_perturbed_without_regard_to_the_photos_beside_it(faces):
    gen, x = network(), faces(4)[0]
    assert torch.allclose(gen.perturbation(x)[:1], gen.perturbation(x[:1]), atol=1e-6)


def test_the_structure_is_the_papers():
    kinds = [type(m).__name__ for m in network().modules()]
    assert (
        kinds.count("ResidualBlock") == 4
        and kinds.count("ConvTranspose2d") == 3
        and kinds.count("Conv2d") == 3 + 2 * 4
    )
    # the last layer has neither
    assert kinds.count("InstanceNorm2d") == 3 + 2 * 4 + 2 and kinds.count("ReLU") == 3 + 4 + 2


def test_a_recogniser_gives_a_map_of_patches():
    assert Recogniser(4)(torch.rand(2, 3, 64, 48)).shape == (2, 1, 4, 3)


def test_an_unknown_bound_is_refused():
    with pytest.raises(ValueError, match="bound 'soft'"):
        Perturber(4, 0.05, "soft")


def test_weights_load_as_they_were_saved(tmp_path, faces):
    gen, x = network(lim=0.03, bound="hinge").eval(), faces(2)[0]
    checkpoint.save_weights(tmp_path / "w.safetensors", gen.state_dict(), meta(lim=0.03, bound="hinge"))
    loaded = load_perturber(tmp_path / "w.safetensors")
    assert (loaded.lim, loaded.bound, loaded.image_size, loaded.training) == (
        0.03,
        "hinge",
        16,
        False,
    ) and len(loaded.sha256) == 64
    assert torch.equal(loaded.perturbation(x), gen.perturbation(x)) and not any(
        p.requires_grad for p in loaded.parameters()
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"lim": 0.0},
        {"lim": float("nan")},
        {"lim": "wide"},
        {"lim": 3},
        {"image_size": 4},
        {"bound": "soft"},
        {"bound": None},
        {"options": {}},
        {"options": {"conv_dim": 8}},
        {"options": {"conv_dim": -1}},
        {"options": None},
    ],
)
def test_a_damaged_description_is_refused_in_one_line(tmp_path, changes):
    checkpoint.save_weights(tmp_path / "w.safetensors", network().state_dict(), meta(**changes))
    with pytest.raises(
        UserError, match="w.safetensors: .*(do not fit a DADFI generator|cannot have|metadata says)"
    ) as e:
        load_perturber(tmp_path / "w.safetensors")
    assert "\n" not in str(e.value) and len(str(e.value)) < 300


def test_other_files_are_refused_by_name(tmp_path):
    whole = tmp_path / "whole.safetensors"
    checkpoint.save_weights(whole, network().state_dict(), meta())
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-100])
    (tmp_path / "page.pt").write_text("<!DOCTYPE html><html>404</html>")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(print, protocol=2))
    torch.save(network().state_dict(), tmp_path / "bare.pt")
    weights.translator(tmp_path / "gan.safetensors")
    for name, words in (
        ("gan.safetensors", "found a stargan-generator"),
        ("bare.pt", "found keys like main.0.weight"),
        ("cut.safetensors", "truncated"),
        ("page.pt", "HTML"),
        ("code.pt", "refused"),
        ("none.pt", "no such weight file"),
    ):
        with pytest.raises(UserError, match=f"{name}: .*{words}"):
            load_perturber(tmp_path / name)
