"""A verdict is kept by the checkpoint's sha256; noise is told apart by log-densities."""

import math

import pytest
import torch

from common import checkpoint, seeds
from common.cli import UserError
from purify.terd.verdict import BACKDOORED, CLEAN, NOT_APPLICABLE, Verdict, keep, kept, log_ratio, places


def verdict(sha="a" * 64, **more):
    return Verdict(
        **{
            "verdict": BACKDOORED,
            "reason": "M_r 1",
            "sha256": sha,
            "schedule": "reduced",
            "mean_kl": 0.5,
            "var_kl": 0.1,
            "gamma": 1.0,
            "r": torch.full((3, 2, 2), 0.25),
            "record": "r.json",
            **more,
        }
    )


def test_kept_beside_the_checkpoint_and_read_back(tmp_path):
    path = tmp_path / "w.pt"
    assert keep(verdict(), path, tmp_path / "results") == tmp_path / "w.pt.terd.safetensors"
    found = kept(path, tmp_path / "results", "a" * 64, "reduced")
    assert (found.verdict, found.mean_kl, found.exit_code) == (BACKDOORED, 0.5, 3) and torch.equal(
        found.r, verdict().r
    )
    # another file, another schedule
    assert (
        kept(path, tmp_path, "b" * 64, "reduced") is None
        and kept(path, tmp_path, "a" * 64, "published") is None
    )


def test_without_a_trigger(tmp_path):
    keep(verdict(verdict=NOT_APPLICABLE, r=None, gamma=None, mean_kl=None), tmp_path / "w.pt", tmp_path)
    found = kept(tmp_path / "w.pt", tmp_path, "a" * 64, "reduced")
    assert found.r is None and found.exit_code == 4 and str(found) == "not applicable: M_r 1"
    assert verdict(verdict=CLEAN).exit_code == 0


def test_where_the_folder_cannot_be_written(tmp_path):
    # whoever runs the tests may write everywhere: a folder that is not there refuses as well
    path = tmp_path / "missing" / "w.pt"
    below = places(path, tmp_path / "results", "a" * 64)[1]
    assert keep(verdict(), path, tmp_path / "results") == below and below.is_file()
    assert kept(path, tmp_path / "results", "a" * 64, "reduced").verdict == BACKDOORED


def test_a_file_that_is_no_verdict(tmp_path):
    checkpoint.save_weights(tmp_path / "w.pt.terd.safetensors", {"r": torch.zeros(1)}, {"kind": "diffusion"})
    with pytest.raises(UserError, match="not a verdict"):
        kept(tmp_path / "w.pt", tmp_path, "a" * 64, "reduced")
    (tmp_path / "w.pt.terd.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{broken")
    with pytest.raises(UserError, match="damaged|truncated|not a weight"):
        kept(tmp_path / "w.pt", tmp_path, "a" * 64, "reduced")


@pytest.mark.parametrize("gamma", [1.0, 0.6])
def test_log_ratio_is_that_of_the_densities(gamma):
    x, r = (
        torch.randn(4, 3, 2, 2, generator=seeds.generator("x")),
        torch.randn(3, 2, 2, generator=seeds.generator("r")),
    )

    def normal(mean, std):
        return torch.distributions.Normal(mean, torch.tensor(std)).log_prob(x).flatten(1).sum(1)

    torch.testing.assert_close(log_ratio(x, r, gamma), normal(r, gamma) - normal(torch.zeros_like(r), 1.0))


def test_error_rate_of_a_known_trigger_is_phi_of_half_its_norm():
    r = torch.full((3, 4, 4), 2 / math.sqrt(48))  # norm 2
    x = torch.randn(20000, 3, 4, 4, generator=seeds.generator("noise"))
    wrong = float((log_ratio(x, r, 1.0) > 0).float().mean())
    assert wrong == pytest.approx(0.1587, abs=0.01)  # Phi(-1)


@pytest.mark.parametrize("lacking", ["reason", "sha256", "schedule", "mean_kl", "gamma", "record"])
def test_a_verdict_without_one_of_its_keys_is_refused(tmp_path, lacking):
    meta = {k: v for k, v in vars(verdict()).items() if k not in ("r", lacking)} | {"kind": "terd-verdict"}
    checkpoint.save_weights(tmp_path / "w.pt.terd.safetensors", {"r": torch.zeros(3, 2, 2)}, meta)
    with pytest.raises(UserError, match=f"does not say its '{lacking}'; delete it, and scan again"):
        kept(tmp_path / "w.pt", tmp_path, "a" * 64, "reduced")


@pytest.mark.parametrize(
    "wrong", [{"gamma": "1"}, {"gamma": -1.0}, {"mean_kl": [1]}, {"reason": 3}, {"r": torch.zeros(3)}]
)
def test_a_verdict_with_other_values_is_refused(tmp_path, wrong):
    keep(verdict(**wrong), tmp_path / "w.pt", tmp_path)
    with pytest.raises(UserError, match="a damaged verdict; delete it"):
        kept(tmp_path / "w.pt", tmp_path, "a" * 64, "reduced")
