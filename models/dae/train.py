"""Train the autoencoders: attacked photo in, clean photo out (called by train_defense.py)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from common import checkpoint, distributed, files, images, seeds, training
from common.runs import Run
from common.training import TrainingOptions
from faces.celeba import FaceFolder
from faces.loader import Batches


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """What this training reads of its options."""

    batch_size: int
    seed: int
    precision: str
    data_augmentation: str


def train(
    options: Options,
    run: Run,
    ctx: distributed.Context,
    faces: FaceFolder,
    held: FaceFolder,
    network: nn.Module,
    meta: dict,
    disrupted: Callable[..., torch.Tensor],
) -> None:
    """Minimise MSE(f(x_adv), x) on `faces`, validate on `held`; EMA weights are what is released.

    Args: meta  of the weights, "name" among it;  disrupted(x, rows, streams) -> x_adv, like x (N, 3, H, W) in
          [-1, 1]; rows are positions in `faces`
    """
    average = training.averaged(network)
    training.compile_networks([network], options, ctx)
    optimiser = torch.optim.Adam(network.parameters(), options.lr, fused=ctx.device.type == "cuda")
    batches = Batches(faces, options.batch_size, options.seed, ctx, options.data_augmentation == "flip")

    def step(i):
        x, _, positions = batches.get(i)
        streams = seeds.stepped(options.seed, i, positions, "dae")
        x_adv = disrupted(x, batches.rows(i), streams)
        with distributed.autocast(ctx.device, options.precision):
            loss = (network(x_adv).float() - x).square().mean()
        training.descend(
            loss,
            network,
            optimiser,
            training.warm_then_linear(options.lr, i, options.num_steps, warm_up=1),
            ctx,
        )
        training.update_average(average, network, options.ema)
        return {"loss": loss.detach()}

    n = min(64, len(held))
    x_val = held.floats(range(n)).to(ctx.device)
    noise = seeds.Streams([(options.seed, "validate", i) for i in range(n)]).normal(x_val)
    x_noisy = (x_val + 0.05 * noise).clamp(-1, 1)

    @torch.no_grad()
    def on_save(done):
        smooth = average.module
        restored = smooth(x_noisy)
        files.make_folder(run.folder / "samples")
        rows = [[c[i].cpu() for c in (x_val, x_noisy, restored)] for i in range(min(6, n))]
        images.save_png(run.folder / "samples" / f"{done:07d}.png", images.make_grid(rows, scale=2))
        return {
            "val_mse_noisy_in": float((x_noisy - x_val).square().mean()),
            "val_mse_restored": float((restored - x_val).square().mean()),
            "val_mse_clean": float((smooth(x_val) - x_val).square().mean()),
        }

    training.loop(
        run,
        options,
        ctx,
        {"network": network, "average": average, "optimiser": optimiser},
        step,
        on_save,
        meta["name"],
    )
    if ctx.is_main:
        checkpoint.save_weights(run.folder / "weights.safetensors", average.module.state_dict(), meta)
