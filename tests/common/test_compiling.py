import pytest
import torch
from torch import nn

from common import compiling, distributed
from common.errors import UserError

CPU, GPU = (distributed.Context(0, 1, torch.device(name)) for name in ("cpu", "cuda"))


@pytest.fixture
def counted(monkeypatch):
    """torch.compile that counts the calls of what it makes, and compiles nothing."""
    calls = []

    def compiled(forward, **options):
        def call(*args):
            calls.append(args[0].shape)
            return forward(*args)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(compiling, "lacking", lambda device: None)
    return calls


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))


def fixed(network):
    return isinstance(network.forward, compiling.Fixed)


def test_full_batches_of_the_first_size_alone_are_compiled(counted, network):
    compiling.fix([network], "on", CPU, 4, 1)
    for shape in ((3, 3, 8, 8), (4, 3, 8, 8), (4, 3, 16, 8), (4, 3, 8, 8), (1, 3, 8, 8)):
        assert network(torch.zeros(shape)).shape == shape
    assert counted == [(4, 3, 8, 8)] * 2


@pytest.mark.parametrize(
    "choice, ctx, calls, expected",
    [
        ("on", CPU, 1, True),
        ("off", GPU, 1e9, False),
        ("auto", CPU, 1e9, False),
        ("auto", GPU, compiling.WORTH - 1, False),
        ("auto", GPU, compiling.WORTH, True),
    ],
)
def test_auto_is_for_long_work_on_a_gpu(counted, network, monkeypatch, choice, ctx, calls, expected):
    monkeypatch.setattr(compiling, "lacking", lambda device: None)
    compiling.fix([network], choice, ctx, 4, calls)
    assert fixed(network) == expected


def test_without_a_compiler_on_is_an_error_and_auto_is_off(network, monkeypatch, capsys):
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"--compile on: needs a C\+\+ compiler .*, or --compile off"):
        compiling.fix([network], "on", CPU, 4, 1)
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    compiling.fix([network], "auto", GPU, 4, 1e9)
    assert capsys.readouterr().out == "--compile auto: off, there is no Python package triton\n"
    assert not fixed(network)


def test_names_of_weights_and_earlier_copies_stay(counted, network):
    average, names = torch.optim.swa_utils.AveragedModel(network), list(network.state_dict())
    compiling.fix([network, network], "on", CPU, 4, 1)
    assert list(network.state_dict()) == names and fixed(network) and not fixed(average.module)
    assert not isinstance(network.forward.forward, compiling.Fixed)  # once


@pytest.mark.slow
@pytest.mark.skipif(compiling.lacking(CPU.device) is not None, reason="needs a C++ compiler")
def test_a_compiled_network_has_the_same_values_and_gradients(network):
    x = torch.rand(5, 3, 8, 8)
    with distributed.autocast("cpu", "bf16"):
        low = network(x[:4])
    wanted = torch.autograd.grad(network(x).square().sum(), list(network.parameters()))
    compiling.fix([network], "on", CPU, 4, 1)
    parts = [network(x[:4]), network(x[4:])]
    got = torch.autograd.grad(torch.cat(parts).square().sum(), list(network.parameters()))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    with distributed.autocast("cpu", "bf16"):
        assert network(x[:4]).dtype == torch.bfloat16
        torch.testing.assert_close(network(x[:4]), low, rtol=0, atol=0.02)
