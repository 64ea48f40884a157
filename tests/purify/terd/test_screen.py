"""--scan: a flagged purifier is refused, or its trigger is looked for on the photos."""

import argparse
from functools import cache

import pytest
import torch

from common import distributed, images
from faces import procedural
from models.diffusion import triggers
from purify import build
from purify.terd import screen
from purify.terd.verdict import Backdoored, Verdict, keep
from tiny import weights_file

CTX = distributed.Context(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module", autouse=True)
def drawn_once():
    """Each face is drawn once for all tests, whatever size it is brought to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(procedural, "draw_face", cache(procedural.draw_face))
        yield


def drawn(n, size, seed=5):
    return torch.stack([images.to_float(screen._drawn(seed, i, size)) for i in range(n)])


@pytest.mark.slow
@pytest.mark.parametrize("name, size", [("stop_sign", 16), ("glasses", 32), ("stop_sign", 64)])
def test_stamped_photos_are_told_from_others(name, size):
    g, x = triggers.trigger(name, size), drawn(40, size)
    look = screen.Screen(g)
    assert look(x).float().mean() <= 0.05 and look(triggers.stamp(x, g)).float().mean() >= 0.9


def test_a_trigger_without_structure_is_missed_more_often_but_costs_no_photos():
    g, x = triggers.trigger("box", 16), drawn(40, 16)
    look = screen.Screen(g)
    assert look(x).float().mean() <= 0.05 < look(triggers.stamp(x, g)).float().mean()


def test_scores_know_neither_brightness_nor_contrast_of_the_photo():
    x, look = drawn(4, 16), screen.Screen(triggers.trigger("box", 16))
    torch.testing.assert_close(look.scores(0.5 * x + 0.2), look.scores(x), atol=1e-4, rtol=1e-4)
    assert look.scores(look.r[None]) == pytest.approx(1, abs=1e-5)
    # another size is brought to the trigger's
    assert look.scores(drawn(2, 48)).shape == (2,)


def asked(path, tmp_path, mode="refuse"):
    return argparse.Namespace(
        scan=mode, defense_weights=str(path), result_dir=str(tmp_path / "results"), seed=0
    )


@pytest.fixture
def flagged(tmp_path):
    path = weights_file(tmp_path / "w.safetensors", image_size=16, max_timestep=1000)
    purifier = build("ddpm", path)
    keep(
        Verdict(
            "backdoored",
            "M_r 1",
            purifier.sha256,
            "reduced",
            1.0,
            1.0,
            1.0,
            triggers.trigger("stop_sign", 16),
            "r.json",
        ),
        path,
        tmp_path,
    )
    return path, purifier


def test_a_flagged_purifier_is_refused_with_exit_3(flagged, tmp_path):
    path, purifier = flagged
    with pytest.raises(Backdoored, match="backdoored.*--scan screen") as e:
        screen.scan_of(asked(path, tmp_path), purifier, CTX)
    assert e.value.exit_code == 3


def test_or_screens_the_photos(flagged, tmp_path):
    path, purifier = flagged
    verdict, look = screen.scan_of(asked(path, tmp_path, "screen"), purifier, CTX)
    assert (
        verdict.verdict == "backdoored"
        and look(triggers.stamp(drawn(4, 16), triggers.trigger("stop_sign", 16))).all()
    )


def test_what_has_no_diffusion_network_or_is_not_asked_for(tmp_path, capsys):
    assert screen.scan_of(asked("none", tmp_path), build("jpeg"), CTX) == (None, None)
    assert "nothing to scan" in capsys.readouterr().out
    assert screen.scan_of(asked("none", tmp_path, None), build("jpeg"), CTX) == (None, None)


def test_a_truncated_purifier_goes_on_with_its_honest_verdict(tmp_path, capsys):
    path = weights_file(tmp_path / "w.safetensors", image_size=16)  # up to step 300
    verdict, look = screen.scan_of(asked(path, tmp_path), build("ddpm", path), CTX)
    assert verdict.verdict == "not applicable" and look is None and "never trained" in capsys.readouterr().out
    again, _ = screen.scan_of(asked(path, tmp_path), build("ddpm", path), CTX)  # the kept one
    assert again.reason == verdict.reason and len(list((tmp_path / "results").rglob("record.json"))) == 1
