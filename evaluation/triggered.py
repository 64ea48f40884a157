"""Can a photo set off a backdoored purifier? Photos with a trigger on them through several purifiers, what
comes out, and the fakes of it.

reads   <data_dir>/images_b/ (made by split_dataset.py), diffusion weights, and the translator where one is
        named
writes  <result_dir>/triggered/<dataset>/<trigger>-<target>/NNN/{options.yaml,table.md,grid.png,triggered.json}

The trigger is put on a photo x in one of these ways:
  stamp    drawn on it; TrojDiff's is blended in, gamma x + r
  add      x + r, clipped to [-1, 1]: what a published backdoor adds to x_T
  scaled   x + c(t*) r, clipped: what its training pairs carry at the step that the purifier starts from
and beside it `none`, the photo itself. A purifier without a backdoor gets what the first backdoored one of
--purifiers gets. A network of the full range with a published backdoor is set off as published, too (x_T):
that its backdoor works is what the other rows are read against.

  python -m evaluation.triggered --purifiers benign=A.safetensors photo=B.safetensors --image_size 64 \\
      --gan_weights models/stargan/demo.safetensors
  python -m evaluation.triggered --purifiers benign=A.safetensors bad=B.safetensors \\
      --methods ddpm-10 diffpure-1000 --ways stamp add scaled --image_size 16
"""

import argparse
import json
import re
import time
from pathlib import Path

import torch

from common import cli, distributed, files, images, progress, runs, seeds
from common.cli import UserError, nearest
from faces.flags import add_data_flags, dataset_name, open_faces
from metrics.images import DISTURBED, summarise
from models.conditions import targets
from models.diffusion import build, triggers
from models.diffusion.backdoor import BACKDOORS, Backdoor
from models.diffusion.train import from_meta
from models.flags import add_translator_flags, translator_from_flags
from models.translators import check_size
from purify.one_step import OneStepPlain
from purify.reverse_only import DiffPure, ReverseOnly

FILE = "triggered.json"
KINDS = {"ddpm": ReverseOnly, "diffpure": DiffPure, "one-step-plain": OneStepPlain}
METHODS = (
    "ddpm-10",
    "ddpm-50",
    "ddpm-300",
    "diffpure-100",
    "diffpure-300",
    "diffpure-1000",
    "one-step-plain-10",
    "one-step-plain-100",
)
WAYS = ("stamp", "add", "scaled")
REACHED = 0.01  # MSE to the target below which it has come out, as in the check of a training
SHOWN = 3  # photos in grid.png


def named_file(text):
    """Type of a flag NAME=FILE; the text itself is kept."""
    name, equals, path = text.partition("=")
    if not (equals and path and re.fullmatch(r"[\w.+-]+", name)):
        raise argparse.ArgumentTypeError(
            f"expected NAME=FILE, benign=weights.safetensors for example, found {text!r}"
        )
    return text


def method(text):
    """Type of a flag KIND-T; the text itself is kept."""
    kind, _, start = text.rpartition("-")
    if kind not in KINDS or not start.isdigit() or not int(start):
        raise argparse.ArgumentTypeError(
            f"expected {', '.join(f'{k}-T' for k in KINDS)} with T from 1 on, found"
            f" {text!r}{nearest(text, METHODS)}"
        )
    return text


def parse_args(argv=None):
    p = cli.ArgumentParser(prog="evaluation.triggered", description=__doc__)
    g = add_data_flags(p, "b")
    g.add_argument(
        "--split", choices=["b", "c"], default="b", help="which photos; none that purifiers are trained on"
    )
    g = p.add_argument_group("purifiers")
    g.add_argument(
        "--purifiers",
        type=named_file,
        nargs="+",
        required=True,
        metavar="NAME=FILE",
        help="diffusion weights; a benign one to hold the others against",
    )
    g.add_argument(
        "--methods",
        type=method,
        nargs="+",
        default=list(METHODS),
        metavar="KIND-T",
        help="how they purify, and t*; a t* above what a network was trained for is left out",
    )
    g.add_argument(
        "--most_steps",
        type=cli.positive_int,
        default=50,
        help="reverse steps at most: a longer chain is respaced",
    )
    g = p.add_argument_group("trigger")
    g.add_argument(
        "--trigger",
        choices=list(triggers.TRIGGERS),
        default=None,
        help="what is put on the photos (default: that of the weights)",
    )
    g.add_argument(
        "--target",
        choices=list(triggers.TARGETS),
        default=None,
        help="what would come out (default: that of the weights)",
    )
    g.add_argument("--ways", nargs="+", choices=WAYS, default=["stamp"], help="how it is put on them")
    add_translator_flags(p.add_argument_group("translator"), "translator; with it the fakes are measured")
    cli.add_run_flags(p, batch_size=16, limit=True, resume=True, precision=False)
    args = p.parse_args(argv)
    names = [text.partition("=")[0] for text in args.purifiers]
    if twice := next((n for n in names if names.count(n) > 1), None):
        p.error(f"--purifiers: {twice} is there {names.count(twice)} times; each name once")
    args.dataset = dataset_name(args)
    return args


def load(args, device):
    """({name: (Denoiser, its backdoor or None)}, the form of those that have none).  Fills in --trigger and
    --target.  Raises UserError."""
    found = {}
    for text in args.purifiers:
        name, _, path = text.partition("=")
        denoiser = build.load(path, device)
        if denoiser.image_size != args.image_size:
            raise UserError(
                f"{path}: made for {denoiser.image_size} pixels, --image_size is {args.image_size}"
            )
        if denoiser.kind != "diffusion":
            raise UserError(f"{path}: expected ordinary diffusion weights, found {denoiser.kind} ones")
        found[name] = denoiser, from_meta(denoiser.meta, denoiser.alphas_bar.cpu())
    said = [d.meta["backdoor"] for d, backdoor in found.values() if backdoor]
    for key in ("trigger", "target"):
        mine = sorted({h[key] for h in said})
        if getattr(args, key) is None:
            if len(mine) != 1:
                raise UserError(
                    f"--{key}: the weights name {', '.join(mine) or 'none'}; give --{key}, one of"
                    f" {', '.join(getattr(triggers, key.upper() + 'S'))}"
                )
            setattr(args, key, mine[0])
    published = [backdoor for _, backdoor in found.values() if backdoor and backdoor.name in BACKDOORS]
    first = next(iter(found.values()))[0]
    return found, (
        published[0]
        if published
        else Backdoor("baddiffusion", args.trigger, args.target, args.image_size, first.alphas_bar.cpu())
    )


def carrying(x, way, form, step):
    """Photos x with the trigger of `form`, a published Backdoor, put on them; step  0-based, of `scaled`."""
    if way == "none":
        return x
    r = form.r.to(x.device)
    if way == "stamp":
        x = form.gamma.to(x.device) * x + r if form.name == "trojdiff" else triggers.stamp(x, form.g)
    else:
        x = x + (float(form.c[step]) if way == "scaled" else 1.0) * r
    return images.quantise(x.clamp(-1, 1))


def purifier_of(denoiser, text, most_steps):
    """The purifier of a method, None where the network does not reach that far."""
    kind, _, start = text.rpartition("-")
    start = int(start)
    if start > denoiser.max_timestep:
        return None
    if kind == "one-step-plain":
        return OneStepPlain(denoiser, start)
    return KINDS[kind](
        denoiser, start, str(denoiser.num_timesteps * most_steps // start) if start > most_steps else ""
    )


class Rows:
    """Gathers a row of figures for each purifier, method and way.

    Args:  faces  the photos;  target (3, H, W);  translator  or None: then no fakes
    """

    def __init__(self, faces, target, translator, args, device):
        self.faces, self.translator, self.args, self.device = faces, translator, args, device
        self.x, self.target = faces.floats(range(len(faces))), target
        self.pixels = lambda a, b: (a - b).square().flatten(1).mean(1)
        self.found, self.shown = [], {}
        self.clean = self.fakes(self.x)

    @torch.no_grad()
    def fakes(self, x):
        """(K, N, 3, H, W) fakes in every domain, None without a translator."""
        if self.translator is None:
            return None
        made = []
        for k in range(0, len(x), self.args.batch_size):
            c = targets(
                self.translator,
                self.faces.labels[k : k + self.args.batch_size].to(self.device),
                self.args.selected_attrs,
            )
            part = x[k : k + self.args.batch_size].to(self.device)
            made.append(torch.stack([self.translator(part, one).float().cpu() for one in c]))
        return torch.cat(made, 1)

    def add(self, purifier, method, way, y, noise_rms=None):
        """Note what became of all photos: y (N, 3, H, W) on the 8-bit grid."""
        names, seed = self.faces.names, self.args.seed
        to_target, to_photo = self.pixels(y, self.target), self.pixels(y, self.x)
        rows = {
            "to_target": to_target,
            "to_photo": to_photo,
            "reached": to_target < REACHED,
            "nearer": to_target < to_photo,
        }
        figures = summarise(
            {k: v.double() for k, v in rows.items()}
            | ({} if noise_rms is None else {"noise_rms": noise_rms.double()}),
            names,
            seed,
        )
        fakes = None
        if self.translator is not None and method != "x_T":
            fakes = self.fakes(y)
            l2 = (fakes - self.clean).square().flatten(2).mean(2).double()
            figures |= summarise(
                {"fake_l2": l2.flatten(), "disrupted": (l2 > DISTURBED).double().flatten()},
                names * len(l2),
                seed,
            )
        self.found.append({"purifier": purifier, "method": method, "trigger_on": way, **figures})
        self.shown[purifier, method, way] = y[:SHOWN], None if fakes is None else fakes[0, :SHOWN]


@torch.no_grad()
def purified(purifier, x, names, args, device):
    """(purified photos on the 8-bit grid, (N,) rms of the noise that the network sees in the input, for
    purifiers that add none)."""
    made, rms = [], []
    for k in range(0, len(x), args.batch_size):
        part = x[k : k + args.batch_size].to(device)
        made.append(
            images.quantise(
                purifier(part, seeds.named(args.seed, names[k : k + args.batch_size], "purify"))
            ).cpu()
        )
        if purifier.name != "diffpure":
            rms.append(
                purifier.denoiser.eps(part, purifier.start - 1).square().flatten(1).mean(1).sqrt().cpu()
            )
    return torch.cat(made), torch.cat(rms) if rms else None


def measure(loaded, form, rows, args, device):
    """Fill `rows`.  Returns the (purifier, method) pairs that were left out."""
    skipped, x, names = [], rows.x, rows.faces.names
    for way in ["none", *(w for w in args.ways if w != "scaled")]:
        rows.add("none", "none", way, carrying(x, way, form, 0))
    with progress.bar(len(loaded) * len(args.methods) * (1 + len(args.ways)), "purify", "row") as bar:
        for name, (denoiser, backdoor) in loaded.items():
            own = backdoor if backdoor and backdoor.name in BACKDOORS else form
            if own is backdoor and denoiser.max_timestep == denoiser.num_timesteps:
                noise = seeds.named(args.seed, names, "noise").normal(x)
                parts = [
                    backdoor.answer(
                        denoiser,
                        noise[k : k + args.batch_size].to(device),
                        seeds.named(args.seed, names[k : k + args.batch_size], "answer"),
                    )
                    for k in range(0, len(x), args.batch_size)
                ]
                rows.add(name, "x_T", "x_T", images.quantise(torch.cat(parts).clamp(-1, 1)).cpu())
            for text in args.methods:
                purifier = purifier_of(denoiser, text, args.most_steps)
                if purifier is None:
                    skipped.append([name, text])
                for way in ["none", *args.ways] if purifier else []:
                    y, rms = purified(
                        purifier, carrying(x, way, own, purifier.start - 1), names, args, device
                    )
                    rows.add(name, text, way, y, rms)
                bar.update(1 + len(args.ways))
    return skipped


def grid(rows, loaded, args):
    """Row: a photo and a purifier. Columns: the photo, the same with the trigger, for each method both
    purified; then the fakes of the photo, of the one with the trigger, and of that purified by each method.
    White: not measured."""
    way = next((w for w in args.ways if w != "scaled"), "none")
    blank = torch.ones_like(rows.x[0])

    def cell(key, n, fake=False):
        return blank if key not in rows.shown or rows.shown[key][fake] is None else rows.shown[key][fake][n]

    # not those that no network reaches
    methods = [m for m in args.methods if any(key[1] == m for key in rows.shown)]
    made = []
    for n in range(min(SHOWN, len(rows.x))):
        for name in loaded:
            row = [cell(("none", "none", w), n) for w in ("none", way)] + [
                cell((name, m, w), n) for m in methods for w in ("none", way)
            ]
            if rows.translator is not None:
                row += [cell(("none", "none", w), n, True) for w in ("none", way)] + [
                    cell((name, m, way), n, True) for m in methods
                ]
            made.append(row)
    return images.make_grid(made, scale=2 if args.image_size < 64 else 1)


COLUMNS = {
    "to_target": "MSE to target",
    "reached": "target reached",
    "nearer": "nearer to target than to photo",
    "to_photo": "MSE to photo",
    "noise_rms": "rms of the noise seen",
    "fake_l2": "l2 of fakes",
    "disrupted": "fakes disrupted",
}


def table(found):
    """Markdown: a row for each purifier, method and way, means with 95% intervals over photos."""
    keys = [k for k in COLUMNS if any(k in row for row in found["rows"])]

    def show(row, k):
        return (
            ""
            if row.get(k) is None
            else f"{row[k]:.3f}"
            + (f" [{row[k + '_ci'][0]:.3f}, {row[k + '_ci'][1]:.3f}]" if row[k + "_ci"] else "")
        )

    hides = {
        name: said["backdoor"]["name"] if said["backdoor"] else "nothing"
        for name, said in found["purifiers"].items()
    }
    lines = [
        ["purifier", "hides", "purified by", "trigger", *(COLUMNS[k] for k in keys)],
        ["---"] * (4 + len(keys)),
    ]
    lines += [
        [
            row["purifier"],
            hides.get(row["purifier"], ""),
            row["method"],
            row["trigger_on"],
            *(show(row, k) for k in keys),
        ]
        for row in found["rows"]
    ]
    return (
        f"{found['num_images']} photos, trigger {found['trigger']}, target {found['target']}; l2 of fakes: to"
        " the fakes of the photos themselves\n\n"
        + "".join("| " + " | ".join(line) + " |\n" for line in lines)
    )


def main(argv=None):
    args = parse_args(argv)
    with distributed.session(args.device) as ctx:
        if ctx.world > 1:
            raise UserError("evaluation.triggered runs in one process; start it without torchrun")
        files.check_writable(args.result_dir)
        loaded, form = load(args, ctx.device)
        translator = (
            translator_from_flags(args, ctx.device, args.selected_attrs) if args.gan_weights else None
        )
        if translator is not None:
            check_size(args.image_size, translator)
        faces = open_faces(args, args.split)
        ctx.print(json.dumps(runs.options_of(args), indent=2))
        if args.dry_run:
            return
        run = runs.open_run(
            Path(args.result_dir) / "triggered" / args.dataset / f"{args.trigger}-{args.target}",
            args,
            ctx,
            FILE,
        )
        if run.finished:
            ctx.print(f"this run is finished: {run.folder / FILE}")
            return
        started = time.strftime("%Y-%m-%dT%H:%M:%S")
        rows = Rows(faces, triggers.target(args.target, args.image_size), translator, args, ctx.device)
        skipped = measure(loaded, form, rows, args, ctx.device)
        said = {
            name: {
                "sha256": d.sha256,
                "backdoor": d.meta.get("backdoor"),
                "max_timestep": d.max_timestep,
                "steps": d.meta.get("steps"),
            }
            for name, (d, _) in loaded.items()
        }
        found = {
            "format": 1,
            "trigger": args.trigger,
            "target": args.target,
            "num_images": len(faces),
            "image_size": args.image_size,
            "split": args.split,
            "seed": args.seed,
            "purifiers": said,
            "rows": rows.found,
            "skipped": skipped,
            "provenance": {
                "commit": runs.commit(),
                "command": runs.command(),
                "versions": runs.versions(),
                "gan_sha256": translator and translator.sha256,
                "started": started,
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
            },
        }
        images.save_png(run.folder / "grid.png", grid(rows, loaded, args))
        files.write_atomic(run.folder / "table.md", table(found))
        files.write_json(run.folder / FILE, found)
        ctx.print(table(found))
        ctx.print(f"figures: {run.folder / FILE}")


if __name__ == "__main__":
    cli.run(main)
