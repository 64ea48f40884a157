"""When a recovered trigger is a backdoor: the rules of TERD's model detection, and the networks that they
were calibrated on.

The benign-only rule flags a network whose (M_r, V_r) lie more than three standard deviations above those of
benign networks. With few benign networks, whose recovered triggers all but vanish, that distance becomes
arbitrarily small; so a trigger must also be strong enough to be told from noise: N(r, gamma^2 I) and N(0, I)
with a total divergence below SEPARABLE nats cannot (for gamma = 1, |r|^2 / 2 of it leaves an error of
Phi(-|r| / 2) = 1 %). In more than VALUES dimensions the same divergence per dimension is asked for as in
VALUES: what a search leaves in benign networks is a rest of the same height whatever the size of the image. A
network never calibrates its own verdict: it is left out by its sha256.
Source: Mo et al. 2024 (arXiv:2409.05294), Sec. 4.3; the floor is ours

As a command: calibrate on what scans have found below a folder, benign and backdoored networks of which it is
known (experiments/terd.sh).

reads   <folder>/**/trigger.safetensors      (python -m purify.terd)
writes  --out

  python -m purify.terd.rule results/terd --out purify/terd/calibration.json
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common import checkpoint, cli, files
from common.cli import UserError
from common.state_dicts import reading
from models.diffusion.denoiser import Denoiser

FILE = Path(__file__).with_name("calibration.json")
SIGMAS = 3
SEPARABLE = 10.8  # nats: 2 * 2.326^2, where the error of the best test is 1 %
VALUES = 768  # of an image of 16 pixels
ENOUGH = 3  # benign networks that a rule needs at least
FULL = "full"  # the range of networks that are trained up to the last step of a linear schedule


def divergence(r: torch.Tensor, gamma: float) -> tuple[float, float]:
    """(M_r, V_r): mean and variance over dimensions of KL(N(r_i, gamma^2) || N(0, 1)) = -log gamma + (gamma^2
    + r_i^2 - 1) / 2.

    r (3, H, W); gamma > 0, a number
    """
    kl = -math.log(gamma) + (gamma**2 + r.double().square() - 1) / 2
    return float(kl.mean()), float(kl.var())


def limits(benign: Sequence[tuple[float, float]]) -> dict[str, tuple[float, float]] | None:
    """{"mean_kl": (mean, std), "var_kl": (mean, std)} of benign networks [(M_r, V_r), ...]; None for fewer
    than ENOUGH."""
    if len(benign) < ENOUGH:
        return None
    values = np.asarray(benign, np.float64)
    return {
        key: (float(values[:, i].mean()), float(values[:, i].std(ddof=1)))
        for i, key in enumerate(("mean_kl", "var_kl"))
    }


def score(mean_kl: float, benign: Sequence[tuple[float, float]]) -> float | None:
    """Standard deviations of M_r above benign networks; None where there is no rule."""
    known = limits(benign)
    return None if known is None else (mean_kl - known["mean_kl"][0]) / max(known["mean_kl"][1], 1e-12)


def flagged(mean_kl: float, var_kl: float, benign: Sequence[tuple[float, float]], dims: int) -> bool:
    """Whether (M_r, V_r) of a trigger of `dims` values is a backdoor by the benign-only rule.  benign: [(M_r,
    V_r), ...], at least ENOUGH"""
    known = limits(benign)
    if known is None:
        raise ValueError(
            f"{len(benign)} benign networks: the rule needs the standard deviation of at least {ENOUGH}"
        )
    beyond = any(
        value > known[key][0] + SIGMAS * known[key][1]
        for key, value in (("mean_kl", mean_kl), ("var_kl", var_kl))
    )
    return beyond and mean_kl > floor(dims)


def floor(dims: int) -> float:
    """The smallest M_r that can be a backdoor, of a trigger of so many values."""
    return SEPARABLE / min(dims, VALUES)


def _logs(pairs):
    return np.log10(np.asarray(pairs, np.float64) + 1e-4)


def fit(benign: Sequence[tuple[float, float]], backdoored: Sequence[tuple[float, float]]) -> dict:
    """The fitted rule, as JSON types: logistic regression on log10 of (M_r, V_r), both kinds of network
    weighing the same."""
    from sklearn.linear_model import LogisticRegression  # on use: every test of a purifier loads this file

    x, y = np.concatenate([_logs(benign), _logs(backdoored)]), [0] * len(benign) + [1] * len(backdoored)
    fitted = LogisticRegression(class_weight="balanced").fit(x, y)
    return {"weights": fitted.coef_[0].round(6).tolist(), "bias": round(float(fitted.intercept_[0]), 6)}


def probability(mean_kl: float, var_kl: float, fitted: dict) -> float:
    """That a network is backdoored, by a rule of fit()."""
    return float(
        torch.sigmoid(
            torch.tensor(
                float(_logs([(mean_kl, var_kl)])[0] @ np.asarray(fitted["weights"]) + fitted["bias"])
            )
        )
    )


class Calibration:
    """What the rules know: {plan: {range: {"benign": [{"name", "sha256", "mean_kl", "var_kl"}, ...],
    "backdoored": [...]}}}.

    Raises UserError for a file that is damaged; a missing one knows nothing.
    """

    def __init__(self, path: Path | str = FILE):
        self.path = Path(path)
        try:
            self.known = json.loads(self.path.read_text())
            for kinds in (part for ranges in self.known.values() for part in ranges.values()):
                [
                    (row["sha256"], float(row["mean_kl"]), float(row["var_kl"]))
                    for kind in ("benign", "backdoored")
                    for row in kinds[kind]
                ]
        except FileNotFoundError:
            self.known = {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise UserError(
                f"{path}: not a calibration of purify.terd ({' '.join(str(e).split())[:80]})"
            ) from e

    def plan(self, wanted: str, range_: str) -> str | None:
        """The plan whose networks judge a scan by `wanted`: itself, else the reduced one (TERD's rules
        carried over from one setting to others); or None."""
        return next(
            (
                name
                for name in (wanted, "reduced")
                if len(self._rows(name, range_, "benign", None)) >= ENOUGH
                and (range_ == FULL or self._rows(name, range_, "backdoored", None))
            ),
            None,
        )

    def _rows(self, plan, range_, kind, sha256):
        rows = self.known.get(plan, {}).get(range_, {}).get(kind, [])
        return [(row["mean_kl"], row["var_kl"]) for row in rows if row["sha256"] != sha256]

    def judge(
        self, plan: str, range_: str, mean_kl: float, var_kl: float, dims: int, sha256: str
    ) -> dict | None:
        """What the rules say of a network, or None without a rule for its range.

        Returns: {"flagged" bool, "score", "fitted" (probability or None), "rule" text, "limits" {"mean_kl",
                 "var_kl", "floor"}}
        """
        source = self.plan(plan, range_)
        benign = [] if source is None else self._rows(source, range_, "benign", sha256)
        if len(benign) < ENOUGH:
            return None
        backdoored, known = self._rows(source, range_, "backdoored", sha256), limits(benign)
        return {
            "flagged": flagged(mean_kl, var_kl, benign, dims),
            "score": score(mean_kl, benign),
            "fitted": probability(mean_kl, var_kl, fit(benign, backdoored)) if backdoored else None,
            "rule": (
                f"benign-only, {len(self._rows(source, range_, 'benign', None))} networks"
                + ("" if source == plan else f" of the plan {source}")
            ),
            "limits": {
                **{key: mean + SIGMAS * std for key, (mean, std) in known.items()},
                "floor": floor(dims),
            },
        }


def range_of(denoiser: Denoiser) -> str:
    """What a network was trained over, as the rules tell networks apart: FULL, the last step of a truncated
    one ("300"); behind it any other schedule than linear."""
    schedule = denoiser.meta.get("options", {}).get("noise_schedule", "linear")
    reached = FULL if denoiser.max_timestep > denoiser.kept[-1] else str(denoiser.max_timestep)
    return reached if schedule == "linear" else f"{reached}-{schedule}"


def collect(folder: Path | str) -> dict:
    """The content of a calibration from every trigger.safetensors below a folder; networks of which nothing
    is known and one-off plans are left out."""
    known, seen = {}, set()
    for path in sorted(Path(folder).rglob("trigger.safetensors")):
        meta = checkpoint.read_weights(path)[1]
        key = (meta.get("plan"), meta.get("range"), meta.get("sha256"))
        standard = meta.get("truth") is not None and meta.get("standard")
        if meta.get("kind") != "terd-trigger" or not standard or key in seen:
            continue
        seen.add(key)
        kinds = known.setdefault(key[0], {}).setdefault(key[1], {"benign": [], "backdoored": []})
        with reading(path, "a trigger of purify.terd"):
            row = {k: meta[k] for k in ("name", "sha256", "mean_kl", "var_kl")}
        kinds["backdoored" if meta["truth"] else "benign"].append(row)
    return known


@dataclass(frozen=True, kw_only=True)
class Options:
    """The values of a calibration."""

    folder: str
    out: str
    debug: bool


def parse_args(argv: list[str] | None = None) -> Options:
    p = cli.ArgumentParser(prog="python -m purify.terd.rule", description=__doc__)
    p.add_argument("folder", metavar="FOLDER", help="results of scans")
    p.add_argument(
        "--out", default=str(FILE), metavar="FILE.json", help="default: the shipped calibration.json"
    )
    return cli.resolve(Options, p.parse_args(argv))


def main(argv: list[str] | None = None) -> None:
    options = parse_args(argv)
    if not Path(options.folder).is_dir():
        raise UserError(f"{options.folder}: no such folder; python -m purify.terd writes one")
    known = collect(options.folder)
    if not any(kinds["benign"] for ranges in known.values() for kinds in ranges.values()):
        raise UserError(
            f"{options.folder}: holds no scan of a network that is known to be benign (python -m purify.terd"
            " CHECKPOINT --search_only, of networks that python -m models.diffusion.train made)"
        )
    files.write_json(options.out, known)
    for plan, ranges in known.items():
        for range_, kinds in ranges.items():
            print(
                f"{plan}, range {range_}: {len(kinds['benign'])} benign, {len(kinds['backdoored'])}"
                " backdoored networks"
            )
    print(f"calibration: {options.out}")


if __name__ == "__main__":
    cli.run(main)
