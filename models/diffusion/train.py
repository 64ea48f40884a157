"""Train the diffusion network that serves ddpm, one-step-plain and diffpure (called by train_defense.py)."""
import torch

from common import checkpoint, distributed, files, images, seeds, training
from faces.loader import Batches

LOW = 60             # purification starts at small t: half of every batch is drawn from t < 60


def sample_steps(streams, max_timestep):
    """(N,) 0-based steps: with probability 1/2 from [0, LOW), else from [0, max_timestep)."""
    low, anywhere, coin = streams.integers(min(LOW, max_timestep)), streams.integers(max_timestep), streams.integers(2)
    return torch.where(coin == 0, low, anywhere)


class Objective:
    """|eps_hat(x_t, t) - eps|^2 (Ho et al. 2020, Eq. 14), x_0 always the clean photo.

    With a disruption to learn from, the noise of half the samples is the photo's own disruption, rescaled to unit RMS.
    `disruption(indices) -> x_adv - x (N, 3, H, W)` or None.
    """

    def __init__(self, denoiser, max_timestep, disruption=None):
        self.denoiser, self.max_timestep, self.disruption = denoiser, max_timestep, disruption

    def draw(self, x, streams, rows):
        """(noise, step) of a batch; `rows` are the positions of its photos in the training set."""
        noise, step = streams.normal(x), sample_steps(streams, self.max_timestep).to(x.device)
        if self.disruption is not None:
            d = self.disruption(rows).to(x.device)
            rms = d.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)
            chosen = streams.integers(2, x.device).bool()[:, None, None, None]
            noise = torch.where(chosen, d / rms, noise)
        return noise, step

    def loss(self, x, noise, step):
        predicted = self.denoiser.eps(self.denoiser.q_sample(x, step, noise), step)
        return (predicted.float() - noise).square().mean()


@torch.no_grad()
def validate(denoiser, x, seed, max_timestep):
    """Held-out loss with fixed noise, and the mean squared error of x0 at t = 10: comparable between runs."""
    rng = seeds.Streams([(seed, "validate", i) for i in range(len(x))])
    noise, step = rng.normal(x), sample_steps(rng, max_timestep).to(x.device)
    loss = (denoiser.eps(denoiser.q_sample(x, step, noise), step).float() - noise).square().mean()
    x0 = denoiser.x0(denoiser.q_sample(x, 9, noise), 9)
    return {"val_loss": float(loss), "val_x0_mse_t10": float((x0.float() - x).square().mean())}


@torch.no_grad()
def sample_grid(denoiser, x, seed):
    """Photos, the same with 10, 30 and 100 steps of noise, and the denoised estimate of each; one photo a row."""
    noise = seeds.Streams([(seed, "grid", i) for i in range(len(x))]).normal(x)
    columns = [x]
    for step in (9, 29, min(99, denoiser.max_timestep - 1)):
        noised = denoiser.q_sample(x, step, noise)
        columns += [noised.clamp(-1, 1), denoiser.x0(noised, step)]
    return images.make_grid([[c[i].float().cpu() for c in columns] for i in range(len(x))], scale=2)


def train(args, run, ctx, faces, held, make_denoiser, meta, disruption=None):
    """Train on `faces`, validate on `held`; EMA weights are what is released.

    make_denoiser(network=None) -> Denoiser on ctx.device; None = a new, seeded network.
    """
    denoiser = make_denoiser()
    network = denoiser.network
    average = training.averaged(network)
    smooth = make_denoiser(average.module)
    optimiser = torch.optim.AdamW(network.parameters(), args.lr, weight_decay=0.0)
    objective = Objective(denoiser, args.max_timestep, disruption)
    batches = Batches(faces, args.batch_size, args.seed, ctx, args.data_augmentation == "flip")
    x_val = held.floats(range(min(64, len(held)))).to(ctx.device)

    def step(i):
        x, _, positions = batches.get(i)
        rows = batches.rows(i)
        streams = seeds.stepped(args.seed, i, positions.tolist(), "diffusion")
        x = x.to(ctx.device)
        noise, t = objective.draw(x, streams, rows)
        with distributed.autocast(ctx.device, args.precision):
            loss = objective.loss(x, noise, t)
        training.descend(loss, network, optimiser, training.warm_then_linear(args.lr, i, args.num_steps), ctx)
        training.update_average(average, network, args.ema)
        return {"loss": loss.detach()}

    def on_save(done):
        files.make_folder(run.folder / "samples")
        images.save_png(run.folder / "samples" / f"{done:07d}.png", sample_grid(smooth, x_val[:6], args.seed))
        return validate(smooth, x_val, args.seed, args.max_timestep)

    training.loop(run, args, ctx, {"network": network, "average": average, "optimiser": optimiser}, step, on_save, "diffusion")
    if ctx.is_main:
        checkpoint.save_weights(run.folder / "weights.safetensors", average.module.state_dict(), meta)
