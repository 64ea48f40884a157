import pytest
import torch

import weights
from common import checkpoint
from common.cli import RunError, UserError
from models.dadfi.step import Step
from models.stargan.network import Generator
from trainings import log


def test_the_distance_loss_drives_fakes_apart(command, main, folder, never_collapsed):
    reached = []
    for weight in ("0", "30"):
        main(
            command(
                "--num_steps",
                "30",
                "--lr",
                "5e-3",
                "--conv_dim",
                "16",
                "--lambda_y",
                "0",
                "--lambda_distance",
                weight,
                "--save_step",
                "30",
            )
        )
        name = "stargan-y0" + ("-distance0" if weight == "0" else "")
        reached.append(log(folder(name))[-1]["val_stargan_l2"])
    assert reached[1] > 2 * reached[0]


def test_frozen_networks_learn_nothing_and_the_others_do(command, main, monkeypatch, never_collapsed):
    seen = {}
    make = Step.__init__

    def watch(self, options, ctx, batches, networks, *rest):
        make(self, options, ctx, batches, networks, *rest)
        seen.update(
            networks=networks,
            before={k: [p.clone() for p in n.parameters()] for k, n in networks.items()},
            victims=self.victims,
        )

    monkeypatch.setattr(Step, "__init__", watch)
    main(command("--num_steps", "1"))
    for name, network in seen["networks"].items():
        assert all(p.requires_grad for p in network.parameters())
        assert any(
            not torch.equal(a, b) for a, b in zip(seen["before"][name], network.parameters(), strict=True)
        ), name
    assert all(
        p.grad is None and not p.requires_grad for v in seen["victims"] for p in v.translator.parameters()
    )


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (float("nan"), UserError, "49 of 1568 values of main.0.weight are not finite"),
        (3e38, RunError, "the gradient of step 1 of 2 is not finite"),  # the largest floats overflow at once
    ],
)
def test_nan_in_a_victim_is_told_before_anything_is_learned(
    command, main, folder, tmp_path, value, error, words
):
    with torch.no_grad():
        network = Generator(4, 5, 1)
        network.main[0].weight[0, 0] = value
    checkpoint.save_weights(
        tmp_path / "gan.safetensors",
        network.state_dict(),
        {"kind": "stargan-generator", "attributes": weights.ATTRIBUTES, "image_size": 32},
    )
    with pytest.raises(error, match=words):
        main(command())
    assert not (folder() / "weights.safetensors").exists()
