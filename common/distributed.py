"""One process without torchrun, N with it. Work is sharded `items[rank::world]`; rank 0 writes files."""

import os
import resource
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from common import memory
from common.cli import UserError
from common.errors import PeerLost

T = TypeVar("T")
# How long a process waits for the others: above what one of them ever does alone (validation, summarising).
# An end is noticed sooner: gloo sees it, torchrun ends the others of a machine, srun those of the others.
TIMEOUT = timedelta(hours=2)


class Context:
    """Who this process is: rank, world, device; is_main writes files."""

    def __init__(self, rank: int, world: int, device: torch.device):
        self.rank, self.world, self.device = rank, world, device
        self.is_main = rank == 0

    def print(self, *words: object) -> None:
        if self.is_main:
            print(*words, flush=True)

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of a list, without padding."""
        return items[self.rank :: self.world]

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    def gather(self, rows: Iterable[T]) -> list[T]:
        """Concatenate every process's list of rows (picklable), in the order of ranks, on every process."""
        if self.world == 1:
            return list(rows)
        parts = [None] * self.world
        dist.all_gather_object(parts, list(rows))
        return [row for part in parts for row in part]

    def broadcast(self, value: T) -> T:
        """Rank 0's value on every process."""
        box = [value]
        if self.world > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Mean of the gradients over the processes, as one message: a step of N equal shards is the step of
        one batch."""
        if self.world == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        flat /= self.world
        for g, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            g.copy_(part.view_as(g))

    def mean(self, value: float | torch.Tensor) -> float:
        """Mean of one float over the processes."""
        if self.world == 1:
            return float(value)
        return float(self.mean_of(torch.as_tensor(value, dtype=torch.float64, device=self.device)))

    def mean_of(self, value: torch.Tensor) -> torch.Tensor:
        """Mean of a scalar on the device over the processes, without gradient; nobody waits for it."""
        value = value.detach()
        if self.world == 1:
            return value
        total = value.to(torch.float64, copy=True)
        dist.all_reduce(total)
        return (total / self.world).to(value.dtype)


def resolve_device(name: str, local_rank: int = 0) -> torch.device:
    """`auto | cpu | cuda | cuda:N` -> torch.device.  Raises UserError for a GPU that is not there; never
    falls back silently."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device(f"cuda:{local_rank % count}" if count else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    index = int(name[5:]) if ":" in name else local_rank
    if index >= count:
        raise UserError(
            f"--device {name}: this machine has {count} usable GPUs; --device cpu works everywhere"
        )
    return torch.device(f"cuda:{index}")


def to_device(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """The tensor on `device`; a GPU copies it from pinned memory while the process goes on."""
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@contextmanager
def session(device: str = "auto") -> Iterator[Context]:
    """Join torchrun's group (gloo on CPU, nccl on GPU) or be the only process.

    Raises: PeerLost where another process of the group ended or does not answer
    """
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    where = resolve_device(device, int(os.environ.get("LOCAL_RANK", 0)))
    memory.keep_few_pools()
    if where.type == "cuda":
        torch.cuda.set_device(where)
        torch.backends.cudnn.benchmark = True
    if world == 1:
        yield Context(0, 1, where)
        return
    # objects travel by gloo on a GPU, too: nccl would make every step wait for it
    backend = "cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT, rank=rank, world_size=world)
    try:
        yield Context(rank, world, where)
    except RuntimeError as e:
        # gloo's errors are known by their place alone
        if isinstance(e, dist.DistError) or "/gloo/" in str(e):
            raise PeerLost(
                "another process of this job ended, or does not answer: see its message; --resume continues"
            ) from e
        raise
    finally:
        dist.destroy_process_group()


def autocast(device: torch.device | str, precision: str) -> torch.autocast:
    """Autocast region of `--precision fp32|bf16` on this device."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")


def peak_memory_mb(device: torch.device | str) -> float:
    """The most memory held so far, megabytes: of the GPU by this process's tensors, else of the process."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
