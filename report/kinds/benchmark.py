"""Kind benchmark: seconds of the pieces that matter beside those of a reference; no table, a marker of its
own."""

from report.comparison import Comparison
from report.kind import Kind, Marker
from report.markers import OPTIONS, NoRecords
from report.schema import COST, COUNT, PROVENANCE
from report.text import DASH, markdown_table, number

SCHEMA = {  # metrics: {what was timed: {"seconds", "reference_seconds", "ratio"}}
    "config": {"num_images": COUNT, "image_size": COUNT},
    "metrics": {},
    "per_group": {},
    "cost": COST,
    "provenance": PROVENANCE,
}
BENCHMARKS = {
    "attack": "attack (reference: parameter gradients on, one attack per target domain)",
    "attack-bf16": "the same in bf16",
    "dadfi": (
        "`dadfi`, one pass of a generator (reference: `pgd` with target clean, 10 steps; both without files)"
    ),
    "one-step": "`one-step` (reference: diffpure, {start} steps of a network of the same size)",
    "ddpm": "`ddpm`, 10 steps (same reference)",
    "loading": "an epoch of loading {decoded} photos from the crop cache (reference: decoding each time)",
    "detector": (
        "an epoch of a frozen `mobilenet_v2`'s head over {decoded} photos (reference: its base evaluated each"
        " time)"
    ),
}


def benchmark_part(comparison: Comparison, dataset: str, options: dict) -> str:
    """What a benchmark marker asks for: the newest record of the data set."""
    benchmarks = [
        (path, f) for path, f in comparison.others if f.kind == "benchmark" and f.dataset == dataset
    ]
    if not benchmarks:
        raise NoRecords(
            "asks for a benchmark record, and there is none: python -m evaluation.benchmark --result_dir"
            " results"
        )
    _, newest = max(benchmarks, key=lambda pair: str(pair[1].provenance.get("finished")))
    config, cells = newest.config, []
    for name, m in newest.metrics.items():
        label = BENCHMARKS.get(name, name).format(
            start=config["diffpure_start"], decoded=config["num_decoded"]
        )
        cells.append(
            [
                label,
                number(m["seconds"], "short"),
                number(m["reference_seconds"], "short"),
                f"{m['ratio']:.1f} ({m['ratio_low']:.1f} - {m['ratio_high']:.1f})",
            ]
        )
    lines = markdown_table(["seconds per photo, or per epoch", "ours", "reference", "ratio"], cells, left=1)
    return (
        "\n".join(lines)
        + f"\n\n{newest.cost.get('device', DASH)}; {config['num_images']} photos of {config['image_size']} x"
        f" {config['image_size']}, medians of {config['repeats']} turns, ratio with its range."
    )


KIND = Kind(
    name="benchmark",
    schema=SCHEMA,
    markers={"benchmark": Marker(benchmark_part, OPTIONS, "the newest benchmark record")},
)
