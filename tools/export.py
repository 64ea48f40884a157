"""Turn finished trainings on drawn faces into the float16 weights that ship, and write their list with sizes
and sha256.

reads   <results>/NAME/drawn/train/*/NNN/weights.safetensors, the newest of each NAME in stargan, stgan,
        starganv2, classifier, ddpm, one-step, defensive-model-2-fixed, dadfi
writes  models/<name>/demo.safetensors and models/weights.yaml

  python -m tools.export dataset/recipe/results
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

from common import checkpoint, cli, files, runs
from common.cli import UserError

MODELS = Path(__file__).resolve().parent.parent / "models"
SHIPPED = {  # folder in the results and kind of training -> folder in models, step of the recipe
    "stargan/drawn/train/standard": ("stargan", "translator"),
    "classifier/drawn/train/standard": ("classifier", "classifier"),
    "ddpm/drawn/train/none-eps0": ("diffusion", "diffusion"),
    "one-step/drawn/train/pgd-eps0.11": ("one_step", "one-step"),
    "defensive-model-2-fixed/drawn/train/gaussian-eps0.05": ("dae", "autoencoder"),
    "stgan/drawn/train/standard": ("stgan", "stgan"),
    "starganv2/drawn/train/standard": ("starganv2", "starganv2"),
    "dadfi/drawn/train/stargan+stgan+starganv2": ("dadfi", "dadfi"),
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
    for kind, (name, step) in SHIPPED.items():
        run = runs.newest_finished(results / kind, "weights.safetensors")
        if run is None:
            missing.append(step)
            continue
        state, meta = checkpoint.read_weights(run / "weights.safetensors")
        path = MODELS / name / "demo.safetensors"
        checkpoint.save_weights(path, state, {k: v for k, v in meta.items() if k != "format"}, half=True)
        rows[f"models/{name}/demo.safetensors"] = {
            "recipe": f'STEPS="{step} export" sh experiments/demo_weights.sh',
            "steps": meta.get("steps"),
            "seed": meta.get("seed"),
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
