"""Where tests of De-Pois find what an examination left; loaded with runpy, so that no test package is
needed."""

import csv


def folder(results, name="label-flip-rate0.3", seed=0, number=0, dataset="digits"):
    return results / "depois" / dataset / "examined" / name / f"seed{seed}" / f"{number:03d}"


def rows(path):
    return list(csv.DictReader((path / "scores.csv").open()))
