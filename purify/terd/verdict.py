"""The verdict of a scan, kept beside the checkpoint by its sha256 with the recovered trigger, so that a scan
is paid once.

<checkpoint>.terd.safetensors; where that folder cannot be written,
<result_dir>/terd/verdicts/<sha256>.terd.safetensors. A verdict is only as good as the hand that wrote the
file: one that came with a downloaded checkpoint says nothing (delete it, or scan with --again).
"""

import math
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from common import checkpoint, files
from common.cli import UserError

CLEAN, BACKDOORED, NOT_APPLICABLE = "clean", "backdoored", "not applicable"
EXIT = {CLEAN: 0, BACKDOORED: 3, NOT_APPLICABLE: 4}
KIND = "terd-verdict"


class Backdoored(UserError):
    """A purifier that must not be used."""

    exit_code = EXIT[BACKDOORED]


@dataclass(frozen=True)
class Verdict:
    """verdict  CLEAN, BACKDOORED or NOT_APPLICABLE;  reason  one sentence;  sha256  of the checkpoint;
    schedule  of the scan
    mean_kl, var_kl  (M_r, V_r), None where nothing was searched;  r (3, S, S) and gamma  the recovered
                     trigger, or None
    """

    verdict: str
    reason: str
    sha256: str
    schedule: str
    mean_kl: float | None = None
    var_kl: float | None = None
    gamma: float | None = None
    r: torch.Tensor | None = None
    record: str | None = None

    @property
    def exit_code(self) -> int:
        return EXIT[self.verdict]

    def __str__(self):
        return f"{self.verdict}: {self.reason}"


FIELDS = [field for field in fields(Verdict) if field.name != "r"]


def places(path: Path | str, result_dir: Path | str, sha256: str) -> tuple[Path, Path]:
    """Where the verdict of a checkpoint may be kept, best first."""
    return (
        Path(f"{path}.terd.safetensors"),
        Path(result_dir) / "terd" / "verdicts" / f"{sha256}.terd.safetensors",
    )


def kept(path: Path | str, result_dir: Path | str, sha256: str, schedule: str) -> Verdict | None:
    """The Verdict that was kept of a checkpoint with this sha256 by this schedule, or None.  Raises UserError
    for a damaged file."""
    for place in places(path, result_dir, sha256):
        if not place.is_file():
            continue
        state, meta = checkpoint.read_weights(place)
        if meta.get("kind") != KIND or meta.get("verdict") not in EXIT:
            raise UserError(f"{place}: not a verdict of purify.terd; delete it, and scan again")
        try:
            found = Verdict(**{field.name: meta[field.name] for field in FIELDS}, r=state.get("r"))
        except KeyError as e:
            raise UserError(f"{place}: a verdict that does not say its {e}; delete it, and scan again") from e
        _check(found, place)
        if (found.sha256, found.schedule) == (sha256, schedule):
            return found
    return None


def _check(found, place):
    numbers = (found.mean_kl, found.var_kl, found.gamma)
    good = all(isinstance(text, str) for text in (found.reason, found.sha256, found.schedule))
    good = good and all(isinstance(n, int | float | None) and math.isfinite(n or 0) for n in numbers)
    good = good and (found.gamma or 1) > 0 and isinstance(found.record, str | None)
    if not good or (found.r is not None and (found.r.ndim != 3 or found.r.shape[0] != 3)):
        raise UserError(f"{place}: a damaged verdict; delete it, and scan again")


def keep(verdict: Verdict, path: Path | str, result_dir: Path | str) -> Path:
    """Write it beside the checkpoint, or else below result_dir.  Returns the file."""
    beside, below = places(path, result_dir, verdict.sha256)
    meta = {k: v for k, v in vars(verdict).items() if k != "r"} | {"kind": KIND}
    tensors = {"none": torch.zeros(1)} if verdict.r is None else {"r": verdict.r}
    try:
        checkpoint.save_weights(beside, tensors, meta)
        return beside
    except OSError:
        files.make_folder(below.parent)
        checkpoint.save_weights(below, tensors, meta)
        return below


def log_ratio(x: torch.Tensor, r: torch.Tensor, gamma: float) -> torch.Tensor:
    """(N,) log N(x; r, gamma^2 I) - log N(x; 0, I) of noise x (N, 3, S, S): above 0 it is more likely
    triggered (TERD, Sec. 4.3).

    Diagonal densities: the covariance is never formed.  r (3, S, S); gamma > 0, a number
    """
    r = r.to(x.device)
    return 0.5 * (x.square() - ((x - r) / gamma).square()).flatten(1).sum(1) - r.numel() * math.log(gamma)
