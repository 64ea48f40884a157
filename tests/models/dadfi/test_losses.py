from math import log

import pytest
import torch

from models.dadfi import losses


def logit(p):
    return log(p / (1 - p))


def maps(*probabilities):
    """One 1 x 1 map of patches per image."""
    return torch.tensor([logit(p) for p in probabilities]).view(-1, 1, 1, 1)


def test_recognisers_maximise_e3():
    expected = -((log(0.9) + log(0.5)) / 2 + (log(1 - 0.2) + log(1 - 0.6)) / 2)
    assert float(losses.recogniser_loss(maps(0.9, 0.5), maps(0.2, 0.6))) == pytest.approx(expected, rel=1e-6)


def test_the_generators_side_as_printed_and_nonsaturating():
    fake = maps(0.2, 0.6)
    assert float(losses.generator_loss(fake, "saturating")) == pytest.approx(
        (log(0.8) + log(0.4)) / 2, rel=1e-6
    )
    assert float(losses.generator_loss(fake)) == pytest.approx(-(log(0.2) + log(0.6)) / 2, rel=1e-6)
    with pytest.raises(ValueError, match="form 'wasserstein'"):
        losses.generator_loss(fake, "wasserstein")


@pytest.mark.parametrize("form", losses.FORMS)
def test_both_forms_want_the_recogniser_to_take_the_fake_for_real(form):
    assert losses.generator_loss(maps(0.9), form) < losses.generator_loss(maps(0.1), form)


def test_only_the_printed_form_saturates():
    grads = []
    for form in losses.FORMS:
        sure = torch.tensor([[[[-20.0]]]], requires_grad=True)  # the recogniser is sure that it is fake
        grads.append(abs(float(torch.autograd.grad(losses.generator_loss(sure, form), sure)[0])))
    assert grads[0] == pytest.approx(1, abs=1e-6) and grads[1] < 1e-8


def test_patches_are_averaged_within_an_image():
    assert float(losses.generator_loss(maps(0.2, 0.6).view(1, 1, 1, 2))) == pytest.approx(
        float(losses.generator_loss(maps(0.2, 0.6)))
    )


def test_the_hinge_counts_the_largest_pixel_of_each_image_beyond_the_bound():
    p = torch.zeros(3, 3, 4, 4)
    p[0, 1, 2, 3], p[1, 0, 0, 0], p[2] = -0.25, 0.04, 0.15
    assert float(losses.hinge_loss(p, 0.05)) == pytest.approx((0.2 + 0 + 0.1) / 3)


def test_the_distance_is_the_share_of_what_pgd_reaches_whatever_the_translator_s_scale():
    fake = torch.zeros(2, 3, 4, 4)
    moved = fake.clone()
    moved[0] = 0.5  # mean square 0.125
    for scale in (1, 0.1):
        loss, share = losses.distance_loss(scale * moved, fake, scale * torch.ones_like(fake))
        assert float(share) == pytest.approx(0.125) and float(loss) == pytest.approx(-log(0.126))
    assert float(losses.distance_loss(fake, fake, torch.ones_like(fake))[0]) == pytest.approx(-log(1e-3))
    assert torch.isfinite(losses.distance_loss(moved, fake, fake)[0])  # a photo that PGD did not break


def test_the_translator_that_breaks_least_has_the_steepest_distance():
    fake, slopes = torch.zeros(1, 3, 4, 4), []
    for level in (0.1, 0.9):
        broken = torch.full_like(fake, level, requires_grad=True)
        losses.distance_loss(broken, fake, torch.ones_like(fake))[0].backward()
        slopes.append(float(broken.grad.abs().sum()))
    assert slopes[0] > 5 * slopes[1]


def test_the_total_is_e10_with_mu_one_half():
    x, y, hinge, d = (torch.tensor(v) for v in (1.0, 2.0, 4.0, -3.0))
    assert float(losses.total_loss(x, [y, y], hinge, [d])) == 1 + 4 + 2
    assert (
        float(
            losses.total_loss(
                x, [], hinge, [d, d], lambda_x=2, lambda_y=5, lambda_hinge=1, lambda_distance=10
            )
        )
        == 2 + 4 - 60
    )
    assert float(losses.total_loss(x, [], hinge, [])) == 3
