"""Test one defence: disrupt split B, purify it, make the fakes, measure.

reads   <data_dir>/images_b/              (made by split_dataset.py), a translator, and the defence's weights
writes  <result_dir>/<defense+params>/<dataset>/<gan>/<defense_noise>/<attack>-eps<eps>/NNN/{options.yaml,grid.png,images/,record.json}
        <result_dir>/{attacked,purified}/<dataset>/   caches that all defences share
        <weights>.terd.safetensors                    with --scan: the verdict on the purifier's weights

  python test_defense.py --defense_model_type jpeg --gan_weights 200000-G.ckpt
  python test_defense.py --defense_model_type ddpm --ddpm_start_num 20 --gan_weights 200000-G.ckpt \\
      --attack_target clean
  python test_defense.py --defense_model_type diffpure --gan_weights 200000-G.ckpt \\
      --defense_weights downloaded.pt --scan
  python test_defense.py --defense_model_type one-step --gan_weights 200000-G.ckpt \\
      --attack_through one-step --gradient full --eot 4
"""

import json
import time
import warnings
from pathlib import Path

import purify
from attacks.flags import add_attack_flags, attack_config, attack_from_flags, short_name
from attacks.through import ThroughDefence
from common import cli, distributed, files, images, runs
from faces.flags import add_data_flags, dataset_name, open_judged
from metrics.fid import load_extractor
from metrics.score import Score, score_all
from models.conditions import targets
from models.flags import add_translator_flags, gan_name
from pipeline.attacked import AttackedPhotos
from pipeline.purified import PurifiedPhotos
from purify.defences import DEFENCES, defence_folder
from purify.flags import add_purifier_flags, purifier_from_flags
from purify.terd.screen import add_scan_flags, scan_of
from purify.trained import default_translator, load_defence, trained_noise, weights_of
from report import record

SHOWN = 3  # domains in grid.png


def parse_args(argv=None):
    p = cli.ArgumentParser(prog="test_defense.py", description=__doc__)
    g = add_data_flags(p, "b")
    g.add_argument(
        "--split",
        choices=["a", "b", "c"],
        default="b",
        help="which photos; of a the held-out part: parameters are tuned there, results reported on b",
    )
    g = p.add_argument_group("translator and features")
    add_translator_flags(
        g,
        "translator: official 200000-G.ckpt or 100000_nets_ema.ckpt, or ours; default: the newest finished"
        " training",
    )
    g.add_argument(
        "--adv_gan_weights",
        default=None,
        metavar="FILE",
        help="for adv-train, adv-train-blur and both; default: the newest finished training",
    )
    g.add_argument(
        "--gan_training_data",
        default=None,
        help="what the translator was trained on, for the record (the official one: all of CelebA)",
    )
    g.add_argument(
        "--inception_weights",
        default=None,
        metavar="FILE",
        help="standard Inception weights; with them FID and KID are measured",
    )
    g.add_argument(
        "--features",
        choices=["auto", "none"],
        default="auto",
        help="none: measure no distance between sets of fakes",
    )
    add_purifier_flags(p, DEFENCES)
    g.add_argument(
        "--defense_noise",
        default=None,
        metavar="ATTACK",
        help=(
            "without --defense_weights: the disruption that the purifier was trained on, as in its run folder"
            " (none, pgd, pgd-eps0.05); default: any"
        ),
    )
    add_scan_flags(p)
    add_attack_flags(p)
    g = p.add_argument_group("attack on the defence")
    g.add_argument(
        "--attack_on",
        choices=["standard", "self"],
        default="standard",
        help="adversarially trained translators: attacked by the shared images, or white-box themselves",
    )
    g.add_argument(
        "--attack_through",
        choices=sorted(purify.PURIFIERS),
        default=None,
        help="the attacker knows this purifier and attacks through it",
    )
    g = p.add_argument_group("output")
    g.add_argument(
        "--save_image",
        action="store_true",
        help="write every photo, disrupted, purified and all fakes to images/",
    )
    cli.add_run_flags(p, batch_size=32, limit=True, resume=True)
    args = p.parse_args(argv)
    args.dataset = dataset_name(args)
    if args.attack_on == "self" and DEFENCES[args.defense_model_type].translator == "standard":
        p.error(
            f"--attack_on self is for adversarially trained translators; {args.defense_model_type} uses the"
            " standard one"
        )
    args.gan_weights = args.gan_weights or default_translator(args)
    return args


def attacked_generator(args, purifier, standard, translator, ctx):
    """What the attacker differentiates: a translator, or a translator behind a purifier."""
    target = translator if args.attack_on == "self" else standard
    if args.attack_through is None:
        return target
    through = purifier
    if args.attack_through != purifier.name:
        through = purifier_from_flags(
            args, weights_of(args.attack_through, args), name=args.attack_through, device=ctx.device
        )
    return ThroughDefence(target, through, args.gradient, args.eot)


def attack_folder(args, attack):
    """<attack>-eps<eps>, with what differs from the default protocol, the way through a defence too."""
    through = f"-through-{args.attack_through}" if args.attack_through else ""
    return short_name(attack, args) + through + ("-self" if args.attack_on == "self" else "")


def save_pictures(args, run, faces, attacked, purified, score, ctx):
    """grid.png of the first photos (photo, disrupted, purified, and the fakes of each beside it); with
    --save_image every image."""
    rows = []
    for i, name in enumerate(faces.names if args.save_image else faces.names[:8]):
        x, c = faces.floats([i]).to(ctx.device), faces.labels[[i]].to(ctx.device)
        row = []
        for k, target in enumerate(targets(score.translator, c, args.selected_attrs)):
            if k >= SHOWN and not args.save_image:
                break
            found = {
                "photo": x,
                "disrupted": attacked(k)([name]).to(ctx.device),
                "purified": purified(k)([name]).to(ctx.device),
            }
            fakes = {kind: score.fakes(image, target) for kind, image in found.items()}
            if args.save_image:
                for kind in found:
                    if k == 0 or args.attack_label == "target" and kind != "photo":
                        suffix = (
                            f"_{args.selected_attrs[k]}"
                            if args.attack_label == "target" and kind != "photo"
                            else ""
                        )
                        save_one(run, kind + suffix, name, found[kind])
                    save_one(run, f"fake_of_{kind}_{args.selected_attrs[k]}", name, fakes[kind])
            if k < SHOWN and i < 8:
                row += ([*found.values()] if k == 0 or args.attack_label == "target" else []) + [
                    *fakes.values()
                ]
        if i < 8:
            rows.append([cell[0].cpu() for cell in row])
    images.save_png(run.folder / "grid.png", images.make_grid(rows))


def save_one(run, kind, name, image):
    files.make_folder(run.folder / "images" / kind)
    images.save_png(run.folder / "images" / kind / f"{Path(name).stem}.png", images.to_uint8(image[0]))


def main(argv=None):
    args = parse_args(argv)
    with distributed.session(args.device) as ctx:
        files.check_writable(args.result_dir)
        faces = open_judged(args, args.split)
        purifier, weights, standard, translator = load_defence(args, ctx)
        extractor = (
            load_extractor(args.inception_weights, device=ctx.device) if args.features == "auto" else None
        )
        attack = attack_from_flags(args, attacked_generator(args, purifier, standard, translator, ctx))
        args.defense_weights, args.ddpm_start_num = weights, purifier.params.get("start")
        ctx.print(json.dumps(runs.options_of(args), indent=2))
        if args.dry_run:
            return
        verdict, screen = scan_of(args, purifier, ctx)
        root, noise = Path(args.result_dir), trained_noise(weights)
        folder = defence_folder(args.defense_model_type, purifier)
        parent = root / folder / args.dataset / gan_name(args) / noise
        run = runs.open_run(parent / attack_folder(args, attack), args, ctx)
        if run.finished:
            ctx.print(f"this run is finished: {run.folder / record.FILE}")
            return
        started = time.strftime("%Y-%m-%dT%H:%M:%S")

        attacked = AttackedPhotos(
            attack,
            args.attack_label,
            faces,
            args.selected_attrs,
            root / "attacked" / args.dataset,
            faces.preparation,
            args.seed,
        )
        began = time.perf_counter()
        made = attacked.fill(ctx, args.batch_size)
        attack_seconds = (time.perf_counter() - began) / made if made else None
        index = {name: i for i, name in enumerate(faces.names)}

        def purified_of(key, inputs):
            return PurifiedPhotos(
                purifier,
                key,
                inputs,
                root / "purified" / args.dataset,
                args.seed,
                args.precision,
                attacked.sources,
            )

        sets = [purified_of(cached.key, cached.floats) for cached in attacked.caches]
        clean = purified_of(
            {"photos": faces.preparation}, lambda names: faces.floats([index[n] for n in names])
        )
        for photos in [*sets, clean]:
            photos.fill(faces.names, ctx, args.batch_size)
        carry = (
            {
                kind: carriers(screen, faces.names, inputs)
                for kind, inputs in (("clean", clean.inputs), ("disrupted", attacked.caches[0].floats))
            }
            if screen
            else None
        )
        if carry:
            ctx.print(
                "photos that carry the trigger of the purifier's backdoor: "
                + ", ".join(f"{len(names)} of {len(faces.names)} {kind}" for kind, names in carry.items())
            )

        score = Score(
            translator,
            args.selected_attrs,
            extractor,
            args.seed,
            standard=standard if translator is not standard else None,
        )
        score_all(
            score,
            faces,
            [c.floats for c in attacked.caches],
            [s.floats for s in sets],
            clean.floats,
            ctx,
            args.batch_size,
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            metrics, groups, num_images, num_pairs = score.result(ctx)
        for text in sorted({str(w.message) for w in caught}):
            ctx.print(f"note: {text}")
        if not ctx.is_main:
            return

        def of(sources):
            return lambda k: sources[k if len(sources) > 1 else 0].floats

        save_pictures(args, run, faces, of(attacked.caches), of(sets), score, ctx)
        seconds, nfe = sets[0].cost()
        config = {
            "gan": gan_name(args),
            "gan_type": args.gan_type,
            "gan_style": args.gan_style and Path(args.gan_style).name,
            "defense": args.defense_model_type,
            "defense_params": {**purifier.params, **sets[0].measured()},
            "defense_noise": noise,
            **attack_config(args, attack),
            "attack_on": args.attack_on,
            "attack_through": args.attack_through,
            "attack_gradient": args.gradient if args.attack_through else None,
            "attack_eot": args.eot if args.attack_through else None,
            "num_images": num_images,
            "num_pairs": num_pairs,
            "image_size": args.image_size,
            "gan_training_data": args.gan_training_data or standard.meta.get("trained_on") or "unknown",
            "skipped": faces.skipped,
            "scan": (
                {"verdict": verdict.verdict, "reason": verdict.reason, "carry_the_trigger": carry}
                if verdict
                else None
            ),
        }
        cost = {
            "nfe": nfe,
            "attack_s_per_image": attack_seconds,
            "purify_s_per_image": seconds,
            "peak_memory_mb": distributed.peak_memory_mb(ctx.device),
            "device": str(ctx.device),
        }
        provenance = {
            "commit": runs.commit(),
            "command": runs.command(),
            "versions": runs.versions(),
            "gan_sha256": translator.sha256,
            "defense_sha256": purifier.sha256,
            "attacked_key": attacked.key,
            "started": started,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
        }
        found = record.Record(
            "defense",
            folder,
            args.dataset,
            args.split,
            args.seed,
            config,
            metrics,
            groups,
            extractor.description if extractor else None,
            cost,
            provenance,
        )
        record.write(run.folder / record.FILE, found)
        ctx.print(summary(found))
        ctx.print(f"record: {run.folder / record.FILE}")


def carriers(screen, names, inputs):
    """The names of the photos that a purify.terd.screen.Screen finds its trigger on."""
    return [
        name
        for start in range(0, len(names), 64)
        for name, flag in zip(
            names[start : start + 64], screen(inputs(names[start : start + 64])).tolist(), strict=True
        )
        if flag
    ]


def summary(found):
    m = found.metrics

    def line(side):
        return f"l2 {m[side]['l2']:.5f} {m[side]['l2_ci']}, disrupted pairs {m[side]['prop_dist']:.3f}"

    return (
        "\n".join(f"{side:15s} {line(side)}" for side in ("disrupted", "purified", "clean_purified"))
        + f"\nphoto           disrupted l2 {m['input']['disrupted']['l2']:.5f}, purified l2"
        f" {m['input']['purified']['l2']:.5f}"
    )


if __name__ == "__main__":
    cli.run(main)
