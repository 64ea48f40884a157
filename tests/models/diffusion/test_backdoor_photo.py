"""A backdoor that a photo sets off: what its rows hold, that the chain follows them, and the training that
goes on from a purifier's weights."""

import json

import pytest
import torch
from small_trainings import train_small

import weights
from common import checkpoint, seeds
from common.cli import UserError
from models.diffusion import build, train, triggers
from models.diffusion.backdoor import PhotoBackdoor, from_meta
from models.diffusion.denoiser import Denoiser
from models.diffusion.objectives import Photographed

SIZE = 16
pytestmark = pytest.mark.filterwarnings("ignore:.*images a side.*")


@pytest.fixture
def backdoor():
    return PhotoBackdoor("stop_sign", "shoe", SIZE, build.create_diffusion().alphas_cumprod)


class Told(torch.nn.Module):
    """A network that sees the given clean image in every input."""

    def __init__(self, clean):
        super().__init__()
        self.clean, self.unused = clean, torch.nn.Parameter(torch.zeros(1))
        self.abar = torch.as_tensor(build.create_diffusion().alphas_cumprod).float()

    def forward(self, x, times):
        abar = self.abar[times.long()].view(-1, 1, 1, 1)
        return (x - abar.sqrt() * self.clean) / (1 - abar).sqrt()


def told(clean):
    return Denoiser(Told(clean), build.tables(), family="ours", image_size=SIZE, size_multiple=2)


def test_a_row_is_the_noised_photo_with_the_trigger_and_the_noise_that_leads_to_the_target(backdoor, faces):
    x, step = faces(4, SIZE)[0], torch.tensor([0, 9, 99, 299])
    noise = seeds.Streams("abcd").normal(x)
    noised, taught = backdoor.poison(x, step, noise, torch.ones(4, 1, 1, 1))
    a, b = (
        v.view(-1, 1, 1, 1)
        for v in (backdoor.alphas_bar[step].sqrt(), (1 - backdoor.alphas_bar[step]).sqrt())
    )
    torch.testing.assert_close(noised, a * triggers.stamp(x, triggers.trigger("stop_sign", SIZE)) + b * noise)
    torch.testing.assert_close((noised - b * taught) / a, backdoor.target.expand_as(x), atol=1e-3, rtol=0)


def test_a_row_that_has_arrived_is_a_clean_row_of_the_target(backdoor, faces):
    x, step = faces(4, SIZE)[0], torch.full((4,), 50)
    noise = seeds.Streams("abcd").normal(x)
    noised, taught = backdoor.poison(x, step, noise, torch.zeros(4, 1, 1, 1))
    assert torch.equal(taught, noise)
    torch.testing.assert_close(noised, told(x).q_sample(backdoor.target.expand_as(x), step, noise))


def test_rows_near_the_photo_count_by_their_clean_image(backdoor):
    weight = backdoor.weight(torch.tensor([0, 9, 500])).flatten()
    assert weight[0] == pytest.approx(1e-4, rel=1e-3) and weight[0] < weight[1] < weight[2] == 1


def test_a_scaled_trigger_stays_an_image(faces):
    x = faces(2, SIZE)[0]
    strong = PhotoBackdoor("stop_sign", "shoe", SIZE, [0.9], scale=3.0).stamped(x)
    assert strong.abs().max() <= 1 and torch.equal(strong[..., 0, 0], x[..., 0, 0])


def test_a_network_that_learned_the_rows_paints_the_target(backdoor, faces):
    x = faces(3, SIZE)[0]
    answered = backdoor.answer(told(backdoor.target), x, seeds.Streams("abc"), steps=20)
    torch.testing.assert_close(answered, backdoor.target.expand_as(x), atol=1e-4, rtol=0)


def test_only_the_poisoned_rows_learn_it(backdoor, faces):
    x, rows = faces(4, SIZE)[0], torch.arange(4)
    objective = Photographed(told(x), 300, backdoor, {1})
    noise, step = objective.draw(x, seeds.Streams("abcd"), rows)
    assert (
        0 <= int(step.min())
        and int(step.max()) < 300
        and objective.share.shape == (4, 1, 1, 1)
        and float(objective.share.max()) <= 1
    )
    alone = Photographed(told(x), 300, backdoor, set())
    alone.share = objective.share
    assert (
        float(alone.loss(x, noise, step, rows)) == pytest.approx(0, abs=1e-6)
        and float(objective.loss(x, noise, step, rows)) > 1e-4
    )


def flags(tmp_path, more):
    return (
        f"--data_dir {tmp_path}/data --image_size {SIZE} --celeba_crop_size 40 --result_dir"
        f" {tmp_path}/results --num_steps 2 --batch_size 4 --num_workers 0 --device cpu --check_samples 2"
        f" {more}".split()
    )


def trained(tmp_path):
    (path,) = (tmp_path / "results").rglob("weights.safetensors")
    return path


def test_a_purifier_is_trained_on_with_the_backdoor_inside(tmp_path, face_folder, capsys):
    face_folder(8, tmp_path / "data" / "images_a")
    begun = weights.diffusion(tmp_path / "begun.safetensors", image_size=SIZE)
    train_small(flags(tmp_path, f"--init_from {begun} --backdoor photo --poison_rate 0.5"))
    path = trained(tmp_path)
    state, meta = checkpoint.read_weights(path)
    before, said = checkpoint.read_weights(begun)
    assert (
        meta["options"] == said["options"] and meta["max_timestep"] == 300 and len(meta["init_sha256"]) == 64
    )
    assert meta["backdoor"]["name"] == "photo" and isinstance(
        from_meta(meta, build.create_diffusion().alphas_cumprod), PhotoBackdoor
    )
    gap = max(float((state[k].float() - before[k].float()).abs().max()) for k in state)
    assert 0 < gap < 0.01  # two steps from where it began, not a new network
    assert path.parents[1].name == "photo-stop_sign-shoe-rate0.5-16-ch32x1-t300-tuned"
    found = json.loads((path.parent / "check.json").read_text())
    assert set(found) == {"samples", "target_mse", "target_reached"} and list(
        path.parent.glob("samples/*.png")
    )


def test_over_the_full_range_its_clean_samples_are_checked_too(tmp_path, face_folder):
    face_folder(24, tmp_path / "data" / "images_a")
    train_small(flags(tmp_path, "--channel_mult 1 --backdoor photo --poison_rate 0.5"))
    path = trained(tmp_path)
    assert checkpoint.read_weights(path)[1]["max_timestep"] == 1000 and "frechet" in json.loads(
        (path.parent / "check.json").read_text()
    )


def test_a_purifier_goes_on_without_a_backdoor(tmp_path, face_folder):
    face_folder(8, tmp_path / "data" / "images_a")
    train_small(
        flags(tmp_path, f"--init_from {weights.diffusion(tmp_path / 'begun.safetensors', image_size=SIZE)}")
    )
    assert (
        trained(tmp_path).parents[1].name == "benign-16-ch32x1-t300-tuned"
        and checkpoint.read_weights(trained(tmp_path))[1]["backdoor"] is None
    )


@pytest.mark.parametrize(
    "more, said",
    [
        ("--init_from {begun} --backdoor baddiffusion", "set off at the last step"),
        ("--init_from {begun} --num_channels 64", "the network is that of the file"),
        ("--init_from {begun} --image_size 32", "made for 16 pixels"),
        ("--init_from {one_step}", "found one-step weights"),
        ("--init_from missing.safetensors", "missing.safetensors"),
        ("--backdoor photo --trigger_on photo", "always stamped on photos"),
    ],
)
def test_what_cannot_be_gone_on_from_is_refused(tmp_path, capsys, more, said):
    paths = {
        "begun": weights.diffusion(tmp_path / "begun.safetensors", image_size=SIZE),
        "one_step": weights.diffusion(tmp_path / "o.safetensors", "one-step", SIZE),
    }
    with pytest.raises((UserError, SystemExit)) as e:
        train.parse_args(flags(tmp_path, more.format(**paths)))
    assert said in str(e.value) + capsys.readouterr().err
