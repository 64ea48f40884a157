"""Train the autoencoders: attacked photo in, clean photo out (called by train_defense.py)."""

import torch

from common import checkpoint, distributed, files, images, seeds, training
from faces.loader import Batches


def train(args, run, ctx, faces, held, network, meta, disrupted):
    """Minimise MSE(f(x_adv), x).  disrupted(x, rows, streams) -> x_adv; rows are positions in `faces`, None
    for `held`."""
    average = training.averaged(network)
    optimiser = torch.optim.Adam(network.parameters(), args.lr)
    batches = Batches(faces, args.batch_size, args.seed, ctx, args.data_augmentation == "flip")

    def step(i):
        x, _, positions = batches.get(i)
        x, streams = x.to(ctx.device), seeds.stepped(args.seed, i, positions.tolist(), "dae")
        x_adv = disrupted(x, batches.rows(i), streams)
        with distributed.autocast(ctx.device, args.precision):
            loss = (network(x_adv).float() - x).square().mean()
        training.descend(
            loss, network, optimiser, training.warm_then_linear(args.lr, i, args.num_steps, warm_up=1), ctx
        )
        training.update_average(average, network, args.ema)
        return {"loss": loss.detach()}

    n = min(64, len(held))
    x_val = held.floats(range(n)).to(ctx.device)
    noise = seeds.Streams([(args.seed, "validate", i) for i in range(n)]).normal(x_val)
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
        args,
        ctx,
        {"network": network, "average": average, "optimiser": optimiser},
        step,
        on_save,
        args.defense_model_type,
    )
    if ctx.is_main:
        checkpoint.save_weights(run.folder / "weights.safetensors", average.module.state_dict(), meta)
