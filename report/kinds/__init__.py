"""The kinds of record: a kind's name -> "module:KIND", what its file declares (a report.kind.Kind).

A new kind is a file in this folder and a line of KINDS. Sections of a comparison stand in this order.
"""

from common import registry

KINDS = {
    "defense": "report.kinds.defense:KIND",
    "detector": "report.kinds.detector:KIND",
    "dadfi": "report.kinds.dadfi:KIND",
    "depois": "report.kinds.depois:KIND",
    "terd": "report.kinds.terd:KIND",
    "benchmark": "report.kinds.benchmark:KIND",
}


def load_all() -> list:
    """Every Kind, in order."""
    return [registry.load(place) for place in KINDS.values()]
