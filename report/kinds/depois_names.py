"""What tables call poisons and methods that have parameters: `bypass critic, eps 0.6`."""

import json
from collections.abc import Iterable, Mapping


def identity(name: str | None, params: Mapping | None) -> tuple:
    """What runs share that met the same poison, or used the same method: (("name", name), ("params", its
    parameters as JSON)); null parameters are none."""
    return ("name", name or "?"), (
        "params",
        json.dumps({k: v for k, v in (params or {}).items() if v is not None}, sort_keys=True),
    )


def names_of(name: str | None, params: Mapping | None) -> list[str]:
    """[`bypass`, `bypass critic`]: the name alone, and last with its mode where there is one."""
    mode = (params or {}).get("mode")
    return [str(name), *([f"{name} {mode}"] if mode else [])]


def parameters(params: Mapping | None, keys: Iterable[str] | None = None) -> str:
    """`base noise with sigma 0.6, eps 0.3`: parameters in words, without the mode that stands in the name;
    keys: only these."""
    return ", ".join(
        f"{key.replace('_', ' ')} {_words(value)}"
        for key, value in sorted((params or {}).items())
        if key != "mode" and value is not None and (keys is None or key in keys)
    )


def _words(value):
    if isinstance(value, dict):  # of a poison that builds on another
        others = parameters({k: v for k, v in value.items() if k != "poison"})
        return " with ".join(filter(None, (str(value.get("poison", "")), others)))
    if isinstance(value, list):
        return "+".join(map(_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value).rsplit("/", 1)[-1]


def labels_of(identities: Iterable[tuple]) -> dict[tuple, str]:
    """{identity: label}: the name with its mode, and with the parameters in which its namesakes differ."""
    known = {mine: (dict(mine)["name"], json.loads(dict(mine)["params"])) for mine in identities}
    labels = {}
    for mine, (name, params) in known.items():
        short = names_of(name, params)[-1]
        others = [p for n, p in known.values() if names_of(n, p)[-1] == short]
        differing = [key for key in params if len({json.dumps(p.get(key)) for p in others}) > 1]
        words = parameters(params, differing)
        labels[mine] = f"{short}, {words}" if words else short
    return labels
