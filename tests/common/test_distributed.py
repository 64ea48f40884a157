import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from common import cli, distributed
from common.cli import UserError
from common.distributed import Context
from common.errors import PeerLost


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert (
        distributed.resolve_device("cuda:1") == torch.device("cuda:1")
        and distributed.resolve_device("cuda", 1).index == 1
    )
    with pytest.raises(UserError, match="--device cuda:2: this machine has 2 usable GPUs"):
        distributed.resolve_device("cuda:2")
    assert distributed.resolve_device("auto", local_rank=3).index == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("cuda", "cuda:0"):
        with pytest.raises(UserError, match="0 usable GPUs"):
            distributed.resolve_device(name)
    assert distributed.resolve_device("auto").type == distributed.resolve_device("cpu").type == "cpu"


def test_shards_cover_all_items_once_without_padding():
    items = list(range(11))
    shards = [Context(r, 3, "cpu").shard(items) for r in range(3)]
    assert shards == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8]]
    assert Context(0, 1, "cpu").shard(items) == items and Context(2, 3, "cpu").shard([1]) == []


def test_only_a_gpu_is_sent_pinned_memory(monkeypatch):
    """The copy from pinned memory waits for nobody; what is there, or goes to the CPU, is left as it is."""
    x = torch.ones(2)
    assert distributed.to_device(x, "cpu") is x and distributed.to_device(x, torch.device("cpu")) is x
    asked = []

    class Pinned:
        is_cuda = False

        def pin_memory(self):
            asked.append("pinned")
            return self

        def to(self, device, non_blocking=False):
            asked.append((device, non_blocking))

    distributed.to_device(Pinned(), "cuda:1")
    assert asked == ["pinned", ("cuda:1", True)]


def test_one_process_needs_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.session("cpu") as ctx:
        assert (ctx.rank, ctx.world, ctx.is_main) == (0, 1, True)
        assert ctx.gather((1, 2)) == [1, 2] and ctx.broadcast("x") == "x" and ctx.mean(0.25) == 0.25
        parameter = nn.Parameter(torch.ones(2))
        parameter.grad = torch.tensor([1.0, 2.0])
        ctx.average_gradients([parameter])
        ctx.barrier()
        assert parameter.grad.tolist() == [1, 2]


@pytest.fixture
def group(monkeypatch):
    """A group of two that is never formed; what init_process_group was given."""
    given = {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda backend, **more: given.update(more))
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: None)
    return given


def test_a_lost_process_is_one_error_and_others_stay_what_they_are(group):
    closed = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [::1]:710"
    for error in (
        RuntimeError(closed),
        distributed.dist.DistBackendError("NCCL error: remote process exited"),
    ):
        with pytest.raises(PeerLost, match="another process .* ended, or does not answer.*--resume"):
            with distributed.session("cpu"):
                raise error
    with pytest.raises(RuntimeError, match="^shapes differ$"):
        with distributed.session("cpu"):
            raise RuntimeError("shapes differ")
    assert group["timeout"].total_seconds() >= 3600  # summarising is longer than the usual ten minutes


@pytest.mark.parametrize("launched", [False, True])
def test_a_lost_process_is_told_once(monkeypatch, capsys, launched):
    """By tools.launch, where that has started the process; by each one that is left, elsewhere."""
    monkeypatch.delenv(cli.LAUNCHED, raising=False)
    if launched:
        monkeypatch.setenv(cli.LAUNCHED, "1")

    def main(argv):
        raise PeerLost("another process of this job ended")

    with pytest.raises(SystemExit) as e:
        cli.run(main, [])
    said = capsys.readouterr().err
    assert e.value.code == 1 and said == ("" if launched else "error: another process of this job ended\n")


def test_only_rank_0_prints(capsys):
    Context(1, 2, "cpu").print("no")
    Context(0, 2, "cpu").print("yes")
    assert capsys.readouterr().out == "yes\n"


def test_autocast():
    layer, x = nn.Linear(4, 4), torch.ones(1, 4)
    with distributed.autocast("cpu", "bf16"):
        assert layer(x).dtype == torch.bfloat16
    with distributed.autocast("cpu", "fp32"):
        assert layer(x).dtype == torch.float32


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def batch():
    return torch.linspace(-1, 1, 24).reshape(8, 3)


def loss(network, x):
    return network(x).square().mean()


def one_of_two(out):
    """What each of two processes does; run from the command line, below."""
    with distributed.session("cpu") as ctx:
        rank = ctx.rank
        network, unused = net(), nn.Parameter(torch.ones(1))  # no gradient: left alone
        value = loss(network, batch().chunk(2)[rank])
        value.backward()
        ctx.average_gradients([unused, *network.parameters()])
        result = {
            "grads": [p.grad for p in network.parameters()],
            "mean": ctx.mean(value.detach()),
            "mean_of": float(ctx.mean_of(value)),
            "gathered": ctx.gather([(rank, k) for k in range(rank + 1)]),
            "told": ctx.broadcast("rank 0" if ctx.is_main else None),
            "unused": unused.grad,
        }
        ctx.barrier()
        torch.save(result, Path(out) / f"{rank}.pt")


def test_two_processes_make_the_step_of_one(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    root = str(Path(distributed.__file__).parents[1])
    group = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": root,
    }
    both = [
        subprocess.Popen(
            [sys.executable, __file__, tmp_path], env={**group, "RANK": str(r), "LOCAL_RANK": str(r)}
        )
        for r in range(2)
    ]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    network = net()
    value = loss(network, batch())
    value.backward()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for p, grad in zip(network.parameters(), found["grads"], strict=True):
            assert torch.allclose(grad, p.grad, rtol=1e-5, atol=1e-8)
        assert found["mean"] == pytest.approx(float(value.detach()), rel=1e-6)
        assert found["mean_of"] == pytest.approx(found["mean"], rel=1e-6)
        assert (
            found["gathered"] == [(0, 0), (1, 0), (1, 1)]
            and found["told"] == "rank 0"
            and found["unused"] is None
        )


if __name__ == "__main__":
    one_of_two(sys.argv[1])
