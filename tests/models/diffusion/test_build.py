"""Networks, schedules, respacing, reverse steps, and weight files of all three families."""

from pathlib import Path

import numpy as np
import pytest
import torch
from guided_diffusion import nn as theirs
from guided_diffusion import script_util

from common import checkpoint, seeds
from common.cli import UserError
from models.diffusion import build, official
from models.diffusion.denoiser import embed

TINY = {"image_size": 8, "num_channels": 32, "channel_mult": "1,1"}


def randomised(network, seed=0):
    """The library starts its last layers at zero; every weight of a test network should matter."""
    with torch.no_grad():
        for i, p in enumerate(network.parameters()):
            p.copy_(torch.randn(p.shape, generator=seeds.generator(seed, i)) * 0.05)
    return network.eval()


@pytest.mark.parametrize("dim", [32, 33])
def test_times_are_embedded_as_by_the_library(dim):
    times = torch.tensor([0.0, 1, 9.5, 999])
    assert torch.equal(embed(times, dim), theirs.timestep_embedding(times, dim))


def tiny(**options):
    return randomised(build.create_network({**TINY, **options}))


def meta_of(network, **more):
    return {
        "kind": "diffusion",
        "options": {**network.options, **official.DIFFUSION},
        "image_size": 8,
        **more,
    }


def noise(shape, seed=0):
    return torch.randn(shape, generator=seeds.generator("noise", seed))


def test_default_network_is_small_and_its_output_has_three_channels():
    network = build.create_network({"image_size": 64})
    assert sum(p.numel() for p in network.parameters()) == 1_142_083
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 16, 16), torch.zeros(1)).shape == (1, 3, 16, 16)
    with torch.device("meta"):
        assert sum(p.numel() for p in build.create_network({"image_size": 128}).parameters()) > 10_000_000


def test_kept_steps():
    assert build.kept_steps(1000, "ddim25") == list(range(0, 1000, 40))
    evenly = build.kept_steps(1000, "250")
    assert len(evenly) == 250 and evenly[0] == 0 and evenly[-1] == 999
    assert len(build.kept_steps(1000, "30")) == 30 and build.kept_steps(1000, "30")[:3] == [0, 34, 69]
    sections = np.array(build.kept_steps(300, "10,15,20"))
    assert [((sections >= low) & (sections < low + 100)).sum() for low in (0, 100, 200)] == [10, 15, 20]
    assert build.kept_steps(1000, "") == list(range(1000))


@pytest.mark.parametrize("schedule", build.SCHEDULES)
@pytest.mark.parametrize("respacing", ["ddim25", "250", "30"])
def test_respaced_abar_equals_base_at_the_kept_steps(schedule, respacing):
    base, spaced = (
        build.create_diffusion(1000, schedule),
        build.create_diffusion(1000, schedule, respacing=respacing),
    )
    np.testing.assert_allclose(spaced.alphas_cumprod, base.alphas_cumprod[spaced.timestep_map], rtol=1e-10)


def test_truncated_start_is_the_largest_kept_step_below():
    denoiser = build.denoiser(tiny(), meta_of(tiny())).respaced("30")
    for start in (1, 10, 34, 35, 36, 300):
        i = denoiser.index_of(start)
        assert denoiser.kept[i] <= start - 1 and denoiser.kept[i + 1] > start - 1


def test_std_after_t_steps_is_zero_based():
    stds = build.denoiser(tiny(), meta_of(tiny())).stds
    expected = {10: 0.0435, 30: 0.1077, 75: 0.2467, 100: 0.3209, 150: 0.4601, 300: 0.7769, 500: 0.9599}
    assert {t: round(float(stds[t - 1]), 4) for t in expected} == expected


@pytest.mark.parametrize("learn_sigma", [False, True])
@pytest.mark.parametrize("respacing", ["", "ddim25"])
def test_reverse_step_is_the_librarys(learn_sigma, respacing):
    network = tiny(learn_sigma=learn_sigma)
    denoiser = build.denoiser(network, meta_of(network)).respaced(respacing)
    library = build.create_diffusion(learn_sigma=learn_sigma, respacing=respacing)
    x, z = noise((2, 3, 8, 8)), noise((2, 3, 8, 8), 1)
    with torch.no_grad():
        for step in (0, 1, 9, 20):
            want = library.p_mean_variance(network, x, torch.full((2,), step), clip_denoised=True)
            torch.testing.assert_close(
                denoiser.reverse_step(x, step, None), want["mean"], atol=2e-6, rtol=1e-5
            )
            spread = torch.exp(0.5 * want["log_variance"]) * (step > 0)
            torch.testing.assert_close(
                denoiser.reverse_step(x, step, z), want["mean"] + spread * z, atol=2e-6, rtol=1e-5
            )
            torch.testing.assert_close(denoiser.x0(x, step), want["pred_xstart"], atol=2e-6, rtol=1e-5)
            torch.testing.assert_close(
                denoiser.q_sample(x, step, z), library.q_sample(x, torch.full((2,), step), z)
            )


def test_steps_may_differ_between_images():
    network = tiny()
    denoiser, x, z = build.denoiser(network, meta_of(network)), noise((3, 3, 8, 8)), noise((3, 3, 8, 8), 1)
    steps = torch.tensor([0, 9, 50])
    with torch.no_grad():
        together = denoiser.reverse_step(x, steps, z)
        for i, step in enumerate(steps.tolist()):
            torch.testing.assert_close(
                together[i : i + 1],
                denoiser.reverse_step(x[i : i + 1], step, z[i : i + 1]),
                atol=1e-5,
                rtol=1e-5,
            )


def test_reverse_of_q_sample_with_perfect_noise_is_the_clean_image():
    network = tiny()
    denoiser, x, z = (
        build.denoiser(network, meta_of(network)),
        noise((2, 3, 8, 8)).clamp(-1, 1),
        noise((2, 3, 8, 8), 1),
    )
    denoiser.eps = lambda x_t, step: z
    for step in (0, 9, 299):
        torch.testing.assert_close(denoiser.x0(denoiser.q_sample(x, step, z), step), x, atol=1e-5, rtol=1e-5)


def test_own_weights_round_trip_in_half_precision_and_frozen(tmp_path):
    network = tiny()
    checkpoint.save_weights(
        tmp_path / "w.safetensors", network.state_dict(), meta_of(network, max_timestep=300), half=True
    )
    loaded = build.load(tmp_path / "w.safetensors")
    assert (loaded.family, loaded.kind, loaded.image_size, loaded.max_timestep, loaded.num_timesteps) == (
        "ours",
        "diffusion",
        8,
        300,
        1000,
    )
    assert not any(p.requires_grad for p in loaded.parameters()) and all(
        p.dtype == torch.float32 for p in loaded.network.parameters()
    )
    x = noise((2, 3, 8, 8))
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.eps(x, 9), build.denoiser(network, meta_of(network)).eps(x, 9), atol=0.02, rtol=0.02
        )
    with pytest.raises(UserError, match="from 1 to 300"):
        loaded.check_start(301)


def test_loading_draws_no_global_randomness(tmp_path):
    network = tiny()
    checkpoint.save_weights(tmp_path / "w.safetensors", network.state_dict(), meta_of(network))
    before = torch.get_rng_state()
    build.load(tmp_path / "w.safetensors")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("kind", ["ddpm", "one-step"])
def test_a_training_state_loads_its_moving_average(tmp_path, kind):
    average, network = tiny(), randomised(build.create_network(TINY), seed=1)
    parts = {
        "network": network,
        "average": {
            "n_averaged": torch.tensor(3),
            **{"module." + k: v for k, v in average.state_dict().items()},
        },
    }
    checkpoint.save_state(
        tmp_path / "last.pt",
        7,
        {"image_size": 8, "max_timestep": 300, "noise_schedule": "cosine", "defense_model_type": kind},
        **parts,
    )
    loaded = build.load(tmp_path / "last.pt")
    assert loaded.kind == ("one-step" if kind == "one-step" else "diffusion") and loaded.max_timestep == 300
    assert torch.equal(loaded.network.time_embed[0].weight, average.time_embed[0].weight)
    assert float(loaded.alphas_bar[0]) == pytest.approx(
        build.create_diffusion(schedule="cosine").alphas_cumprod[0]
    )


def official_network(**changes):
    """A network of the flags of the public FFHQ checkpoint (DPS), narrow."""
    flags = dict(
        image_size=256,
        num_channels=32,
        num_res_blocks=1,
        channel_mult="",
        learn_sigma=True,
        class_cond=False,
        attention_resolutions="16",
        num_heads=4,
        num_head_channels=64,
        use_scale_shift_norm=True,
        resblock_updown=True,
    )
    return randomised(script_util.create_model(**{**flags, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"resblock_updown": False, "learn_sigma": False},
        {"num_res_blocks": 2, "attention_resolutions": "32,16,8"},
        {"image_size": 64, "use_scale_shift_norm": False, "num_channels": 64},
    ],
)
def test_official_format_loads_by_the_shapes_of_its_keys(tmp_path, changes):
    network = official_network(**changes)
    torch.save(network.state_dict(), tmp_path / "ffhq.pt")
    loaded = build.load(tmp_path / "ffhq.pt")
    assert (
        loaded.family == "guided-diffusion"
        and loaded.image_size == changes.get("image_size", 256)
        and loaded.max_timestep == 1000
    )
    assert loaded.learned_variance == changes.get("learn_sigma", True)
    x = noise((1, 3, 64, 64))
    with torch.no_grad():
        torch.testing.assert_close(loaded.eps(x, 9), network(x, torch.tensor([9]))[:, :3])


def test_side_yaml_overrides_what_shapes_do_not_say(tmp_path):
    network = official_network(
        channel_mult="1,2", image_size=16, attention_resolutions="8", num_head_channels=32
    )
    torch.save(network.state_dict(), tmp_path / "odd.pt")
    with pytest.raises(UserError, match=r"odd.pt.yaml"):
        build.load(tmp_path / "odd.pt")
    side = tmp_path / "odd.pt.yaml"
    side.write_text(
        "image_size: 16\nattention_resolutions: 8\nnum_head_channels: 32\nnoise_schedule: cosine\nuse_fp16:"
        " false\n"
    )
    loaded, x = build.load(tmp_path / "odd.pt"), noise((1, 3, 16, 16))
    with torch.no_grad():
        torch.testing.assert_close(loaded.eps(x, 9), network(x, torch.tensor([9]))[:, :3])
    assert loaded.meta["options"]["noise_schedule"] == "cosine"
    for text, found in [
        ("imagesize: 16", "did you mean image_size"),
        ("predict_xstart: true", "predict_xstart"),
        ("- a", "option: value"),
    ]:
        side.write_text(text)
        with pytest.raises(UserError, match=found):
            build.load(tmp_path / "odd.pt")


def test_class_conditional_weights_are_refused(tmp_path):
    torch.save(
        official_network(image_size=64, class_cond=True, num_head_channels=32).state_dict(), tmp_path / "c.pt"
    )
    with pytest.raises(UserError, match="class-conditional"):
        build.load(tmp_path / "c.pt")


def test_bad_files_get_one_line(tmp_path, tiny_generator):
    network = tiny()
    good = tmp_path / "good.pt"
    torch.save(official_network(image_size=64, num_head_channels=32).state_dict(), good)
    (tmp_path / "short.pt").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "page.pt").write_text("<!DOCTYPE html><html>sign in</html>")
    torch.save({"a": Path("anything but a tensor")}, tmp_path / "code.pt")
    torch.save(tiny_generator.state_dict(), tmp_path / "gan.pt")
    checkpoint.save_weights(
        tmp_path / "gan.safetensors", tiny_generator.state_dict(), {"kind": "stargan-generator"}
    )
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    less = dict(network.state_dict())
    less.pop("out.2.bias")
    checkpoint.save_weights(tmp_path / "less.safetensors", less, meta_of(network))
    checkpoint.save_state(tmp_path / "last.pt", 1, {"image_size": 8}, generator=tiny_generator)
    for name, found in [
        ("nothing.pt", "no such"),
        ("short.pt", "truncated"),
        ("page.pt", "HTML"),
        ("code.pt", "may run code"),
        ("gan.pt", "StarGAN generator"),
        ("gan.safetensors", "StarGAN generator"),
        ("other.pt", "tensors named weight"),
        ("less.safetensors", "do not fit"),
        ("last.pt", "found one with generator"),
    ]:
        with pytest.raises(UserError, match=found) as error:
            build.load(tmp_path / name)
        assert name in str(error.value)


@pytest.mark.parametrize(
    "options, found",
    [
        ({"image_size": 30}, "multiple of 4"),
        ({"num_channels": 20}, "multiple of 32"),
        ({"channel_mult": "1,x"}, "separated by commas"),
        ({"attention_resolutions": "5"}, "levels are"),
        ({"num_chanels": 32}, "did you mean num_channels"),
    ],
)
def test_networks_that_cannot_be_built(options, found):
    with pytest.raises(UserError, match=found):
        build.options_for(**{"image_size": 64, **options})


@pytest.mark.parametrize("text", ["ddim37", "1001", "ten", "0,0,x", "0", "-5", "ddim0", "0,0"])
def test_bad_respacing(text):
    with pytest.raises(UserError, match="--respacing"):
        build.kept_steps(1000, text)
