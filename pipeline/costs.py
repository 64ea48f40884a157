"""What purifying has cost, and the noise levels found, saved with each batch: who is killed loses none."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from common import files

NOTHING = {"images": 0, "seconds": 0.0, "evaluations": 0.0, "found": []}


def total(rows: Sequence[dict]) -> dict:
    """The sum of what several rows say, each of the form of NOTHING."""
    result = dict(NOTHING)
    for row in rows:
        for key in ("images", "seconds", "evaluations"):
            result[key] += row[key]
        a, b = result["found"], row["found"]
        result["found"] = [x + y for x, y in zip(a, b, strict=True)] if a and b else a or b
    return result


class Costs:
    """One JSON file: images, seconds, network evaluations and the sums `found` (purify.level) of what is
    made, and of the batch that was being written, whose images may not all be there."""

    def __init__(self, path: Path):
        self.path = path
        try:
            saved = json.loads(path.read_bytes())
            self.writing = saved.pop("writing", None)
            self.made = total([{"found": self._sums_of(saved), **saved}])
            self.old = None if "found" in saved else saved["measured"]
            if self.writing is not None:
                total([self.writing]), self.writing["names"]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            # none yet, or damaged by a power cut
            self.made, self.writing, self.old = dict(NOTHING), None, None

    @staticmethod
    def _sums_of(saved):
        """Of files that hold mean and standard deviation in place of sums."""
        mean, std = (saved.get("measured", {}).get(f"level_{name}") for name in ("mean", "std"))
        n = saved["images"]
        return [] if mean is None else [n, n * mean, n * (std * std + mean * mean)]

    @property
    def all(self) -> dict:
        """Of all images, the batch that was written last with them."""
        return total([self.made, *([self.writing] if self.writing else [])])

    def settle(self, there: Callable[[str], bool]) -> list[str]:
        """Count the batch that was being written, or forget it where one of its images is missing.  Returns
        the names that are to be made again for it."""
        writing, self.writing = self.writing, None
        if writing is None or all(map(there, writing["names"])):
            self.made = total([self.made, *([writing] if writing else [])])
            return []
        return writing["names"]

    def write(self, names: Sequence[str], seconds: float, evaluations: float, found: list[float]) -> None:
        """Say what a batch has cost before its images are written; those of the one before it are there."""
        self.settle(lambda name: True)
        self.writing = {"names": list(names), "images": len(names), "seconds": seconds}
        self.writing |= {"evaluations": evaluations, "found": found}
        self.old = None
        files.write_atomic(self.path, json.dumps({**self.made, "writing": self.writing}) + "\n")
