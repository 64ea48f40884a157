"""Train the small attribute classifier, or measure with it how well a translator obeys.

reads   <data_dir>/images_a/  (trains on it without its held-out part, which it is validated on)
writes  <result_dir>/classifier/<dataset>/train/standard/NNN/
        {options.yaml,log.jsonl,last.pt,weights.safetensors}

  python -m models.classifier.train --data_dir dataset/drawn --image_size 64
  python -m models.classifier.train --data_dir dataset/drawn --image_size 64 \\
      --judge results/stargan/drawn/train/standard/000/weights.safetensors
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from common import checkpoint, cli, distributed, runs, seeds, training
from common.cli import RunOptions, UserError
from common.training import TrainingOptions
from faces.celeba import FaceFolder, learned_and_held
from faces.flags import DataOptions, add_data_flags, dataset_name, open_faces
from faces.loader import Batches
from models.classifier.network import AttributeClassifier, load_classifier
from models.conditions import HAIR_COLOURS, create_labels, targets
from models.translators import TRANSLATORS, load_translator


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions, DataOptions, TrainingOptions):
    """The values of parse_args."""

    limit: int | None
    resume: str | None
    batch_size: int
    precision: str
    judge: str | None
    gan_type: str
    classifier_weights: str | None


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="models.classifier.train", description=__doc__)
    add_data_flags(p, image_size=64)
    g = p.add_argument_group("what")
    g.add_argument(
        "--judge",
        default=None,
        metavar="FILE",
        help=(
            "train nothing: print how often this translator's output on held-out photos has the attribute"
            " asked for"
        ),
    )
    g.add_argument("--gan_type", choices=list(TRANSLATORS), default="stargan", help="what --judge FILE is")
    g.add_argument(
        "--classifier_weights",
        default=None,
        metavar="FILE",
        help="the judge; default: the shipped classifier",
    )
    training.add_training_flags(p, num_steps=2000, lr=1e-3, ema=0.99)
    cli.add_run_flags(p, batch_size=64, limit=True, resume=True)
    args = p.parse_args(argv)
    return cli.resolve(Options, args, dataset=dataset_name(args))


@torch.no_grad()
def accuracy(network: nn.Module, faces: FaceFolder, device: torch.device | str) -> torch.Tensor:
    """Share of right answers per attribute, (C,), on all photos of `faces`."""
    right = [
        (
            (network(faces.floats(range(k, min(k + 256, len(faces)))).to(device)) > 0).float().cpu()
            == faces.labels[k : k + 256]
        ).float()
        for k in range(0, len(faces), 256)
    ]
    return torch.cat(right).mean(0)


@torch.no_grad()
def agreement(
    network: nn.Module,
    translator: nn.Module,
    attributes: Sequence[str],
    faces: FaceFolder,
    device: torch.device | str,
) -> torch.Tensor:
    """Share of translations whose attribute is the one asked for, per domain: (C,) for the C attributes of
    the translator.

    For a hair colour the strongest of its hair logits must be the colour asked for; for another attribute the
    sign of its logit counts.
    """
    columns = [network.attributes.index(a) for a in attributes]
    hair = [k for k, name in enumerate(attributes) if name in HAIR_COLOURS]
    hits = torch.zeros(len(attributes))
    for start in range(0, len(faces), 64):
        rows = range(start, min(start + 64, len(faces)))
        x, c = faces.floats(rows).to(device), faces.labels[list(rows)][:, columns].to(device)
        for k, (labels, asked) in enumerate(
            zip(create_labels(c, attributes), targets(translator, c, attributes), strict=True)
        ):
            logits = network(translator(x, asked))[:, columns]
            right = (
                logits[:, hair].argmax(1) == hair.index(k)
                if k in hair
                else (logits[:, k] > 0) == (labels[:, k] > 0)
            )
            hits[k] += right.float().sum().cpu()
    return hits / len(faces)


def judge(
    path: str, gan_type: str, classifier_weights: str | None, faces: FaceFolder, ctx: distributed.Context
) -> None:
    """Print how often the translator of `path` obeys on the photos.  Raises UserError for attributes that the
    judge does not know."""
    network = load_classifier(classifier_weights, ctx.device)
    translator = load_translator(path, ctx.device, gan_type=gan_type)
    attributes = translator.attributes or network.attributes
    unknown = [a for a in attributes if a not in network.attributes]
    if unknown or len(attributes) != translator.c_dim:
        raise UserError(
            f"{path}: knows {', '.join(unknown) or f'{translator.c_dim} attributes without names'}, "
            f"the judge knows {', '.join(network.attributes)}"
        )
    shares = dict(
        zip(attributes, agreement(network, translator, attributes, faces, ctx.device).tolist(), strict=True)
    )
    hair = [v for k, v in shares.items() if k in HAIR_COLOURS]
    ctx.print(
        json.dumps(
            {
                "translator": path,
                "photos": len(faces),
                "agreement": {k: round(v, 4) for k, v in shares.items()},
                "hair_colour": round(sum(hair) / max(1, len(hair)), 4),
            },
            indent=2,
        )
    )


def train(
    options: Options, run: runs.Run, ctx: distributed.Context, faces: FaceFolder, held: FaceFolder
) -> None:
    """Train on `faces`, validate on `held`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(options.seed, "classifier"))
        network = AttributeClassifier(len(options.selected_attrs), image_size=options.image_size).to(
            ctx.device
        )
    average = training.averaged(network)
    training.compile_networks([network], options, ctx)
    optimiser = torch.optim.Adam(network.parameters(), options.lr, fused=ctx.device.type == "cuda")
    batches = Batches(faces, options.batch_size, options.seed, ctx)

    def step(i):
        x, c, _ = batches.get(i)
        with distributed.autocast(ctx.device, options.precision):
            logits = network(x)
        loss = F.binary_cross_entropy_with_logits(logits.float(), c)
        training.descend(loss, network, optimiser, options.lr * (1 - i / options.num_steps), ctx)
        training.update_average(average, network, options.ema)
        return {"loss": loss.detach()}

    def on_save(done):
        shares = accuracy(average.module, held, ctx.device)
        return {f"accuracy_{name}": float(v) for name, v in zip(options.selected_attrs, shares, strict=True)}

    training.loop(
        run,
        options,
        ctx,
        {"network": network, "average": average, "optimiser": optimiser},
        step,
        on_save,
        "classifier",
    )
    if ctx.is_main:
        meta = {
            "kind": "classifier",
            "options": network.options,
            "attributes": options.selected_attrs,
            "image_size": options.image_size,
            "trained_on": options.dataset,
            "steps": options.num_steps,
            "seed": options.seed,
            "ema": True,
        }
        checkpoint.save_weights(run.folder / "weights.safetensors", average.module.state_dict(), meta)
        ctx.print(f"done: {run.folder / 'weights.safetensors'}")


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    with distributed.session(options.device) as ctx:
        columns = (
            options.selected_attrs
            if options.judge is None
            else load_classifier(options.classifier_weights).attributes
        )
        faces = open_faces(options, columns=columns)
        learned, held = learned_and_held(faces, options.seed)
        if options.judge is not None:
            return judge(options.judge, options.gan_type, options.classifier_weights, held, ctx)
        run = runs.begin(
            options,
            ctx,
            Path(options.result_dir) / "classifier" / options.dataset / "train" / "standard",
            "weights.safetensors",
        )
        if run is not None:
            train(options, run, ctx, learned, held)


if __name__ == "__main__":
    cli.run(main)
