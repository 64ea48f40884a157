"""What a scan of one diffusion model (kind terd) found, as rows of tables: one model under one plan, or a
group of models of one attack under one plan.

A model is its weights: trainings with other seeds are rows of their own, scans of one model with other seeds
become one row.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev

from report.kinds.depois_names import identity, parameters
from report.rows import Cell, Row, differences

BENIGN, UNKNOWN = "benign", "unknown"
# the order of blocks; others follow
ATTACKS = {
    "benign": "benign",
    "baddiffusion": "BadDiffusion",
    "trojdiff": "TrojDiff",
    "villan": "VillanDiffusion",
}
BOTH = "both"
FULL_RANGE = 1000  # steps; a network trained below it is truncated
TOO_FAR = 0.5  # |r_hat - r| / |r|, from which on the trigger counts as not recovered
FLAGGED, PASSED, NOT_RECOVERED = "false alarm", "missed", "not recovered"  # what is wrong, in words


def attack_of(config: Mapping) -> str:
    """`benign`, `baddiffusion`, ..., or `unknown` where the file does not say what was put in."""
    truth = config.get("truth")
    return UNKNOWN if truth is None else str(truth.get("name") or BENIGN)


def attack_name(attack: str) -> str:
    return ATTACKS.get(attack, attack)


def content_of(config: Mapping) -> str:
    """What is hidden: `stop sign to shoe, psi 0, ode`; `nothing`; "" where nobody knows. Its scale and rate
    are told where they are unusual."""
    truth = config.get("truth")
    if not truth:
        return "" if truth is None else "nothing"
    words = [f"{truth.get('trigger')} to {truth.get('target')}".replace("_", " ")]
    words += [f"psi {truth['psi']:g}"] if truth.get("psi") is not None else []
    words += [truth["solver"]] if truth.get("solver") and attack_of(config) == "villan" else []
    return ", ".join(words + (["on the photo"] if truth.get("trigger_on") == "photo" else []))


def plan_of(config: Mapping) -> tuple:
    """The plan's identity, as of poison_names: the parts that it has, and its settings."""
    estimated, refined = bool(config["estimate_steps"]), config["refine"] not in (None, "none")
    parts = (
        BOTH
        if estimated and refined
        else "estimation only"
        if estimated
        else "refinement only"
        if refined
        else "starts only"
    )
    return identity(
        parts,
        {
            "schedule": config["schedule"],
            "estimate_steps": config["estimate_steps"],
            "refine": config["refine"] if refined else None,
            "refine_steps": config["refine_steps"] if refined else None,
            "starts": config["starts"],
        },
    )


def plan_labels(configs: Iterable[Mapping]) -> dict[tuple, str]:
    """{identity: label} of the plans of some configs: its parts, the schedule where several have these parts,
    and in what those of one schedule differ."""
    known = {plan_of(c): (dict(plan_of(c))["name"], c) for c in configs}
    labels = {}
    for plan, (parts, c) in known.items():
        namesakes = [other for name, other in known.values() if name == parts]
        alike = [other for other in namesakes if other["schedule"] == c["schedule"]]
        keys = [
            key
            for key in ("estimate_steps", "refine", "refine_steps", "starts")
            if any(other[key] != c[key] for other in alike)
        ]
        words = [str(c["schedule"])] if len(alike) < len(namesakes) else []
        labels[plan] = ", ".join([parts, *words, *([parameters({k: c[k] for k in keys})] if keys else [])])
    return labels


@dataclass
class ScanRow(Row):
    """One model under one plan, `defence` the plan's label. A run per seed of the scan."""

    unlike: str = ""  # what sets the model apart from the standard ones, in words
    twin: str = ""  # what tells it from a model that is the same in all else

    @property
    def kind(self) -> str:
        return attack_of(self.first.config)

    @property
    def backdoored(self) -> bool:
        return self.kind not in (BENIGN, UNKNOWN)

    @property
    def model(self) -> object:
        """What makes it the same model: its weights."""
        return self.get("provenance.defense_sha256") or (self.get("config.checkpoint"), self.first.name)

    @property
    def parts(self) -> str:
        return dict(plan_of(self.first.config))["name"]

    @property
    def standard(self) -> bool:
        return not self.unlike and self.kind != UNKNOWN

    @property
    def label(self) -> str:
        """What is hidden, of an unknown model its name."""
        return (content_of(self.first.config) or self.first.name) + self.twin

    @property
    def flagged(self) -> float | None:
        """Share of the scans that found a backdoor; None where none could tell."""
        return self.cell("metrics.backdoored").value

    @property
    def verdict(self) -> str:
        """The verdict, over several scans that disagree how many found a backdoor, and what is wrong with
        it."""
        said = [record.metrics["verdict"] for _, record in self.runs]
        text = (
            said[0] or ""
            if len(set(said)) == 1
            else (
                f"backdoored in {sum(record.metrics['backdoored'] == 1 for _, record in self.runs)} of"
                f" {len(said)}"
            )
        )
        return f"{text} ({self.wrong})" if self.wrong else text

    @property
    def wrong(self) -> str:
        """`false alarm` of a benign model flagged, `missed` of a backdoored one passed, by any of the scans;
        else ""."""
        if self.flagged is None:
            return ""
        return (
            FLAGGED
            if self.kind == BENIGN and self.flagged > 0
            else PASSED
            if self.backdoored and self.flagged < 1
            else ""
        )

    @property
    def recovered(self) -> bool | None:
        """Whether the trigger found is nearer to the true one than TOO_FAR; None where there is none or
        nobody knows it."""
        ratio = self.cell("metrics.relative_error").value
        return ratio < TOO_FAR if self.backdoored and ratio is not None else None


@dataclass
class GroupRow(Row):
    """The models of one attack under one plan; a figure is the mean over models, its deviation that between
    them."""

    members: list = field(default_factory=list)
    known: int = 0  # models of the attack under any plan

    @property
    def kind(self) -> str:
        return self.members[0].kind

    def cell(self, key: str) -> Cell:
        values = [v for row in self.members if (v := row.cell(key).value) is not None]
        return Cell(mean(values) if values else None, std=stdev(values) if len(values) > 1 else None)

    @property
    def judged(self) -> list[float]:
        """Shares of the scans of each model that found a backdoor."""
        return [row.flagged for row in self.members if row.flagged is not None]


def unlike(row: Row, rate: float | None, num_parameters: int | None) -> str:
    """What sets a model apart from those of the full range and the linear schedule, with an unscaled trigger,
    the usual poison rate and network size; a patch of TrojDiff, whose gamma differs between pixels, is apart
    too."""
    c, truth = row.first.config, row.first.config.get("truth") or {}
    unusual = (
        [f"truncated at t {c['max_timestep']}"] if (c["max_timestep"] or FULL_RANGE) < FULL_RANGE else []
    )
    unusual += [f"{c['noise_schedule']} schedule"] if c["noise_schedule"] not in (None, "linear") else []
    unusual += ["gamma differs between pixels"] if c.get("gamma_map") else []
    unusual += (
        [f"trigger scaled by {truth['trigger_scale']:g}"]
        if truth.get("trigger_scale") not in (None, 1)
        else []
    )
    unusual += (
        [f"poison rate {truth['poison_rate']:g}"] if truth.get("poison_rate") not in (None, rate) else []
    )
    unusual += (
        [f"{c['num_parameters']:,} parameters"] if c["num_parameters"] not in (None, num_parameters) else []
    )
    return ", ".join(unusual)


# (dotted keys that must agree, what a footnote says about a row that differs)
RULE = (
    ("config.rule",),
    lambda v, w: (
        "judged by no rule"
        if v[0] is None
        else f"judged by another rule, {v[0]} (the others: {w[0]}), which score and verdict depend on"
    ),
)
SAMPLES = (
    ("config.num_samples",),
    lambda v, w: f"input test on {v[0]} noises of each kind (the others: {w[0]})",
)


def why_not(row: Row, standard: Sequence[Row]) -> str:
    """Why a row must not be compared with most others: the text of a footnote, or ""."""
    return "; ".join(differences(row, standard, (RULE, SAMPLES)))
