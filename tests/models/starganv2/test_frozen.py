import hashlib

import pytest
import torch
from PIL import Image

from common import checkpoint, files, images
from common.cli import UserError
from models.starganv2.network import Discriminator, Generator, MappingNetwork, StyleEncoder
from models.translators import load_translator

DOMAINS = [[0, 1, 0], [1, 0, 0], [1, 0, 1]]
META = {
    "kind": "starganv2-generator",
    "attributes": ["Black_Hair", "Blond_Hair", "Male"],
    "domains": DOMAINS,
    "image_size": 16,
}


def networks(num_domains=3, num_downs=1, w_hpf=0):
    """Tiny networks for 16 x 16 photos, loud enough that styles are seen."""
    torch.manual_seed(1)
    found = {
        "generator": Generator(4, 8, num_downs, 6, w_hpf),
        "mapping_network": MappingNetwork(5, 6, num_domains, 8),
        "style_encoder": StyleEncoder(4, 8, 2, 6, num_domains),
    }
    return {n: net.eval().requires_grad_(False) for n, net in found.items()}


def official(nets, prefix="module."):
    """The layout of the official 100000_nets_ema.ckpt, with the constant of the face masks and a landmark
    network beside it."""
    saved = {n: {prefix + k: v for k, v in net.state_dict().items()} for n, net in nets.items()}
    saved["generator"][prefix + "hpf.filter"] = torch.ones(3, 3)
    return {**saved, "fan": {prefix + "conv1.weight": torch.zeros(2, 2)}}


def write(path, value):
    torch.save(value, path)
    return path


def ours(path, nets=None, meta=META, half=False):
    checkpoint.save_weights(
        path,
        {f"{n}.{k}": v for n, net in (nets or networks()).items() for k, v in net.state_dict().items()},
        meta,
        half,
    )
    return path


def load(path, **kwargs):
    return load_translator(path, gan_type="starganv2", **kwargs)


def small(faces, n=3):
    x, _ = faces(n, 16)
    return x


def test_ours_translates_to_the_domain_of_the_labels(tmp_path, faces):
    nets, x = networks(), small(faces)
    translator = load(ours(tmp_path / "weights.safetensors", nets), c_dim=3)
    assert (translator.c_dim, translator.attributes, translator.image_size, translator.size_multiple) == (
        3,
        META["attributes"],
        16,
        2,
    )
    assert translator.options == {
        "dim_in": 4,
        "max_conv_dim": 8,
        "num_downs": 1,
        "style_dim": 6,
        "w_hpf": 0,
        "num_domains": 3,
    }
    styles = translator.network.styles
    assert styles.shape == (3, 6) and not torch.equal(styles[0], styles[1])
    fake = translator(x, torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 0]]))
    assert (
        torch.allclose(fake, nets["generator"](x, styles[[2, 0, 1]]).clamp(-1, 1), atol=1e-6)
        and float(fake.abs().max()) <= 1
    )
    assert translator.sha256 == hashlib.sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest()
    half = load(ours(tmp_path / "half.safetensors", nets, half=True))
    assert float((half(x, torch.zeros(3, 3)) - translator(x, torch.zeros(3, 3))).abs().max()) < 0.05


def test_labels_that_are_no_domain_get_the_nearest(tmp_path):
    network = load(ours(tmp_path / "weights.safetensors")).network
    asked = [[0, 1, 0], [1, 0, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1], [0, 0, 0], [1, 1, 0]]
    # 000 and 110 lie between 0 and 1: the first
    assert network.domain(torch.tensor(asked).float()).tolist() == [0, 1, 2, 0, 2, 0, 0]


@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize("num_downs, w_hpf", [(1, 1), (0, 0)])
def test_the_official_layout_is_the_same_function(tmp_path, faces, prefix, num_downs, w_hpf):
    """At 16 x 16 the published rule has no halving, and one with the high-pass filter."""
    nets, x = networks(2, num_downs, w_hpf), small(faces)
    translator = load(write(tmp_path / "100000_nets_ema.ckpt", official(nets, prefix)), c_dim=1)
    assert (
        translator.image_size == 16
        and translator.attributes is None
        and translator.network.domains.tolist() == [[0], [1]]
    )
    assert translator.network.generator.options == {
        "dim_in": 4,
        "max_conv_dim": 8 if num_downs else 4,
        "num_downs": num_downs,
        "style_dim": 6,
        "w_hpf": w_hpf,
    }
    z = translator.network.styles
    fake = translator(x, torch.tensor([[1.0], [0.0], [1.0]]))
    assert torch.equal(fake, nets["generator"](x, z[[1, 0, 1]]).clamp(-1, 1))


def test_domains_of_official_weights(tmp_path):
    two = write(tmp_path / "two.ckpt", official(networks(2)))
    three = write(tmp_path / "three.ckpt", official(networks(3)))
    assert load(two).network.domains.tolist() == [[0], [1]] and load(
        two, c_dim=2
    ).network.domains.tolist() == [[1, 0], [0, 1]]
    assert torch.equal(load(three, c_dim=3).network.domains, torch.eye(3))
    for path, c_dim, words in (
        (three, 2, "name 3 attributes, one per domain, in --selected_attrs, found 2"),
        (two, 5, r"name 2 attributes, one per domain .or one that tells them apart., .* found 5"),
    ):
        refused(path, words, c_dim=c_dim)


def test_the_last_state_of_a_training_gives_its_averages(tmp_path, faces):
    nets, x = networks(), small(faces)
    options = {"selected_attrs": META["attributes"], "domains": DOMAINS, "image_size": 16, "dataset": "drawn"}
    averages = {
        f"{n}_average": {
            "n_averaged": torch.tensor(3),
            **{"module." + k: v for k, v in net.state_dict().items()},
        }
        for n, net in nets.items()
    }
    others = {n: {k: v + 1 for k, v in net.state_dict().items()} for n, net in nets.items()}
    (tmp_path / "none").mkdir()
    checkpoint.save_state(
        tmp_path / "last.pt", 3, options, **others, **averages, discriminator=Discriminator(4, 8, 2, 3)
    )
    checkpoint.save_state(tmp_path / "none" / "last.pt", 3, options, **nets)
    wanted = load(ours(tmp_path / "weights.safetensors", nets))(x, torch.eye(3))
    for path in (tmp_path / "last.pt", tmp_path / "none" / "last.pt"):
        translator = load(path)
        assert (
            torch.equal(translator(x, torch.eye(3)), wanted)
            and translator.attributes == META["attributes"]
            and translator.image_size == 16
        )


def test_the_seed_of_the_latent_code_decides_the_style(tmp_path, faces):
    path, x, c = ours(tmp_path / "weights.safetensors"), small(faces), torch.eye(3)
    plain, zero, text, other = (load(path, style=s) for s in (None, 0, "0", 7))
    assert (
        torch.equal(plain(x, c), zero(x, c))
        and torch.equal(plain(x, c), text(x, c))
        and plain.sha256 == zero.sha256 == text.sha256
    )
    assert float((plain(x, c) - other(x, c)).abs().mean()) > 1e-3 and other.sha256 == files.key_of(
        [plain.sha256, 7]
    )


def test_a_reference_photo_decides_the_style(tmp_path, faces):
    nets, x, c = networks(), small(faces), torch.eye(3)
    path, references = ours(tmp_path / "weights.safetensors", nets), faces(2, 32, 5)[0]
    for k in range(2):
        # 24 x 32: its centre is taken
        Image.fromarray(images.to_uint8(references[k])[:, 4:28]).save(tmp_path / f"{k}.png")
    first, second = (load(path, style=tmp_path / f"{k}.png") for k in range(2))
    assert (
        float((first(x, c) - second(x, c)).abs().mean()) > 1e-3
        and len({first.sha256, second.sha256, load(path).sha256}) == 3
    )
    square = images.to_float(images.center_crop_resize(Image.open(tmp_path / "0.png"), 24, 16))[None]
    assert torch.allclose(first.network.styles, nets["style_encoder"].every(square)[0], atol=1e-5)
    assert torch.equal(load(path, style=str(tmp_path / "0.png")).network.styles, first.network.styles)
    refused(path, "no such image", style=tmp_path / "none.png", named="none.png")


def test_it_is_frozen_and_differentiable_in_the_photo(tmp_path, faces):
    translator, x = load(ours(tmp_path / "weights.safetensors")), small(faces).requires_grad_(True)
    assert not any(p.requires_grad for p in translator.parameters()) and not translator.network.training
    (grad,) = torch.autograd.grad(translator(x, torch.eye(3)).square().sum(), x)
    assert all(float(g.abs().max()) > 0 for g in grad)
    assert torch.equal(translator.train()(x, torch.eye(3)), translator.eval()(x, torch.eye(3)))


def refused(path, words, named=None, **kwargs):
    with pytest.raises(UserError, match=words) as e:
        load(path, **kwargs)
    assert str(named or path) in str(e.value) and "\n" not in str(e.value)


def test_another_number_of_attributes_names_the_flag(tmp_path):
    refused(ours(tmp_path / "weights.safetensors"), "knows 3 attributes, --selected_attrs names 5", c_dim=5)


def test_other_networks(tmp_path, tiny_generator):
    refused(
        write(tmp_path / "200000-G.ckpt", tiny_generator.state_dict()),
        "expected StarGAN v2 weights .* found no generator in it",
    )
    refused(write(tmp_path / "list.ckpt", [torch.zeros(1)]), "found no generator in it")
    other = write(tmp_path / "other.ckpt", official(networks()) | {"generator": {"a": torch.zeros(1)}})
    refused(other, "its generator is another network than StarGAN v2.s .keys like a")
    refused(
        write(tmp_path / "deep.ckpt", official(networks()) | {"style_encoder": {"a": {"b": torch.zeros(1)}}}),
        "no style_encoder in it",
    )
    part = official(networks())
    del part["mapping_network"]
    refused(write(tmp_path / "part.ckpt", part), "found no mapping_network in it")
    less = official(networks())
    del less["generator"]["module.to_rgb.2.bias"]
    refused(
        write(tmp_path / "less.ckpt", less),
        "not a StarGAN v2 generator of dim_in 4, .*: 1 tensors differ, first to_rgb.2.bias",
    )
    flat = official(networks())
    flat["style_encoder"]["module.shared.0.weight"] = torch.zeros(4)
    refused(write(tmp_path / "flat.ckpt", flat), "first shared.0.weight")
    mixed = official(networks() | {"mapping_network": networks(2)["mapping_network"]})
    refused(
        write(tmp_path / "mixed.ckpt", mixed),
        "its networks are of different trainings .*domains: 2 and 3",
        c_dim=3,
    )


@pytest.mark.parametrize(
    "domains",
    [
        DOMAINS[:2],
        [[0], [1], [1, 0]],
        [[0, 1, 2]] * 3,
        [[], [], []],
        "010",
        [[[0], 1, 0]] * 3,
        [[0], [1], [1]],
    ],
)
def test_a_damaged_table_of_domains(tmp_path, domains):
    refused(
        ours(tmp_path / "weights.safetensors", meta=META | {"domains": domains}),
        "table of domains is damaged, expected 3 equally long rows",
    )


def test_damaged_and_missing(tmp_path):
    path = write(tmp_path / "nets.ckpt", official(networks()))
    path.write_bytes(path.read_bytes()[:-500])
    refused(path, "truncated")
    refused(tmp_path / "none.ckpt", "no such weight file")
    refused(tmp_path / "none.safetensors", "no such weight file")
