"""Several translators from one flag: what each knows, and one line for those that do not go together."""

import argparse

import pytest
import torch

import weights
from common import seeds
from common.cli import UserError
from models.conditions import create_labels
from models.stargan.frozen import StarGAN
from models.victims import Victim, load_victims, named_file


@pytest.fixture
def files(tmp_path):
    return {
        "stargan": weights.translator(tmp_path / "stargan.safetensors"),
        "stgan": weights.stgan(tmp_path / "stgan.safetensors"),
    }


def loaded(victims, image_size=32, attributes=weights.ATTRIBUTES):
    named = [f"{name}={path}" for name, path in victims]
    return load_victims(named, list(attributes), image_size, "fp32", "cpu")


def test_columns_are_the_union_and_each_victim_sees_its_own(files, faces):
    (a, b), columns = loaded(reversed(files.items()))
    # whatever order the victims come in
    assert columns == sorted(weights.ATTRIBUTES) and (a.name, b.name) == ("stgan", "stargan")
    x, c = faces(3)
    labels = c[:, [weights.ATTRIBUTES.index(name) for name in columns]]
    assert torch.equal(b.conditions(labels), create_labels(c, weights.ATTRIBUTES))
    # STGAN is asked with differences
    assert torch.equal(a.conditions(labels), create_labels(c[:, 3:], ["Male", "Young"]) - c[:, 3:])
    assert b(x, b.conditions(labels)[0]).shape == x.shape and a(x, a.conditions(labels)[1]).shape == x.shape
    assert (
        a.describe() == {"gan": "stgan", "sha256": a.translator.sha256, "attributes": ["Male", "Young"]}
        and len(a.translator.sha256) == 64
    )


def test_a_victim_that_does_not_say_its_attributes_knows_the_flags(tmp_path):
    from common import checkpoint

    state, _ = checkpoint.read_weights(weights.translator(tmp_path / "a.safetensors", c_dim=3))
    torch.save(state, tmp_path / "G.ckpt")
    (victim,), columns = loaded([("stargan", tmp_path / "G.ckpt")], attributes=["Male", "Young", "Bald"])
    assert (
        victim.attributes == ["Male", "Young", "Bald"]
        and columns == ["Bald", "Male", "Young"]
        and victim.translator.image_size is None
    )
    with pytest.raises(
        UserError, match=r"--selected_attrs: 2 names \(Male, Young\), .*G.ckpt knows 3 attributes"
    ):
        loaded([("stargan", tmp_path / "G.ckpt")], attributes=["Male", "Young"])


@pytest.mark.parametrize(
    "text, message",
    [
        ("stargan", "expected NAME=FILE"),
        ("stargan=", "expected NAME=FILE"),
        (
            "stagan=G.ckpt",
            r"unknown translator 'stagan' \(did you mean stargan\?\); one of: stargan, starganv2, stgan",
        ),
    ],
)
def test_a_word_that_names_no_translator_is_refused(text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        named_file(text)
    assert named_file("stgan=a=b.pt") == "stgan=a=b.pt"


def test_victims_that_do_not_go_together_are_one_line(files, tmp_path):
    with pytest.raises(UserError, match="--victims: stargan is there 2 times"):
        loaded([("stargan", files["stargan"]), ("stargan", files["stgan"])])
    with pytest.raises(UserError, match="nowhere.pt: no such weight file"):
        loaded([("stargan", tmp_path / "nowhere.pt")])
    with pytest.raises(UserError, match="holds a stargan generator, asked for is stgan"):
        loaded([("stgan", files["stargan"])])
    large = weights.stgan(tmp_path / "large.safetensors", image_size=64)
    with pytest.raises(UserError, match=r"trained at different ones \(stargan 32, stgan 64\)"):
        loaded([("stargan", files["stargan"]), ("stgan", large)])
    with pytest.raises(
        UserError, match="large.safetensors: stgan was trained at 64 pixels, --image_size is 32"
    ):
        loaded([("stgan", large)])


def test_a_photos_target_domain_depends_on_neither_its_neighbours_nor_the_process(faces, tiny_generator):
    victim = Victim("stargan", "", StarGAN(tiny_generator), weights.ATTRIBUTES, weights.ATTRIBUTES)
    c = faces(8)[1]
    whole = victim.random_conditions(c, seeds.stepped(0, 3, range(8), "dadfi", "stargan"))
    part = victim.random_conditions(c[4:], seeds.stepped(0, 3, range(4, 8), "dadfi", "stargan"))
    assert torch.equal(whole[4:], part) and len(set(map(tuple, (whole - c).tolist()))) > 1
