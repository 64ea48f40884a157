"""The figures of evaluation.triggered as a picture and as a table."""

import numpy as np
import torch

from common import images
from evaluation.triggered_rows import SHOWN, Rows

COLUMNS = {
    "to_target": "MSE to target",
    "reached": "target reached",
    "nearer": "nearer to target than to photo",
    "to_photo": "MSE to photo",
    "noise_rms": "rms of the noise seen",
    "fake_l2": "l2 of fakes",
    "disrupted": "fakes disrupted",
}


def draw_grid(rows: Rows, purifiers: list[str], methods: list[str], ways: list[str]) -> np.ndarray:
    """Row: a photo and a purifier. Columns: the photo, the same with the trigger, for each method both
    purified; then the fakes of the photo, of the one with the trigger, and of that purified by each method.
    White: not measured."""
    way = next((w for w in ways if w != "scaled"), "none")
    blank = torch.ones_like(rows.x[0])

    def cell(key, n, fake=False):
        return blank if key not in rows.shown or rows.shown[key][fake] is None else rows.shown[key][fake][n]

    # not those that no network reaches
    methods = [m for m in methods if any(key[1] == m for key in rows.shown)]
    lines = []
    for n in range(min(SHOWN, len(rows.x))):
        for name in purifiers:
            row = [cell(("none", "none", w), n) for w in ("none", way)] + [
                cell((name, m, w), n) for m in methods for w in ("none", way)
            ]
            if rows.translator is not None:
                row += [cell(("none", "none", w), n, True) for w in ("none", way)] + [
                    cell((name, m, way), n, True) for m in methods
                ]
            lines.append(row)
    return images.make_grid(lines, scale=2 if rows.x.shape[-1] < 64 else 1)


def write_table(result: dict) -> str:
    """Markdown: a row for each purifier, method and way, means with 95% intervals over photos."""
    keys = [k for k in COLUMNS if any(k in row for row in result["rows"])]

    def show(row, k):
        return (
            ""
            if row.get(k) is None
            else f"{row[k]:.3f}"
            + (f" [{row[k + '_ci'][0]:.3f}, {row[k + '_ci'][1]:.3f}]" if row[k + "_ci"] else "")
        )

    hides = {
        name: said["backdoor"]["name"] if said["backdoor"] else "nothing"
        for name, said in result["purifiers"].items()
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
        for row in result["rows"]
    ]
    return (
        f"{result['num_images']} photos, trigger {result['trigger']}, target {result['target']}; l2 of fakes:"
        " to the fakes of the photos themselves\n\n"
        + "".join("| " + " | ".join(line) + " |\n" for line in lines)
    )
