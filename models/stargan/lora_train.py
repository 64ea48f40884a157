"""Patch a StarGAN so that disrupted photos no longer break its fakes: LoRA patching (arXiv:2510.03747).

reads   <data_dir>/images_a/            (made by split_dataset.py), without its held-out part
writes  <result_dir>/stargan/<dataset>/train/lora/NNN/
        {options.yaml,log.jsonl,last.pt,samples/*.png,weights.safetensors}

The translator stays frozen; low-rank patches on its convolutions learn that the fakes of a photo, and of the
photo disrupted against the patched translator, are what the translator made of the photo before.
weights.safetensors is an ordinary StarGAN with the patch in its weights.

  python -m models.stargan.lora_train --gan_weights 200000-G.ckpt --data_dir dataset/CelebA
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from common import checkpoint, cli, distributed, files, images, runs, seeds, training
from common.cli import RunOptions
from common.training import TrainingOptions
from faces.celeba import FaceFolder, held_out
from faces.flags import DataOptions, add_data_flags, dataset_name, open_faces
from faces.loader import Batches
from models.stargan import step as game
from models.stargan.frozen import StarGAN
from models.stargan.lora import folded, patched
from models.stargan.step import Disrupt
from models.stargan.train import training_attack
from models.translators import check_names, check_size, load_translator

JUDGED = 16  # held-out photos of a validation


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions, DataOptions, TrainingOptions):
    """The values of parse_args; adversarial tells purify.trained what kind of translator comes out."""

    gan_weights: str
    rank: int
    train_noise_var: float
    attack_steps: int
    attack_step_size: float
    batch_size: int
    precision: str
    limit: int | None
    resume: str | None
    adversarial: str = "lora"


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="models.stargan.lora_train", description=__doc__)
    add_data_flags(p)
    g = p.add_argument_group("patch")
    g.add_argument(
        "--gan_weights", required=True, metavar="FILE", help="the StarGAN that is patched, official or ours"
    )
    g.add_argument("--rank", type=cli.positive_int, default=8, help="rank of the patch on each convolution")
    g = p.add_argument_group("disruptions (pgd, target clean, of the patched translator)")
    g.add_argument(
        "--train_noise_var",
        type=cli.radius,
        default=0.05,
        metavar="EPS",
        help="L-inf radius, [-1,1] image units (0.05 = 6.4/255)",
    )
    g.add_argument("--attack_steps", type=cli.positive_int, default=10, help="steps of the attack")
    g.add_argument(
        "--attack_step_size", type=cli.positive_float, default=0.01, help="its step size, [-1,1] units"
    )
    training.add_training_flags(p, num_steps=250, lr=1e-3)
    cli.add_run_flags(p, batch_size=4, limit=True, resume=True, compiled=False)
    args = p.parse_args(argv)
    return cli.resolve(Options, args, dataset=dataset_name(args), adversarial="lora")


class Step:
    """One training step: MSE(G'(x), G(x)) + MSE(G'(x_adv), G(x)), x_adv disrupted against G' as it is now.

    Args: frozen  G;  network  G', patched;  disrupt  (translator, x, c, rng) -> x_adv
    """

    def __init__(
        self,
        options: Options,
        ctx: distributed.Context,
        batches: Batches,
        labels: torch.Tensor,
        frozen: StarGAN,
        network: nn.Module,
        average: nn.Module | None,
        optimiser: torch.optim.Optimizer,
        disrupt: Disrupt,
    ):
        self.options, self.ctx, self.batches, self.labels = options, ctx, batches, labels
        self.frozen, self.network, self.average = frozen, network, average
        self.optimiser, self.disrupt = optimiser, disrupt

    def __call__(self, i: int) -> dict[str, torch.Tensor]:
        o = self.options
        x, _, indices = self.batches.get(i)
        streams = seeds.stepped(o.seed, i, indices, "lora")
        # of another photo of the data set: independent of batch and rank
        c = distributed.to_device(self.labels[streams.integers(len(self.labels))], x.device)
        x_adv = self.disrupt(StarGAN(folded(self.network)), x, c, streams)
        with distributed.autocast(self.ctx.device, o.precision):
            with torch.no_grad():
                goal = self.frozen(x, c).float()
            clean, attacked = (F.mse_loss(self.network(y, c).float(), goal) for y in (x, x_adv))
        loss = clean + attacked
        training.descend(loss, self.network, self.optimiser, o.lr, self.ctx)
        if self.average is not None:
            training.update_average(self.average, self.network, o.ema)
        return {"loss": loss.detach(), "clean_mse": clean.detach(), "attacked_mse": attacked.detach()}


def train(
    options: Options,
    run: runs.Run,
    ctx: distributed.Context,
    faces: FaceFolder,
    frozen: StarGAN,
    disrupt: Disrupt,
) -> None:
    """Train the patch on the faces of split A that are not held out, and write the folded translator."""
    kept, validation = held_out(faces.names, options.seed)
    held, faces = faces.subset(validation or kept), faces.subset(kept)
    network = patched(frozen.network, options.rank, options.seed)
    average = training.averaged(network) if options.ema else None
    optimiser = torch.optim.Adam(
        [p for p in network.parameters() if p.requires_grad],
        options.lr,
        betas=(0.5, 0.999),
        fused=ctx.device.type == "cuda",
    )
    step = Step(
        options,
        ctx,
        Batches(faces, options.batch_size, options.seed, ctx),
        faces.labels,
        frozen,
        network,
        average,
        optimiser,
        disrupt,
    )
    parts = {"patched": network, "optimiser": optimiser}
    if average is not None:
        parts["average"] = average
    shown = range(min(JUDGED, len(held)))
    x, c = held.floats(shown).to(ctx.device), held.labels[: len(shown)].to(ctx.device)
    asked = distributed.to_device(held.labels.flip(0)[: len(shown)], ctx.device)

    def result():
        return StarGAN(folded(average.module if average is not None else network))

    def on_save(done):
        translator = result()
        x_adv = disrupt(translator, x, asked, seeds.numbered(shown, options.seed, "lora validation"))
        with torch.no_grad():
            goal = frozen(x, asked)
            values = {
                f"val_{name}_mse": float(F.mse_loss(translator(y, asked), goal))
                for name, y in (("clean", x), ("attacked", x_adv))
            }
        grid = game.Step.grid(translator, x_adv[:8], c[:8], options.selected_attrs)
        files.make_folder(run.folder / "samples")
        images.save_png(run.folder / "samples" / f"{done:07d}.png", grid)
        return values

    training.loop(run, options, ctx, parts, step, on_save, "lora")
    if ctx.is_main:
        meta = {
            "kind": "stargan-generator",
            "adversarial": options.adversarial,
            "rank": options.rank,
            "gan_sha256": frozen.sha256,
            "options": frozen.options,
            "attributes": options.selected_attrs,
            "image_size": options.image_size,
            "trained_on": options.dataset,
            "steps": options.num_steps,
            "seed": options.seed,
            "ema": bool(options.ema),
        }
        checkpoint.save_weights(run.folder / "weights.safetensors", result().network.state_dict(), meta)
        ctx.print(f"done: {run.folder / 'weights.safetensors'}")


def main(argv: list[str] | None = None, build_attack: Callable[..., Callable] | None = None) -> None:
    """The command.  build_attack: attacks.build."""
    options = parse_args(argv)
    with distributed.session(options.device) as ctx:
        faces = open_faces(options)
        frozen = load_translator(options.gan_weights, ctx.device, len(options.selected_attrs))
        check_names(options.gan_weights, frozen, options.selected_attrs)
        check_size(options.image_size, frozen)
        run = runs.begin(
            options,
            ctx,
            Path(options.result_dir) / "stargan" / options.dataset / "train" / "lora",
            "weights.safetensors",
        )
        if run is not None:
            train(options, run, ctx, faces, frozen, training_attack(options, build_attack))


if __name__ == "__main__":
    cli.run(main, build_attack="attacks:build")
