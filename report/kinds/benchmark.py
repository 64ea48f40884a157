"""Kind benchmark: seconds of the pieces that matter beside those of a reference, and the cost of a test
against the number of photos; no table, a marker of its own."""

from report.comparison import Comparison
from report.kind import Kind, Marker
from report.markers import OPTIONS, NoRecords
from report.record import Record
from report.schema import COST, COUNT, PROVENANCE
from report.text import DASH, markdown_table, number

# metrics: {what was timed: {"seconds", "reference_seconds", "ratio", ...}}; of a scale {photos:
# {"wall_seconds", "cpu_per_photo", ...}}
SCHEMA = {
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
    "processes": (
        "two processes of one thread (reference: half the seconds of one, so that the ratio is the"
        " efficiency)"
    ),
}


UNITS = {
    "attack": "attack",
    "one-step": "`one-step`",
    "ddpm": "`ddpm`, 10 steps",
    "diffpure": "`diffpure`, {start} steps (the reference of purifiers)",
    "fakes": "fakes in all domains",
}
OWN = {
    "name": lambda path, record, name: record.name == name,
    "size": lambda path, record, size: record.config["image_size"] == size,
    "under": OPTIONS["under"],
}
USUAL = {"name": "benchmark"}


def benchmark_part(comparison: Comparison, dataset: str, options: dict) -> str:
    """What a benchmark marker asks for: the newest record of the data set; name=official or name=scale of
    another name."""
    asked = {**USUAL, **options}
    benchmarks = [
        (path, f)
        for path, f in comparison.others
        if f.kind == "benchmark"
        and f.dataset == dataset
        and all(OWN[key](path, f, value) for key, value in asked.items())
    ]
    if not benchmarks:
        raise NoRecords(
            "asks for a benchmark record, and there is none: python -m evaluation.benchmark"
            f"{COMMANDS.get(asked['name'], '')} --result_dir results"
        )
    _, newest = max(benchmarks, key=lambda pair: str(pair[1].provenance.get("finished")))
    return PARTS.get(newest.name, demo_part)(newest)


def _ratio(m):
    if m["ratio"] is None:
        return DASH
    return f"{m['ratio']:.1f} ({m['ratio_low']:.1f} - {m['ratio_high']:.1f})"


def _machine(newest):
    return newest.cost.get("device", DASH)


def _turns(newest):
    config = newest.config
    size, repeats = config["image_size"], config["repeats"]
    photos = f"{config['num_images']} photos of {size} x {size}"
    return f"{_machine(newest)}; {photos}, medians of {repeats} turns"


def demo_part(newest: Record) -> str:
    """The comparisons of the networks that ship; a ratio near 1 is an efficiency and has two digits."""
    config, cells = newest.config, []
    for name, m in newest.metrics.items():
        label = BENCHMARKS.get(name, name).format(
            start=config["diffpure_start"], decoded=config.get("num_decoded")
        )
        seconds = [number(m[key], "short") for key in ("seconds", "reference_seconds")]
        ratio = f"{m['ratio']:.2f} ({m['ratio_low']:.2f} - {m['ratio_high']:.2f})"
        cells.append([label, *seconds, ratio if name == "processes" else _ratio(m)])
    lines = markdown_table(["seconds per photo, or per epoch", "ours", "reference", "ratio"], cells, left=1)
    return "\n".join(lines) + f"\n\n{_turns(newest)}, ratio with its range."


def official_part(newest: Record) -> str:
    """The rows of the published sizes; what no row of the record has is no column."""
    columns = {
        "tflops_per_second": ("TFLOP/s", lambda v: number(v, "short")),
        "share_of_product": ("of the matrix product", lambda v: f"{v:.1%}"),
        "peak_memory_mb": ("peak MB", lambda v: f"{v:.0f}"),
        "joules_per_photo": ("J per photo", lambda v: number(v, "short")),
    }
    every = newest.metrics.values()
    shown = [key for key in columns if any(m[key] is not None for m in every)]
    cells = []
    for row, m in newest.metrics.items():
        base = row.removesuffix("-bf16")
        name = UNITS.get(base, f"`{base}`").format(start=newest.config["diffpure_start"])
        unit = "photo" if m["unit"] == "photo" else f"step of {m['photos_per_unit']}"
        line = [f"{name}, {m['precision']}, a {unit}"]
        line += [number(m[key], "short") for key in ("seconds", "reference_seconds")] + [_ratio(m)]
        cells.append(line + [DASH if m[key] is None else columns[key][1](m[key]) for key in shown])
    heads = ["seconds", "ours", "reference", "ratio", *(columns[key][0] for key in shown)]
    return "\n".join(markdown_table(heads, cells, left=1)) + f"\n\n{_turns(newest)}, ratio with its range."


def scale_part(newest: Record) -> str:
    """The cost of a test against the number of photos."""
    cells = [
        [
            str(m["num_images"]),
            f"{m['wall_seconds']:.0f}",
            *(number(m[key], "short") for key in ("cpu_per_photo", "besides_per_photo")),
            *(DASH if m[key] is None else f"{m[key]:.0f}" for key in ("peak_memory_mb", "peak_anonymous_mb")),
        ]
        for m in newest.metrics.values()
    ]
    heads = ["photos", "seconds", "CPU s a photo", "besides networks", "peak MB", "not of files"]
    grown = newest.per_group.get("growth")
    said = (
        ""
        if grown is None
        else f"; from the first to the last {grown['memory_mb']:+.0f} MB, a further photo"
        f" {number(grown['cpu_per_further_photo'], 'short')} CPU s,"
        f" {number(grown['besides_per_further_photo'], 'short')} of them besides networks"
    )
    size = newest.config["image_size"]
    return "\n".join(markdown_table(heads, cells, left=0)) + f"\n\n{_machine(newest)}; {size} x {size}{said}."


PARTS = {"official": official_part, "scale": scale_part}
COMMANDS = {"official": " --architecture official", "scale": " --scale"}

KIND = Kind(
    name="benchmark",
    schema=SCHEMA,
    markers={"benchmark": Marker(benchmark_part, OWN, "the newest benchmark record")},
)
