"""Every loader of weights, at files of which one thing is wrong: one line that names the file, or it loads;
no other error, no number that is not finite, no memory taken by what a header claims."""

import json
import resource
from pathlib import Path

import pytest
import torch

from common import checkpoint
from common.cli import UserError
from models.classifier.network import load_classifier
from models.dadfi.network import load_perturber
from models.depois.network import KIND, Critic, load_mimic
from models.detector.imagenet import load_imagenet
from models.detector.network import Detector, load_detector
from models.diffusion import build
from models.translators import load_translator
from purify import dae
from purify.one_step import load_robust
from tools.describe import describe

MODELS = Path(__file__).resolve().parent.parent / "models"
DOORS = {
    "stargan": lambda path: load_translator(path),
    "stgan": lambda path: load_translator(path, gan_type="stgan"),
    "starganv2": lambda path: load_translator(path, gan_type="starganv2"),
    "classifier": load_classifier,
    "diffusion": build.load,
    "one_step": build.load,
    "one_step_robust": load_robust,
    "dae": lambda path: dae.load(path, "defensive-model-2-fixed"),
    "dadfi": load_perturber,
    "detector": load_detector,
    "mimic": load_mimic,
}
GROWTH = 500_000  # KB that the process may grow by


def whole(door):
    """(state, meta) of a small file that the door takes."""
    if door == "detector":
        network = Detector("meso4", 32)
        return network.state_dict(), {"kind": "detector", "options": network.options}
    if door == "mimic":
        network = Critic((1, 8, 8), 2)
        return network.state_dict(), {"kind": KIND, "options": network.options, "classes": ["a", "b"]}
    return checkpoint.read_weights(MODELS / door / "demo.safetensors")


def largest(state):
    return max((k for k, v in state.items() if v.is_floating_point()), key=lambda k: state[k].numel())


def changed(state, change):
    """The state with its largest tensor changed."""
    name = largest(state)
    return state | {name: change(state[name].clone())}


def one(value):
    def change(tensor):
        tensor.view(-1)[7] = value
        return tensor

    return change


@pytest.fixture(params=DOORS)
def door(request, tmp_path):
    """read(state, meta) -> None at one door's small file; .state and .meta of the whole file beside it."""

    def read(state, meta, path=tmp_path / "w.safetensors"):
        checkpoint.save_weights(path, state, meta)
        DOORS[request.param](path)

    read.state, read.meta = whole(request.param)
    read.name, read.path = request.param, tmp_path / "w.safetensors"
    read(read.state, read.meta)
    return read


def refused(read, state, meta):
    with pytest.raises(UserError) as e:
        read(state, meta)
    assert str(read.path) in str(e.value) and "\n" not in str(e.value) and len(str(e.value)) < 500
    return str(e.value)


def test_numbers_that_are_no_weights_are_refused_at_every_door(door):
    for value in (float("nan"), float("inf"), float("-inf")):
        assert "not finite" in refused(door, changed(door.state, one(value)), door.meta)
    for dtype in (torch.int8, torch.bool, torch.int64):
        assert "expected floats" in refused(door, changed(door.state, lambda t, d=dtype: t.to(d)), door.meta)
    refused(door, changed(door.state, lambda t: t[:1]), door.meta)
    refused(door, {k: v for k, v in door.state.items() if k != largest(door.state)}, door.meta)


def test_wrappers_are_taken_off_at_every_door(door):
    for prefix in ("module.", "_orig_mod.", "module.module.", "_orig_mod.module."):
        door({prefix + k: v for k, v in door.state.items()}, door.meta)


@pytest.mark.slow
def test_headers_of_other_types_and_sizes_are_refused_or_harmless_at_every_door(door):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    values = (None, [], "x", -1, 0, 10**7, 1 << 30, 10**20, True, {"a": 1}, [[1]], float("nan"))
    options = door.meta.get("options") or {}
    metas = [{**door.meta, key: value} for key in door.meta for value in values]
    metas += [{k: v for k, v in door.meta.items() if k != key} for key in door.meta]
    metas += [{**door.meta, "options": {**options, key: v}} for key in options for v in values]
    metas += [{**door.meta, "options": {k: v for k, v in options.items() if k != key}} for key in options]
    for meta in metas:
        try:
            door(door.state, meta)
        except UserError as e:
            assert str(door.path) in str(e), (meta, str(e))
            assert "\n" not in str(e) and len(str(e)) < 600
        except Exception as e:
            raise AssertionError(f"{type(e).__name__} {e} for {json.dumps(meta)[:500]}") from e
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH


def test_metadata_that_is_no_dict_is_refused_at_every_door(door):
    from safetensors.torch import save

    for text in ("[]", "3", '"x"', "[" * 5000, "{", "null"):
        door.path.write_bytes(save({k: v.contiguous() for k, v in door.state.items()}, {"meta": text}))
        for read in (DOORS[door.name], checkpoint.read_meta, describe):
            with pytest.raises(UserError, match=r"w\.safetensors"):
                read(door.path)


STATES = {
    "nothing": {},
    "flat": lambda v: v.reshape(-1),
    "none of it": lambda v: v[:0],
    "deeper": lambda v: v[None],
    "a number": lambda v: v.reshape(-1)[0],
}


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("door", DOORS)
def test_torch_files_of_other_shapes_are_refused(tmp_path, door, kind):
    state, path = whole(door)[0], tmp_path / "w.pth"
    change = STATES[kind]
    state = {k: change(v) if v.is_floating_point() else v for k, v in state.items()} if change else {}
    for content in (state, {"model": state}, {"generator": state, "mapping_network": state}):
        torch.save(content, path)
        for read in (DOORS[door], lambda path: load_imagenet(Detector("mobilenet_v2", 32), path)):
            with pytest.raises(UserError, match=r"w\.pth: "):
                read(path)
        try:
            assert describe(path).get("not_usable")
        except UserError as e:
            assert str(path) in str(e)


@pytest.mark.parametrize("parts", ["nan", "list", "shape", "other", "numbers", "none"])
@pytest.mark.parametrize("door", ["stargan", "stgan", "starganv2", "diffusion", "dae"])
def test_training_states_of_other_content_are_refused(tmp_path, door, parts):
    state = whole(door)[0]
    given = {
        "nan": changed(state, one(float("nan"))),
        "list": [1, 2],
        "shape": changed(state, lambda t: t[:1]),
        "other": {"x": torch.zeros(2)},
        "numbers": changed(state, lambda t: t.to(torch.int8)),
        "none": {},
    }[parts]
    parts = {"starganv2": ("generator", "mapping_network", "style_encoder"), "dae": ("network",)}
    names = parts.get(door, ("network",) if door == "diffusion" else ("generator",))
    checkpoint.save_state(tmp_path / "last.pt", 3, {"image_size": 64}, **dict.fromkeys(names, given))
    with pytest.raises(UserError, match=r"last\.pt: ") as e:
        DOORS[door](tmp_path / "last.pt")
    assert "\n" not in str(e.value)
