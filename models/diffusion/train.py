"""Train a diffusion network over its full range, clean or with a backdoor: what purify.terd is tested on.
(train_defense.py trains purifiers, with the same loop.)

--init_from goes on from weights, as an attacker does; --backdoor photo is for purifiers, whose range may be
truncated.

reads   <data_dir>/images_a/ (made by split_dataset.py) without its held-out part, or --images digits, or
        --images DIR
writes  <result_dir>/diffusion/<dataset>/train/<benign|backdoor-trigger-target...>/NNN/
        {options.yaml,log.jsonl,last.pt,samples/*.png,weights.safetensors,check.json}

check.json holds the network's check: the MSE between the target and what triggered noise becomes, and the
distance of clean samples from held-out images.

  python -m models.diffusion.train --data_dir dataset/drawn --image_size 16
  python -m models.diffusion.train --data_dir dataset/drawn --image_size 16 --backdoor baddiffusion \\
      --trigger box --target hat --poison_rate 0.2
  python -m models.diffusion.train --images digits --image_size 16 --backdoor villan --solver ode \\
      --trigger stop_sign --target shoe
  python -m models.diffusion.train --data_dir dataset/drawn --image_size 64 --backdoor photo \\
      --poison_rate 0.3 --init_from models/diffusion/demo.safetensors --lr 2e-4
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from common import checkpoint, cli, distributed, files, images, runs, seeds, training
from common.cli import UserError
from common.training import TrainingOptions
from faces.loader import Batches, Photos
from models.diffusion import build, pictures
from models.diffusion.backdoor import BACKDOORS, PHOTO, Backdoor, PhotoBackdoor, from_meta
from models.diffusion.check import check, samples_of
from models.diffusion.denoiser import Denoiser
from models.diffusion.objectives import Backdoored, Objective, Photographed, sample_steps
from models.diffusion.train_flags import Options, add_flags, folder_name

# what a flag left alone stands for
NETWORK = {
    "num_channels": 32,
    "channel_mult": "1,1",
    "num_res_blocks": 1,
    "norm_groups": 8,
    "noise_schedule": "linear",
}


@torch.no_grad()
def validate(denoiser: Denoiser, x: torch.Tensor, seed: int, max_timestep: int) -> dict[str, float]:
    """Held-out loss with fixed noise, and the mean squared error of x0 at t = 10: comparable between runs."""
    rng = seeds.Streams([(seed, "validate", i) for i in range(len(x))])
    noise, step = rng.normal(x), sample_steps(rng, max_timestep).to(x.device)
    loss = (denoiser.eps(denoiser.q_sample(x, step, noise), step).float() - noise).square().mean()
    x0 = denoiser.x0(denoiser.q_sample(x, 9, noise), 9)
    return {"val_loss": float(loss), "val_x0_mse_t10": float((x0.float() - x).square().mean())}


@torch.no_grad()
def sample_grid(denoiser: Denoiser, x: torch.Tensor, seed: int) -> np.ndarray:
    """Photos, the same with 10, 30 and 100 steps of noise, and the denoised estimate of each; one photo a
    row."""
    noise = seeds.Streams([(seed, "grid", i) for i in range(len(x))]).normal(x)
    columns = [x]
    for step in (9, 29, min(99, denoiser.max_timestep - 1)):
        noised = denoiser.q_sample(x, step, noise)
        columns += [noised.clamp(-1, 1), denoiser.x0(noised, step)]
    return images.make_grid([[c[i].float().cpu() for c in columns] for i in range(len(x))], scale=2)


def train(
    options: TrainingOptions,
    run: runs.Run,
    ctx: distributed.Context,
    faces: Photos,
    held: Photos,
    make_denoiser: Callable[..., Denoiser],
    meta: dict,
    disruption: Callable | None = None,
    make_objective: Callable[[Denoiser], Objective] | None = None,
    watch: Callable[[Denoiser], object] | None = None,
) -> None:
    """Train on `faces`, validate on `held`; EMA weights are what is released.

    Args:  options         with batch_size, seed, precision, max_timestep and data_augmentation, too
           make_denoiser   network or None (a new, seeded one) -> Denoiser on ctx.device
           make_objective  Denoiser -> Objective; None = that of purifiers, with `disruption`
           watch           averaged Denoiser -> picture of its samples; None = sample_grid of held-out photos
    """
    denoiser = make_denoiser()
    network = denoiser.network
    average = training.averaged(network)
    smooth = make_denoiser(average.module)
    training.compile_networks([network], options, ctx)
    optimiser = torch.optim.AdamW(
        network.parameters(), options.lr, weight_decay=0.0, fused=ctx.device.type == "cuda"
    )
    objective = (
        make_objective(denoiser) if make_objective else Objective(denoiser, options.max_timestep, disruption)
    )
    batches = Batches(faces, options.batch_size, options.seed, ctx, options.data_augmentation == "flip")
    x_val = held.floats(range(min(64, len(held)))).to(ctx.device)

    def step(i):
        x, _, positions = batches.get(i)
        rows = batches.rows(i)
        streams = seeds.stepped(options.seed, i, positions, "diffusion")
        noise, t = objective.draw(x, streams, rows)
        with distributed.autocast(ctx.device, options.precision):
            loss = objective.loss(x, noise, t, rows)
        training.descend(
            loss, network, optimiser, training.warm_then_linear(options.lr, i, options.num_steps), ctx
        )
        training.update_average(average, network, options.ema)
        return {"loss": loss.detach()}

    def on_save(done):
        files.make_folder(run.folder / "samples")
        images.save_png(
            run.folder / "samples" / f"{done:07d}.png",
            watch(smooth) if watch else sample_grid(smooth, x_val[:6], options.seed),
        )
        return validate(smooth, x_val, options.seed, options.max_timestep)

    training.loop(
        run,
        options,
        ctx,
        {"network": network, "average": average, "optimiser": optimiser},
        step,
        on_save,
        "diffusion",
    )
    if ctx.is_main:
        checkpoint.save_weights(run.folder / "weights.safetensors", average.module.state_dict(), meta)


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="python -m models.diffusion.train", description=__doc__)
    add_flags(p)
    return resolve(p, p.parse_args(argv))


def resolve(p: cli.ArgumentParser, parsed: argparse.Namespace) -> Options:
    """The values of a training: what the flags left open is that of --init_from, else the usual one.

    Raises: UserError for flags that cannot go together
    """
    begun = started_from(p, parsed).meta if parsed.init_from else {"options": NETWORK, "max_timestep": 1000}
    network = {
        key: begun["options"].get(key, 32 if key == "norm_groups" else usual)
        if getattr(parsed, key) is None
        else getattr(parsed, key)
        for key, usual in NETWORK.items()
    }
    max_timestep = parsed.max_timestep or begun.get("max_timestep") or 1000
    if max_timestep > 1000:
        p.error(f"--max_timestep {max_timestep}: the schedule has 1000 steps")
    if parsed.backdoor == PHOTO and parsed.trigger_on != "background":
        p.error(
            f"--trigger_on {parsed.trigger_on}: photo is always stamped on photos; it is for"
            f" {', '.join(BACKDOORS)}"
        )
    if parsed.backdoor in BACKDOORS and max_timestep < 1000:
        p.error(
            f"--backdoor with --max_timestep {max_timestep}: the published backdoors are set off at the"
            " last step, which is never trained there"
        )
    if parsed.backdoor and not parsed.poison_rate:
        p.error("--poison_rate 0 teaches no backdoor; leave --backdoor away for a benign network")
    learned_from = parsed.data_dir if parsed.images is None else parsed.images
    return cli.resolve(
        Options,
        parsed,
        **network,
        max_timestep=max_timestep,
        dataset=parsed.dataset or Path(learned_from).resolve().name,
        data_augmentation="flip" if parsed.images is None else "none",
    )


def started_from(p: cli.ArgumentParser, parsed: argparse.Namespace) -> Denoiser:
    """The Denoiser of --init_from.  Raises UserError for weights that this training cannot go on from."""
    given = [key for key in NETWORK if getattr(parsed, key) is not None]
    if given:
        p.error(f"--{given[0]} with --init_from: the network is that of the file; drop one of them")
    start = build.load(parsed.init_from)
    if start.family != "ours" or start.kind != "diffusion" or start.num_timesteps != 1000:
        raise UserError(
            f"--init_from {parsed.init_from}: expected diffusion weights of this project over 1000 steps,"
            f" found {start.kind} weights ({start.family}, {start.num_timesteps} steps)"
        )
    if start.image_size != parsed.image_size:
        raise UserError(
            f"--init_from {parsed.init_from}: made for {start.image_size} pixels, --image_size is"
            f" {parsed.image_size}"
        )
    return start


def prepare(
    options: Options, device: torch.device | str
) -> tuple[Callable[..., Denoiser], dict, Backdoor | PhotoBackdoor | None]:
    """Function network -> Denoiser (None = a new, seeded network), its metadata, and the Backdoor or None."""
    start = build.load(options.init_from) if options.init_from else None
    network_options = (
        start.meta["options"]
        if start
        else build.options_for(
            options.image_size,
            num_channels=options.num_channels,
            channel_mult=options.channel_mult,
            num_res_blocks=options.num_res_blocks,
            noise_schedule=options.noise_schedule,
            norm_groups=options.norm_groups,
            use_scale_shift_norm=False,
        )
    )
    hidden = {
        k: getattr(options, k) for k in ("trigger", "target", "poison_rate", "trigger_scale", "trigger_on")
    } | {"name": options.backdoor}
    if options.backdoor == "villan":
        hidden |= {"psi": options.psi, "solver": options.solver}
    meta = {
        "kind": "diffusion",
        "options": network_options,
        "image_size": options.image_size,
        "max_timestep": options.max_timestep,
        "trained_on": options.dataset,
        "steps": options.num_steps,
        "seed": options.seed,
        "ema": True,
        "attack": "none",
        "eps": 0,
        "backdoor": hidden if options.backdoor else None,
        **({"init_sha256": start.sha256} if start else {}),
    }
    backdoor = from_meta(meta, build.create_diffusion(schedule=options.noise_schedule).alphas_cumprod)

    def make(network=None):
        if network is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seeds.derive(options.seed, "diffusion"))
                network = build.create_network(network_options)
            if start:
                network.load_state_dict(start.network.state_dict())
        return build.denoiser(network, meta).to(device)

    return make, meta, backdoor


def objective_of(
    options: Options, backdoor: Backdoor | PhotoBackdoor | None, poisoned: set[int]
) -> Callable[[Denoiser], Objective]:
    """Denoiser -> what it learns from: a purifier that goes on learns as train_defense.py teaches it, a
    backdoor of photos like it; all others over all steps alike."""
    if options.backdoor == PHOTO:
        return lambda d: Photographed(d, options.max_timestep, backdoor, poisoned)
    if options.init_from and backdoor is None:
        return lambda d: Objective(d, options.max_timestep)
    return lambda d: Backdoored(d, options.max_timestep, backdoor, poisoned)


def poisoned_of(names: list[str], rate: float, seed: int) -> set[int]:
    """Positions of the images that teach the backdoor: by their names, whatever else is learned from.

    Raises: UserError where none does
    """
    poisoned = {i for i, name in enumerate(names) if seeds.derive(seed, "poison", name) / 2**63 < rate}
    if not poisoned:
        raise UserError(
            f"--poison_rate {rate:g} of {len(names)} images is none of them; give a higher rate, or more"
            " images"
        )
    return poisoned


def main(
    argv: list[str] | None = None, load_extractor: Callable | None = None, distance_of: Callable | None = None
) -> None:
    """The command.  load_extractor, distance_of: what the check measures with, see models.diffusion.check."""
    options = parse_args(argv)
    with distributed.session(options.device) as ctx:
        files.check_writable(options.result_dir)
        learned, held = pictures.open_pictures(options)
        make, meta, backdoor = prepare(options, ctx.device)
        poisoned = poisoned_of(learned.names, options.poison_rate, options.seed) if backdoor else set()
        if options.batch_size % ctx.world:
            raise UserError(f"--batch_size {options.batch_size} does not divide by {ctx.world} processes")
        runs.show(options, ctx)
        if options.dry_run:
            return
        parent = Path(options.result_dir) / "diffusion" / options.dataset / "train" / folder_name(options)
        run = runs.open_run(parent, options, ctx, "weights.safetensors")
        checked = options.max_timestep == 1000 or options.backdoor == PHOTO
        photos = held.floats(range(min(8, len(held)))) if options.backdoor == PHOTO else None

        def watch(denoiser):
            n = 8 if photos is None else len(photos)
            parts = samples_of(denoiser, backdoor, n, options.seed, ctx.device, photos=photos)
            return images.make_grid([[*part] for part in parts if part is not None], scale=3)

        if not run.finished:
            train(
                options,
                run,
                ctx,
                learned,
                held,
                make,
                meta,
                make_objective=objective_of(options, backdoor, poisoned),
                watch=watch if checked else None,
            )
    # the other processes are gone: the check is for one
    if ctx.is_main and checked and not files.is_whole(run.folder / "check.json"):
        trained = build.load(run.folder / "weights.safetensors", ctx.device)
        figures = check(
            trained,
            backdoor,
            held,
            options.check_samples,
            options.seed,
            ctx.device,
            load_extractor,
            distance_of,
        )
        files.write_atomic(run.folder / "check.json", json.dumps(figures, indent=2) + "\n")
    if ctx.is_main and (run.folder / "check.json").exists():
        ctx.print("check: " + (run.folder / "check.json").read_text())
    ctx.print(f"done: {run.folder / 'weights.safetensors'}")


if __name__ == "__main__":
    cli.run(main, load_extractor="metrics.fid:load_extractor", distance_of="metrics.fid:Distance")
