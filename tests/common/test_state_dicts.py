import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from common import checkpoint, state_dicts
from common.cli import UserError

PLAIN = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict()
RAW = {k: torch.zeros_like(v) for k, v in PLAIN.items()}


def prefixed(prefix, state=PLAIN):
    return {prefix + k: v for k, v in state.items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "module.module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model."],
)
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_the_keys_of_wrappers_go_from_every_kind_of_file(tmp_path, prefix, kind):
    if kind == "torch":
        torch.save(prefixed(prefix), tmp_path / "w")
    else:
        checkpoint.save_weights(tmp_path / "w", prefixed(prefix), {})
    assert same(checkpoint.read_weights(tmp_path / "w")[0], PLAIN)


def test_a_part_compiled_by_itself_and_a_moving_average():
    inner = {k.replace("0.", "0._orig_mod."): v for k, v in PLAIN.items()}
    assert same(state_dicts.stripped(inner), PLAIN)
    net = nn.Linear(2, 2)
    assert same(state_dicts.stripped(AveragedModel(net).state_dict()), net.state_dict())


def test_keys_that_would_become_one_stay_as_they_are():
    both = {"w": torch.zeros(1), "module.w": torch.ones(1)}
    assert same(state_dicts.stripped(both), both)


@pytest.mark.parametrize(
    ("content", "average"),
    [
        ({"state_dict": RAW, "state_dict_ema": PLAIN, "epoch": 3}, "state_dict_ema"),
        ({"model": RAW, "ema": PLAIN}, "ema"),
        ({"model": prefixed("module.", RAW), "ema": prefixed("module.module.")}, "ema"),
        ({"model": RAW, "model_ema": prefixed("_orig_mod.")}, "model_ema"),
        ({"params": RAW, "params_ema": PLAIN}, "params_ema"),
        ({"model": RAW, "ema": {"state_dict": PLAIN, "decay": 0.9}}, "ema"),
        ({"model": {"state_dict": RAW}, "ema": {"module." + k: v for k, v in PLAIN.items()}}, "ema"),
        # an average without names cannot be used
        ({"model": PLAIN, "ema": {"decay": 0.9, "shadow_params": [torch.zeros(1)]}}, None),
        ({"state_dict": PLAIN}, None),
        ({"net": {"model": PLAIN}}, None),
    ],
)
def test_of_raw_and_averaged_weights_the_averaged_ones_are_read_and_told(tmp_path, capfd, content, average):
    torch.save(content, tmp_path / "w.pt")
    assert same(checkpoint.read_weights(tmp_path / "w.pt")[0], PLAIN)
    told = f"{tmp_path / 'w.pt'}: holds raw and averaged weights, the averaged ones ({average}) are used\n"
    assert capfd.readouterr().err == (told if average else "")


def test_what_an_average_lacks_is_taken_from_the_raw_weights(tmp_path):
    parameters = {k: v for k, v in PLAIN.items() if "weight" in k or "bias" in k}
    torch.save({"model": RAW, "ema": parameters}, tmp_path / "w.pt")
    assert same(checkpoint.read_weights(tmp_path / "w.pt")[0], RAW | parameters)


def one_bad(value):
    state = {k: v.clone() for k, v in PLAIN.items()}
    state["0.weight"][1, 2, 0, 1] = value
    return state


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", ["torch", "safetensors", "half"])
def test_one_value_that_is_not_finite_is_refused(tmp_path, value, kind):
    if kind == "torch":
        torch.save(one_bad(value), tmp_path / "w")
    else:
        checkpoint.save_weights(tmp_path / "w", one_bad(value), {}, half=kind == "half")
    with pytest.raises(UserError, match=r"w: 1 of 108 values of 0.weight are not finite") as e:
        checkpoint.read_weights(tmp_path / "w")
    assert "\n" not in str(e.value)


def test_a_double_that_float32_cannot_hold_is_refused(tmp_path):
    torch.save({"a": torch.tensor([1e300], dtype=torch.float64)}, tmp_path / "w")
    with pytest.raises(UserError, match="1 of 1 values of a are not finite"):
        checkpoint.read_weights(tmp_path / "w")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.int64, torch.complex64])
def test_weights_that_are_no_floats_are_refused(tmp_path, dtype):
    torch.save({"a": torch.ones(3).to(dtype)}, tmp_path / "w")
    with pytest.raises(UserError, match="expected floats"):
        checkpoint.read_weights(tmp_path / "w")


@pytest.mark.parametrize(
    "tensor", [torch.eye(3).to_sparse(), torch.zeros(1).expand(1 << 40), torch.zeros(2, device="meta")]
)
def test_tensors_that_are_not_stored_as_they_seem_are_refused(tmp_path, tensor):
    torch.save({"a": tensor}, tmp_path / "w")
    with pytest.raises(UserError, match="no dense tensor|fewer are stored"):
        checkpoint.read_weights(tmp_path / "w")


@pytest.mark.parametrize(
    "meta",
    [
        [],
        3,
        {"options": []},
        {"kind": ["x"]},
        {"attributes": [1, 2]},
        {"image_size": "64"},
        {"image_size": 1 << 30},
        {"image_size": 0},
        {"eps": "much"},
        {"max_timestep": True},
    ],
)
def test_metadata_of_other_types_is_refused(meta):
    with pytest.raises(UserError, match=r"^w: (its metadata|says image_size)"):
        state_dicts.check_header(meta, "w")


class Tower(nn.Module):
    def __init__(self, width=2, blocks=1, image_size=8):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))


def test_a_network_is_compared_before_it_takes_memory():
    state, options = Tower(3, 2).state_dict(), {"width": 3, "blocks": 2}
    assert same(state_dicts.rebuilt(Tower, options, state, "w", "a tower").state_dict(), state)
    # 2^16 columns and rows would be 17 GB, 10^7 layers minutes
    for wrong in (
        {"width": 1 << 16},
        {"width": 10**9},
        {"blocks": 10**7},
        {"image_size": 1 << 30},
        {"image_size": -1},
        {"width": float("nan")},
        {"width": "three"},
        {"depth": 3},
        {"width": [10**9]},
        {"width": "3" * 10**6},
    ):
        with pytest.raises(UserError, match="^w: ") as e:
            state_dicts.rebuilt(Tower, options | wrong, state, "w", "a tower")
        assert "\n" not in str(e.value) and len(str(e.value)) < 400


def test_what_a_loader_stumbles_over_names_the_file():
    with pytest.raises(UserError, match="^w: its content and its header do not fit a tower .KeyError: 'x'"):
        with state_dicts.reading("w", "a tower"):
            {}["x"]
    with pytest.raises(OSError), state_dicts.reading("w", "a tower"):
        raise OSError("disk")
