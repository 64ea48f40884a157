"""Train the small attribute classifier, or measure with it how well a translator obeys.

reads   <data_dir>/images_a/  (trains on it without its held-out part, which it is validated on)
writes  <result_dir>/classifier/<dataset>/train/standard/NNN/{options.yaml,log.jsonl,last.pt,weights.safetensors}

  python -m models.classifier.train --data_dir dataset/drawn --image_size 64
  python -m models.classifier.train --data_dir dataset/drawn --image_size 64 \\
      --judge results/stargan/drawn/train/standard/000/weights.safetensors
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F

from common import checkpoint, cli, distributed, runs, seeds, training
from common.cli import UserError
from faces.celeba import held_out
from faces.flags import add_data_flags, dataset_name, open_faces
from faces.loader import Batches
from models.classifier.network import AttributeClassifier, load_classifier
from models.conditions import HAIR_COLOURS, create_labels, targets
from models.translators import TRANSLATORS, load_translator


def parse_args(argv=None):
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
    args.dataset = dataset_name(args)
    return args


@torch.no_grad()
def accuracy(network, faces, device):
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
def agreement(network, translator, attributes, faces, device):
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


def judge(args, faces, ctx):
    network = load_classifier(args.classifier_weights, ctx.device)
    translator = load_translator(args.judge, ctx.device, gan_type=args.gan_type)
    attributes = translator.attributes or network.attributes
    unknown = [a for a in attributes if a not in network.attributes]
    if unknown or len(attributes) != translator.c_dim:
        raise UserError(
            f"{args.judge}: knows {', '.join(unknown) or f'{translator.c_dim} attributes without names'}, "
            f"the judge knows {', '.join(network.attributes)}"
        )
    shares = dict(
        zip(attributes, agreement(network, translator, attributes, faces, ctx.device).tolist(), strict=True)
    )
    hair = [v for k, v in shares.items() if k in HAIR_COLOURS]
    ctx.print(
        json.dumps(
            {
                "translator": args.judge,
                "photos": len(faces),
                "agreement": {k: round(v, 4) for k, v in shares.items()},
                "hair_colour": round(sum(hair) / max(1, len(hair)), 4),
            },
            indent=2,
        )
    )


def train(args, run, ctx, faces, held):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(args.seed, "classifier"))
        network = AttributeClassifier(len(args.selected_attrs), image_size=args.image_size).to(ctx.device)
    average = training.averaged(network)
    optimiser = torch.optim.Adam(network.parameters(), args.lr)
    batches = Batches(faces, args.batch_size, args.seed, ctx)

    def step(i):
        x, c, _ = batches.get(i)
        with distributed.autocast(ctx.device, args.precision):
            logits = network(x.to(ctx.device))
        loss = F.binary_cross_entropy_with_logits(logits.float(), c.to(ctx.device))
        training.descend(loss, network, optimiser, args.lr * (1 - i / args.num_steps), ctx)
        training.update_average(average, network, args.ema)
        return {"loss": loss.detach()}

    def on_save(done):
        shares = accuracy(average.module, held, ctx.device)
        return {f"accuracy_{name}": float(v) for name, v in zip(args.selected_attrs, shares, strict=True)}

    training.loop(
        run,
        args,
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
            "attributes": args.selected_attrs,
            "image_size": args.image_size,
            "trained_on": args.dataset,
            "steps": args.num_steps,
            "seed": args.seed,
            "ema": True,
        }
        checkpoint.save_weights(run.folder / "weights.safetensors", average.module.state_dict(), meta)
        ctx.print(f"done: {run.folder / 'weights.safetensors'}")


def main(argv=None):
    args = parse_args(argv)
    with distributed.session(args.device) as ctx:
        columns = (
            args.selected_attrs if args.judge is None else load_classifier(args.classifier_weights).attributes
        )
        faces = open_faces(args, columns=columns)
        kept, validation = held_out(faces.names, args.seed)
        if not validation:
            raise UserError(
                f"{faces.folder}: {len(faces)} photo is too few, one at least is held out to be judged on;"
                " give more, or a higher --limit"
            )
        if args.judge is not None:
            return judge(args, faces.subset(validation), ctx)
        ctx.print(json.dumps(runs.options_of(args), indent=2))
        if args.dry_run:
            return
        run = runs.open_run(
            Path(args.result_dir) / "classifier" / args.dataset / "train" / "standard",
            args,
            ctx,
            "weights.safetensors",
        )
        if run.finished:
            ctx.print("this run is finished; nothing to do")
            return
        train(args, run, ctx, faces.subset(kept), faces.subset(validation))


if __name__ == "__main__":
    cli.run(main)
