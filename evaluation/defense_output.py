"""What a test of a defence says on the console: its own lines, and one line a defence where there are
several."""

from report.record import Record


def _interval(figures: dict) -> str:
    return "[{:.3g}, {:.3g}]".format(*figures["l2_ci"]) if figures["l2_ci"] else "[one photo]"


def summary(result: Record) -> str:
    """What a run found: the fakes of each side against those of the photos, and the photos themselves."""
    m = result.metrics
    lines = [
        f"{side:15s} l2 {m[side]['l2']:.5f} {_interval(m[side])}, disrupted pairs {m[side]['prop_dist']:.3f}"
        for side in ("disrupted", "purified", "clean_purified")
    ]
    photos = {side: m["input"][side]["l2"] for side in ("disrupted", "purified")}
    lines.append(
        f"photo           disrupted l2 {photos['disrupted']:.5f}, purified l2 {photos['purified']:.5f}"
    )
    if worst := result.config.get("worst"):
        lines.append(_won(worst))
        if worst["masked"]:
            lines.append("note: gradient-free beats the exact gradient: it is masked")
    return "\n".join(lines)


def _won(worst: dict) -> str:
    return "worst: " + ", ".join(f"{name} {count}" for name, count in worst["won"].items() if count)


def line(result: Record) -> str:
    """One defence among several."""
    purified = result.metrics["purified"]
    return (
        f"{result.name:24s} l2 purified {purified['l2']:.5f} {_interval(purified)},"
        f" pairs disrupted {purified['prop_dist']:.3f}"
        + (f"; {_won(result.config['worst'])}" if result.config.get("worst") else "")
    )
