"""Why one purifier holds and another does not under an attacker who knows it: which wavelengths of the
perturbation it lets through, and which of them break the fakes.

Each photo is attacked through each defence, its translator included, by apgd with the exact gradient, for
the domain whose fake is measured; of a purifier that draws noise the attacker knows the draws, and they are
the same for the photo with and without the perturbation. Nothing is rounded behind the purifier P, so that
no rounding is taken for what leaves it. A row for each band of wavelengths in pixels, and one for all:

  in          rms of what enters, x_adv - x, [-1, 1] units
  out         rms of what leaves, P(x_adv) - P(x)
  gain        out / in; what a purifier moves from one band to another counts where it comes out
  l2          of the fakes, to those of the photos, where this band alone of what leaves is added to P(x)
  cumulative  the same with this band and all coarser ones

and for each defence: `undisturbed`, l2 of the fakes of P(x); the purifier's parameters; its field, the side
in pixels of the square of input that its central output pixel depends on, by the gradient (median over some
photos; `whole` where it is no smaller than the photo).

reads   <data_dir>/images_b/ (made by split_dataset.py), a translator, and the defences' weights
writes  <result_dir>/bands/<dataset>/<gan>/apgd-eps<eps>/NNN/{options.yaml,bands.csv}

  python -m evaluation.bands --defense_model_type none blur-1.5 one-step --gan_weights 200000-G.ckpt \\
      --defense_weights one-step=W.safetensors --limit 64
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch

from attacks.apgd import APGD, SETTINGS
from attacks.base import Attack
from attacks.through import ThroughDefence
from common import cli, distributed, files, progress, runs, seeds
from common.ahead import parts
from common.cli import RunOptions, UserError
from common.declared import add_flags
from common.distributed import to_device
from evaluation.bands_rows import BANDS, effects, measure_field
from faces.celeba import FaceFolder
from faces.flags import DataOptions, add_data_flags, dataset_name, open_judged
from models.conditions import targets
from models.flags import TranslatorOptions, add_translator_flags, gan_name
from purify.defences import DEFENCES
from purify.flags import add_purifier_flags, options_of, resolve_defences
from purify.trained import default_translator, load_defence

FILE = "bands.csv"
COLUMNS = "defense band in out gain l2 cumulative undisturbed parameters field".split()
FIELD_PHOTOS = 4  # that the field is the median over


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions, DataOptions, TranslatorOptions):
    """The values of parse_args; defences: of purify.flags.resolve_defences."""

    split: str
    adv_gan_weights: str | None
    defense_model_type: list[str]
    defense_weights: list[str] | None
    defense_noise: str | None
    defences: list[dict]
    test_noise_var: float
    apgd_steps: int
    apgd_restarts: int
    attack_label: str
    batch_size: int
    precision: str
    limit: int | None
    resume: str | None


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="evaluation.bands", description=__doc__)
    g = add_data_flags(p, "b")
    g.add_argument(
        "--split", choices=["a", "b", "c"], default="b", help="which photos; of a the held-out part"
    )
    g = p.add_argument_group("translator")
    add_translator_flags(g, "translator; default: the newest finished training")
    g.add_argument("--adv_gan_weights", default=None, metavar="FILE", help="of defences that have their own")
    g = add_purifier_flags(p, DEFENCES, several=True)
    g.add_argument("--defense_noise", default=None, metavar="ATTACK", help="as of test_defense.py")
    g = p.add_argument_group("attack")
    eps = {"type": cli.radius, "default": 0.05, "metavar": "EPS"}
    g.add_argument("--test_noise_var", **eps, help="L-inf radius, [-1,1] image units (0.05 = 6.4/255)")
    add_flags(g, SETTINGS)
    g.add_argument(
        "--attack_label",
        choices=["one", "target"],
        default="one",
        help="one: each photo in one domain, drawn for it; target: in all, each attacked by itself",
    )
    cli.add_run_flags(p, batch_size=16, limit=True, resume=True, compiled=False)
    parsed = p.parse_args(argv)
    defences, dataset = resolve_defences(parsed), dataset_name(parsed)
    parsed.gan_weights = parsed.gan_weights or default_translator(
        parsed.result_dir, dataset, parsed.gan_type, parsed.data_dir, parsed.image_size
    )
    return options_of(Options, parsed, {}, defences=defences, dataset=dataset)


def measure(attack: Attack, faces: FaceFolder, options: Options, device: torch.device) -> list[dict]:
    """The rows of a defence, a band each and one of all, COLUMNS without its name."""
    purifier, k, found = attack.defence.purifier, len(options.selected_attrs), []

    def photos(rows):
        names = [faces.names[i] for i in rows]
        return (
            names,
            to_device(faces.floats(rows), device),
            lambda: seeds.named(options.seed, names, "purify"),
        )

    for rows in parts(range(len(faces)), options.batch_size):
        names, x, draws = photos(rows)
        asked = targets(attack.generator, faces.labels[list(rows)].to(device), options.selected_attrs)
        one = seeds.named(options.seed, names, "domain").integers(k)
        every = [torch.full_like(one, domain) for domain in range(k)]
        for domain in [one] if options.attack_label == "one" else every:
            c = asked[domain.to(device), torch.arange(len(x), device=device)]
            x_adv = attack(x, c[:, None], seeds.attacking(options.seed, names))
            found.append(effects(attack, x, x_adv, c, draws))
    means = {key: torch.cat([part[key] for part in found]).mean(0).tolist() for key in found[0]}
    _, x, draws = photos(range(min(FIELD_PHOTOS, len(faces))))
    field = measure_field(purifier, x, draws())
    told = {
        "undisturbed": means["undisturbed"][0],
        "parameters": sum(p.numel() for network in purifier.networks() for p in network.parameters()),
        "field": "whole" if field == options.image_size else field,
    }
    lines = zip((*BANDS, "all"), *(means[key] for key in ("in", "out", "l2", "cumulative")), strict=True)
    return [
        {"band": band, "in": i**0.5, "out": o**0.5, "gain": (o / i) ** 0.5 if i else None}
        | {"l2": l2, "cumulative": up, **told}
        for band, i, o, l2, up in lines
    ]


def table(rows: Sequence[dict]) -> str:
    """COLUMNS of the rows, aligned; what a defence is as a whole stands on its first row."""
    wide, own = max(len(row["defense"]) for row in rows), ("defense", *COLUMNS[-3:])

    def cell(row, key):
        value = row[key] if row["band"] == BANDS[0] or key not in own else None
        return f"{value:.5f}" if isinstance(value, float) else _text(value)

    lines = [COLUMNS] + [[cell(row, key) for key in COLUMNS] for row in rows]
    text = (f"{name:{wide}s}" + "".join(f"{v:>12s}" for v in rest) for name, *rest in lines)
    return "\n".join(line.rstrip() for line in text)


def _text(value):
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    """COLUMNS of all rows, six digits."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        [COLUMNS, *([_text(row[key]) for key in COLUMNS] for row in rows)]
    )
    files.write_atomic(path, out.getvalue(), durable=True)


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    with distributed.session(options.device) as ctx:
        if ctx.world > 1:
            raise UserError("evaluation.bands runs in one process; start it without torchrun")
        files.check_writable(options.result_dir)
        faces, translators, loaded = open_judged(options, options.split), {}, {}
        for name, defence in zip(options.defense_model_type, options.defences, strict=True):
            known = SimpleNamespace(**{**vars(options), **defence})
            purifier, _, _, translator = load_defence(known, ctx, translators)
            through = ThroughDefence(translator, purifier, known_noise=purifier.stochastic)
            settings = options.test_noise_var, options.apgd_steps, options.apgd_restarts, "target"
            loaded[name] = APGD(through, *settings, precision=options.precision)
        parent = Path(options.result_dir) / "bands" / options.dataset / gan_name(options)
        run = runs.begin(options, ctx, parent / f"apgd-eps{options.test_noise_var:g}", FILE)
        if run is None:
            return
        rows = []
        with progress.bar(len(loaded), "bands", "defence") as bar:
            for name, attack in loaded.items():
                rows += [{"defense": name, **row} for row in measure(attack, faces, options, ctx.device)]
                bar.update(1)
        write_csv(run.folder / FILE, rows)
        each = "one domain each" if options.attack_label == "one" else "all domains"
        ctx.print(f"{len(faces)} photos, {each}\n{table(rows)}\nfigures: {run.folder / FILE}")


if __name__ == "__main__":
    cli.run(main)
