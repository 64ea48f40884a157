"""What a record of a kind must hold: the types that stand in a schema, the parts that several kinds share,
and the check."""

from dataclasses import dataclass

# What stands in a schema: a type (null is allowed everywhere), a dict of named parts, Each(schema), a tuple:
# one of several, or Later(schema).
NUMBER, COUNT, TEXT, LIST, DICT, INTERVAL = (
    "number",
    "whole number",
    "text",
    "list",
    "object",
    "interval [low, high]",
)


LARGEST = 1e300  # what is squared or scaled for a table may still be a float


@dataclass(frozen=True)
class Each:
    """An object of any names, each of whose values fits `schema`."""

    schema: dict


@dataclass(frozen=True)
class Later:
    """What older records of the kind lack, and what it must be where it is."""

    schema: object


def means(*keys: str) -> dict:
    """Each mean stands with its standard deviation and its 95% interval."""
    return {
        name: kind
        for key in keys
        for name, kind in ((key, NUMBER), (key + "_std", NUMBER), (key + "_ci", INTERVAL))
    }


def scores(*keys: str) -> dict:
    """Figures of a whole set, which have an interval but no standard deviation."""
    return {name: kind for key in keys for name, kind in ((key, NUMBER), (key + "_ci", INTERVAL))}


FAKES = {
    **means("l1", "l2", "prop_dist", "l2_mask", "sr_mask", "psnr", "ssim"),
    "linf": NUMBER,
    "empty_masks": COUNT,
    "fid": NUMBER,
    "kid": NUMBER,
    "frechet": NUMBER,
}
PHOTOS = {**means("l2", "psnr", "ssim"), "linf": NUMBER}
FEATURES = {"name": TEXT, "sha256": TEXT, "resize": TEXT, "backend": TEXT}
PROVENANCE = {
    "commit": TEXT,
    "command": TEXT,
    "versions": DICT,
    "started": (TEXT, NUMBER),
    "finished": (TEXT, NUMBER),
}
COST = {"device": TEXT}


def _fits(value, kind):
    if isinstance(kind, tuple):
        return any(_fits(value, k) for k in kind)
    if value is None:
        return True
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    number = number and abs(value) <= LARGEST  # neither NaN nor a whole number beyond all floats
    if kind == INTERVAL:
        return (
            isinstance(value, list)
            and len(value) == 2
            and all(v is not None and _fits(v, NUMBER) for v in value)
            and value[0] <= value[1]
        )
    return {
        NUMBER: number,
        COUNT: number and value == int(value),
        TEXT: isinstance(value, str),
        LIST: isinstance(value, list),
        DICT: isinstance(value, dict),
    }[kind]


def problems_of(value: object, schema: object, where: str) -> list[str]:
    """What of a JSON value does not fit a schema, one line each, `where` in front."""
    if isinstance(schema, Later):
        schema = schema.schema
    if isinstance(schema, Each):
        schema = {key: schema.schema for key in value} if isinstance(value, dict) else {}
    if not isinstance(schema, dict):
        kinds = schema if isinstance(schema, tuple) else (schema,)
        return (
            []
            if _fits(value, schema)
            else [f"{where}: expected {' or '.join(kinds)} or null, found {value!r:.60}"]
        )
    if value is None:
        return []
    if not isinstance(value, dict):
        return [f"{where}: expected an object or null, found {value!r:.60}"]
    missing = [
        f"{where}.{key}: missing"
        for key, part in schema.items()
        if key not in value and not isinstance(part, Later)
    ]
    return missing + [
        p
        for key, part in schema.items()
        if key in value
        for p in problems_of(value[key], part, f"{where}.{key}")
    ]
