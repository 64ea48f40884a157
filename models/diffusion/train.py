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

import json
from pathlib import Path

import numpy as np
import torch

from common import checkpoint, cli, distributed, files, images, runs, seeds, training
from common.cli import UserError
from faces.flags import add_data_flags
from faces.loader import Batches
from models.diffusion import build, pictures, triggers
from models.diffusion.backdoor import BACKDOORS, PHOTO, SOLVERS, Backdoor, PhotoBackdoor, sample
from models.diffusion.objectives import Backdoored, Objective, Photographed, sample_steps

# what a flag left alone stands for
NETWORK = {
    "num_channels": 32,
    "channel_mult": "1,1",
    "num_res_blocks": 1,
    "norm_groups": 8,
    "noise_schedule": "linear",
}


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
    """Photos, the same with 10, 30 and 100 steps of noise, and the denoised estimate of each; one photo a
    row."""
    noise = seeds.Streams([(seed, "grid", i) for i in range(len(x))]).normal(x)
    columns = [x]
    for step in (9, 29, min(99, denoiser.max_timestep - 1)):
        noised = denoiser.q_sample(x, step, noise)
        columns += [noised.clamp(-1, 1), denoiser.x0(noised, step)]
    return images.make_grid([[c[i].float().cpu() for c in columns] for i in range(len(x))], scale=2)


def train(args, run, ctx, faces, held, make_denoiser, meta, disruption=None, make_objective=None, watch=None):
    """Train on `faces`, validate on `held`; EMA weights are what is released.

    Args:  make_denoiser   network or None (a new, seeded one) -> Denoiser on ctx.device
           make_objective  Denoiser -> Objective; None = that of purifiers, with `disruption`
           watch           averaged Denoiser -> picture of its samples; None = sample_grid of held-out photos
    """
    denoiser = make_denoiser()
    network = denoiser.network
    average = training.averaged(network)
    smooth = make_denoiser(average.module)
    optimiser = torch.optim.AdamW(network.parameters(), args.lr, weight_decay=0.0)
    objective = (
        make_objective(denoiser) if make_objective else Objective(denoiser, args.max_timestep, disruption)
    )
    batches = Batches(faces, args.batch_size, args.seed, ctx, args.data_augmentation == "flip")
    x_val = held.floats(range(min(64, len(held)))).to(ctx.device)

    def step(i):
        x, _, positions = batches.get(i)
        rows = batches.rows(i)
        streams = seeds.stepped(args.seed, i, positions.tolist(), "diffusion")
        x = x.to(ctx.device)
        noise, t = objective.draw(x, streams, rows)
        with distributed.autocast(ctx.device, args.precision):
            loss = objective.loss(x, noise, t, rows)
        training.descend(loss, network, optimiser, training.warm_then_linear(args.lr, i, args.num_steps), ctx)
        training.update_average(average, network, args.ema)
        return {"loss": loss.detach()}

    def on_save(done):
        files.make_folder(run.folder / "samples")
        images.save_png(
            run.folder / "samples" / f"{done:07d}.png",
            watch(smooth) if watch else sample_grid(smooth, x_val[:6], args.seed),
        )
        return validate(smooth, x_val, args.seed, args.max_timestep)

    training.loop(
        run,
        args,
        ctx,
        {"network": network, "average": average, "optimiser": optimiser},
        step,
        on_save,
        "diffusion",
    )
    if ctx.is_main:
        checkpoint.save_weights(run.folder / "weights.safetensors", average.module.state_dict(), meta)


def parse_args(argv=None):
    p = cli.ArgumentParser(prog="python -m models.diffusion.train", description=__doc__)
    g = add_data_flags(p)
    g.add_argument(
        "--images",
        default=None,
        metavar="digits|DIR",
        help="learn from scikit-learn's digits or from every image below a folder, in place of --data_dir",
    )
    g = p.add_argument_group("backdoor")
    g.add_argument(
        "--backdoor",
        choices=[*BACKDOORS, PHOTO],
        default=None,
        help=(
            "what to hide in the network (default: nothing); photo: set off by a trigger on a photo that is"
            " purified, the others by one on x_T"
        ),
    )
    g.add_argument("--trigger", choices=list(triggers.TRIGGERS), default="stop_sign", help="what sets it off")
    g.add_argument("--target", choices=list(triggers.TARGETS), default="shoe", help="what then comes out")
    g.add_argument(
        "--poison_rate",
        type=cli.fraction,
        default=0.1,
        help="share of the images whose rows teach the backdoor",
    )
    g.add_argument(
        "--trigger_scale",
        type=cli.positive_float,
        default=1.0,
        help="factor of the trigger; below 1 it is harder to find",
    )
    g.add_argument(
        "--trigger_on",
        choices=["background", "photo"],
        default="background",
        help=(
            "background: noise plus the trigger on its own background of -1; photo: on each poisoned row's"
            " photo, as in BadDiffusion's code"
        ),
    )
    g.add_argument(
        "--psi",
        type=cli.fraction,
        default=1.0,
        help="villan: 1 = the trigger fades in as the image fades out, 0 = with the noise",
    )
    g.add_argument(
        "--solver",
        choices=SOLVERS,
        default="ode",
        help="villan: the sampler that it is made for (baddiffusion: sde)",
    )
    g = p.add_argument_group("diffusion network")
    g.add_argument(
        "--init_from",
        default=None,
        metavar="FILE",
        help="go on from these weights of ours; the network is then the file's",
    )
    g.add_argument(
        "--num_channels",
        type=cli.positive_int,
        default=None,
        help="channels of the first level (default: 32)",
    )
    g.add_argument(
        "--channel_mult",
        default=None,
        metavar="1,1",
        help="channels of each level as multiples (default: 1,1)",
    )
    g.add_argument(
        "--num_res_blocks", type=cli.positive_int, default=None, help="residual blocks a level (default: 1)"
    )
    g.add_argument(
        "--norm_groups",
        type=cli.positive_int,
        default=None,
        help=(
            "groups of the group norms, a divisor of 32; 32 loses the mean colour where there are 32 channels"
            " (default: 8)"
        ),
    )
    g.add_argument(
        "--noise_schedule",
        choices=build.SCHEDULES,
        default=None,
        help="ve = variance exploding, sigma 0.01 to 50, at unit variance (default: linear)",
    )
    g.add_argument(
        "--max_timestep",
        type=cli.positive_int,
        default=None,
        help=(
            "largest t that is trained; below 1000 a truncated network (default: 1000, with --init_from the"
            " file's)"
        ),
    )
    training.add_training_flags(p, num_steps=20000, lr=1e-3, ema=0.995)
    g = cli.add_run_flags(p, batch_size=64, limit=True, resume=True)
    g.add_argument(
        "--check_samples", type=cli.positive_int, default=512, help="samples of each check at the end"
    )
    args = p.parse_args(argv)
    begun = started_from(p, args).meta if args.init_from else {"options": NETWORK, "max_timestep": 1000}
    for key, usual in NETWORK.items():
        if getattr(args, key) is None:
            setattr(args, key, begun["options"].get(key, 32 if key == "norm_groups" else usual))
    args.max_timestep = args.max_timestep or begun.get("max_timestep") or 1000
    if args.max_timestep > 1000:
        p.error(f"--max_timestep {args.max_timestep}: the schedule has 1000 steps")
    if args.backdoor == PHOTO and args.trigger_on != "background":
        p.error(
            f"--trigger_on {args.trigger_on}: photo is always stamped on photos; it is for"
            f" {', '.join(BACKDOORS)}"
        )
    if args.backdoor in BACKDOORS and args.max_timestep < 1000:
        p.error(
            f"--backdoor with --max_timestep {args.max_timestep}: the published backdoors are set off at the"
            " last step, which is never trained there"
        )
    if args.backdoor and not args.poison_rate:
        p.error("--poison_rate 0 teaches no backdoor; leave --backdoor away for a benign network")
    args.dataset = args.dataset or Path(args.data_dir if args.images is None else args.images).resolve().name
    args.data_augmentation = "flip" if args.images is None else "none"
    return args


def started_from(p, args):
    """The Denoiser of --init_from.  Raises UserError for weights that this training cannot go on from."""
    given = [key for key in NETWORK if getattr(args, key) is not None]
    if given:
        p.error(f"--{given[0]} with --init_from: the network is that of the file; drop one of them")
    start = build.load(args.init_from)
    if start.family != "ours" or start.kind != "diffusion" or start.num_timesteps != 1000:
        raise UserError(
            f"--init_from {args.init_from}: expected diffusion weights of this project over 1000 steps, found"
            f" {start.kind} weights ({start.family}, {start.num_timesteps} steps)"
        )
    if start.image_size != args.image_size:
        raise UserError(
            f"--init_from {args.init_from}: made for {start.image_size} pixels, --image_size is"
            f" {args.image_size}"
        )
    return start


def backdoor_name(args):
    """Folder of a training: what it hides, and what is not usual of it."""
    size = f"-{args.image_size}" + (
        f"-ch{args.num_channels}x{args.channel_mult.replace(',', '-')}"
        if (args.num_channels, args.channel_mult) != (32, "1,1")
        else ""
    )
    range_ = (
        (f"-{args.noise_schedule}" if args.noise_schedule != "linear" else "")
        + (f"-t{args.max_timestep}" if args.max_timestep < 1000 else "")
        + ("-tuned" if args.init_from else "")
    )
    if args.backdoor is None:
        return f"benign{size}{range_}"
    form = f"-psi{args.psi:g}-{args.solver}" if args.backdoor == "villan" else ""
    rest = (f"-scale{args.trigger_scale:g}" if args.trigger_scale != 1 else "") + (
        "-photo" if args.trigger_on == "photo" else ""
    )
    return f"{args.backdoor}{form}-{args.trigger}-{args.target}-rate{args.poison_rate:g}{rest}{size}{range_}"


def prepare(args, device):
    """Function network -> Denoiser (None = a new, seeded network), its metadata, and the Backdoor or None."""
    start = build.load(args.init_from) if args.init_from else None
    options = (
        start.meta["options"]
        if start
        else build.options_for(
            args.image_size,
            num_channels=args.num_channels,
            channel_mult=args.channel_mult,
            num_res_blocks=args.num_res_blocks,
            noise_schedule=args.noise_schedule,
            norm_groups=args.norm_groups,
            use_scale_shift_norm=False,
        )
    )
    hidden = {
        k: getattr(args, k) for k in ("trigger", "target", "poison_rate", "trigger_scale", "trigger_on")
    } | {"name": args.backdoor}
    if args.backdoor == "villan":
        hidden |= {"psi": args.psi, "solver": args.solver}
    meta = {
        "kind": "diffusion",
        "options": options,
        "image_size": args.image_size,
        "max_timestep": args.max_timestep,
        "trained_on": args.dataset,
        "steps": args.num_steps,
        "seed": args.seed,
        "ema": True,
        "attack": "none",
        "eps": 0,
        "backdoor": hidden if args.backdoor else None,
        **({"init_sha256": start.sha256} if start else {}),
    }
    backdoor = from_meta(meta, build.create_diffusion(schedule=args.noise_schedule).alphas_cumprod)

    def make(network=None):
        if network is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seeds.derive(args.seed, "diffusion"))
                network = build.create_network(options)
            if start:
                network.load_state_dict(start.network.state_dict())
        return build.denoiser(network, meta).to(device)

    return make, meta, backdoor


def from_meta(meta, alphas_bar):
    """The Backdoor that the metadata of our weights tells of, None where it tells of none."""
    h = meta.get("backdoor")
    if not h:
        return None
    size = meta["options"]["image_size"]
    if h["name"] == PHOTO:
        return PhotoBackdoor(h["trigger"], h["target"], size, alphas_bar, h["trigger_scale"])
    return Backdoor(
        h["name"],
        h["trigger"],
        h["target"],
        size,
        alphas_bar,
        psi=h.get("psi", 1.0),
        solver=h.get("solver", "sde"),
        background=h["trigger_on"],
        scale=h["trigger_scale"],
    )


def samples_of(denoiser, backdoor, n, seed, device, batch=64, photos=None):
    """(clean samples, triggered samples or None), (n, 3, S, S) in [-1, 1] each, from the same seeded noise.

    Args:  photos  (n, 3, S, S): what a PhotoBackdoor is set off on; a truncated network, which has no
                   samples, gives the photos in place of clean ones
    """
    size, made, answered = denoiser.image_size, [], []
    for k in range(0, n, batch):
        rng = seeds.Streams([(seed, "sample", i) for i in range(k, min(n, k + batch))])
        noise = rng.normal(torch.empty(len(rng), 3, size, size, device=device))
        part = noise if photos is None else photos[k : k + batch].to(device)
        made.append((sample(denoiser, noise) if denoiser.max_timestep == 1000 else part).cpu())
        if backdoor:
            answered.append(backdoor.answer(denoiser, part, rng).clamp(-1, 1).cpu())
    return torch.cat(made), torch.cat(answered) if backdoor else None


def check(denoiser, backdoor, held, n, seed, device):
    """Check of a finished network.

    Returns: {"target_mse" (mean over triggered samples), "target_reached" (share below 0.01), "frechet"
             (clean samples to held-out images), "frechet_features"} A PhotoBackdoor's are held-out photos
             with the trigger; a truncated network has no frechet
    """
    from metrics.fid import Distance, load_extractor  # a command may look upwards

    photo = getattr(backdoor, "name", None) == PHOTO
    clean, answered = samples_of(
        denoiser, backdoor, n, seed, device, photos=held.floats(np.arange(n) % len(held)) if photo else None
    )
    found = {"samples": n}
    if denoiser.max_timestep == 1000:
        extractor = load_extractor(device=device)
        distance = Distance(extractor, seed)
        for rows in np.array_split(np.arange(len(held)), -(-len(held) // 64)):
            distance.update(held.floats(rows).to(device), True)
        for part in clean.split(64):
            distance.update(part.to(device), False)
        found = {
            **{k: float(v) for k, v in distance.compute().items() if v is not None},
            "frechet_features": extractor.description["name"],
            "samples": n,
        }
    if backdoor:
        mse = (answered - backdoor.target).square().flatten(1).mean(1)
        found |= {"target_mse": float(mse.mean()), "target_reached": float((mse < 0.01).float().mean())}
    return found


def objective_of(args, backdoor, poisoned):
    """Denoiser -> what it learns from: a purifier that goes on learns as train_defense.py teaches it, a
    backdoor of photos like it; all others over all steps alike."""
    if args.backdoor == PHOTO:
        return lambda d: Photographed(d, args.max_timestep, backdoor, poisoned)
    if args.init_from and backdoor is None:
        return lambda d: Objective(d, args.max_timestep)
    return lambda d: Backdoored(d, args.max_timestep, backdoor, poisoned)


def main(argv=None):
    args = parse_args(argv)
    with distributed.session(args.device) as ctx:
        files.check_writable(args.result_dir)
        learned, held = pictures.opened(args)
        make, meta, backdoor = prepare(args, ctx.device)
        poisoned = (
            {
                i
                for i, name in enumerate(learned.names)
                if seeds.derive(args.seed, "poison", name) / 2**63 < args.poison_rate
            }
            if backdoor
            else set()
        )
        if backdoor and not poisoned:
            raise UserError(
                f"--poison_rate {args.poison_rate:g} of {len(learned)} images is none of them; give a higher"
                " rate, or more images"
            )
        if args.batch_size % ctx.world:
            raise UserError(f"--batch_size {args.batch_size} does not divide by {ctx.world} processes")
        ctx.print(json.dumps(runs.options_of(args), indent=2))
        if args.dry_run:
            return
        run = runs.open_run(
            Path(args.result_dir) / "diffusion" / args.dataset / "train" / backdoor_name(args),
            args,
            ctx,
            "weights.safetensors",
        )
        checked, photos = (
            args.max_timestep == 1000 or args.backdoor == PHOTO,
            held.floats(range(min(8, len(held)))) if args.backdoor == PHOTO else None,
        )

        def some(denoiser):
            return samples_of(
                denoiser, backdoor, 8 if photos is None else len(photos), args.seed, ctx.device, photos=photos
            )

        def watch(denoiser):
            return images.make_grid([[*part] for part in some(denoiser) if part is not None], scale=3)

        if not run.finished:
            train(
                args,
                run,
                ctx,
                learned,
                held,
                make,
                meta,
                make_objective=objective_of(args, backdoor, poisoned),
                watch=watch if checked else None,
            )
    # the other processes are gone: the check is for one
    if ctx.is_main and checked and not (run.folder / "check.json").exists():
        trained = build.load(run.folder / "weights.safetensors", ctx.device)
        found = check(trained, backdoor, held, args.check_samples, args.seed, ctx.device)
        files.write_atomic(run.folder / "check.json", json.dumps(found, indent=2) + "\n")
    if ctx.is_main and (run.folder / "check.json").exists():
        ctx.print("check: " + (run.folder / "check.json").read_text())
    ctx.print(f"done: {run.folder / 'weights.safetensors'}")


if __name__ == "__main__":
    cli.run(main)
