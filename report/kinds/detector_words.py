"""What tables of detectors call training photos, training sets and test sets."""

from report.record import Record
from report.rows import trained_on

# ends the name of a record of purified photos from which a filter had dropped samples before
FILTERED = "+filtered"
BOTH = " + filtered"  # the same in the label of its row
SELF_BLENDED = "self-blended"  # training fakes that no translator made
BLENDED = f" [{SELF_BLENDED} fakes]"  # the same in the label of its row


def blended(record: Record) -> str:
    """The ending of its label where no translator made the training fakes."""
    return BLENDED if record.config.get("training_fakes") == SELF_BLENDED else ""


def label_of(record: Record) -> str:
    """A record's training photos in words; a filter by its name, where it has none by its file."""
    c = record.config
    label = record.name.removesuffix(FILTERED) + trained_on(c) + blended(record)
    if not c["kept"]:
        return label
    told = "@".join(filter(None, [c["kept"], (c.get("kept_sha256") or "")[:6]]))
    return (
        label
        + (BOTH if c["condition"] == "purified" else "")
        + (f" ({c['kept_filter']})" if c.get("kept_filter") else f" [{told}]")
    )


def test_words(name: str) -> str:
    """stgan jpeg75 -> stgan, JPEG 75: a further test set in words."""
    return ", ".join(w.replace("jpeg", "JPEG ") if w.startswith("jpeg") else w for w in name.split())


def training_words(config: dict) -> tuple[str, ...]:
    """How a training set differs from the usual one, in words."""
    c = config
    said = (
        ("train_gan", lambda names: "fakes also by " + ", ".join(names)),
        ("recompress_training", lambda quality: f"training images JPEG {quality}"),
        ("unpaired", lambda _: "unpaired"),
        ("balance", lambda shares: f"real to fake {shares}"),
    )
    return tuple(words(c[key]) for key, words in said if c.get(key))
