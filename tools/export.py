"""Turn finished trainings on drawn faces into the float16 weights that ship, and write their list with sizes
and sha256.

reads   <results>/*/*/train/*/NNN/{options.yaml,weights.safetensors}, the newest ordinary training on drawn
        faces of each translator, of the classifier, ddpm, one-step, one-step-robust, the autoencoder
        (defensive-model-2-fixed) and dadfi
writes  models/<name>/demo.safetensors and models/weights.yaml

  python -m tools.export dataset/recipe/results
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from common import checkpoint, cli, files, seeds
from common.cli import UserError
from purify.trained import Training, newest, newest_training, newest_translator, training_name

MODELS = Path(__file__).resolve().parent.parent / "models"
DATASET = "drawn"
VICTIMS = ["stargan", "stgan", "starganv2"]  # that dadfi is trained against


@dataclass(frozen=True)
class Shipped:
    """Weights that ship.  step  of the recipe that makes them;  find  result folder -> the newest finished
    training's file, or None"""

    step: str
    find: Callable[[Path], Path | None]


def _translator(gan_type: str) -> Callable[[Path], Path | None]:
    return lambda results: newest_translator(results, DATASET, gan_type=gan_type)


def _purifier(defense: str, noise: str) -> Callable[[Path], Path | None]:
    return lambda results: newest_training(results, defense, DATASET, noise)


def _robust(results: Path) -> Path | None:
    """The grown one, not the small network that it grew from."""
    usual = training_name(
        {"defense_model_type": "one-step-robust", "attack_type": "pgd", "train_noise_var": 0.085}
    )

    def wanted(training: Training) -> bool:
        mine = (training.options.get("defense_model_type"), training.options.get("dataset"))
        if mine != ("one-step-robust", DATASET):
            return False
        return training_name(training.options) == usual and training.meta["options"]["blocks"] > 0

    return newest(results, wanted)


def _other(wanted: Callable[[dict], bool]) -> Callable[[Path], Path | None]:
    """By the metadata of the weights."""

    def of_drawn(training: Training) -> bool:
        return training.options.get("dataset") == DATASET and wanted(training.meta)

    return lambda results: newest(results, of_drawn)


def _is_shipped_dadfi(meta: dict) -> bool:
    usual = meta.get("kind") == "dadfi" and not meta.get("variant")
    return usual and [victim["gan"] for victim in meta["victims"]] == VICTIMS


SHIPPED = {  # by the folder in models
    "stargan": Shipped("translator", _translator("stargan")),
    "classifier": Shipped("classifier", _other(lambda meta: meta.get("kind") == "classifier")),
    "diffusion": Shipped("diffusion", _purifier("ddpm", "none-eps0")),
    "one_step": Shipped("one-step", _purifier("one-step", "pgd-eps0.11")),
    "one_step_robust": Shipped("one-step-robust", _robust),
    "dae": Shipped("autoencoder", _purifier("defensive-model-2-fixed", "gaussian-eps0.05")),
    "stgan": Shipped("stgan", _translator("stgan")),
    "starganv2": Shipped("starganv2", _translator("starganv2")),
    "dadfi": Shipped("dadfi", _other(_is_shipped_dadfi)),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    results: Path
    debug: bool


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="tools.export", description=__doc__)
    p.add_argument("results", type=Path, help="result folder of experiments/demo_weights.sh")
    return cli.resolve(Options, p.parse_args(argv))


def main(argv: list[str] | None = None) -> None:
    export(parse_args(argv).results)


def export(results: Path) -> None:
    """Write the weights of each step of the recipe that is finished in `results`, and list them.

    Raises: UserError if none is finished
    """
    listed = MODELS / "weights.yaml"
    rows, missing = (yaml.safe_load(listed.read_text()) or {} if listed.exists() else {}), []
    for name, shipped in SHIPPED.items():
        weights = shipped.find(results)
        if weights is None:
            missing.append(shipped.step)
            continue
        state, meta = checkpoint.read_weights(weights)
        path = MODELS / name / "demo.safetensors"
        checkpoint.save_weights(path, state, {k: v for k, v in meta.items() if k != "format"}, half=True)
        rows[f"models/{name}/demo.safetensors"] = {
            "recipe": f'STEPS="{shipped.step} export" sh experiments/demo_weights.sh',
            "steps": meta.get("steps"),
            "seed": meta.get("seed"),
            "streams": seeds.VERSION,
            "trained_on": "6,000 faces drawn by faces.procedural --seed 1",
            "bytes": path.stat().st_size,
            "sha256": files.sha256(path),
        }
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    if len(missing) == len(SHIPPED):
        raise UserError(f"{results}: no finished training; run `sh experiments/demo_weights.sh`")
    files.write_atomic(
        listed, "# Made by experiments/demo_weights.sh.\n" + yaml.safe_dump(rows, sort_keys=False)
    )
    if missing:
        print(f"not finished yet, left as they were: {', '.join(missing)}")


if __name__ == "__main__":
    cli.run(main)
