from math import sqrt

import pytest
import torch

from models.dadfi.optimiser import PaperAdam


def weights(*values):
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def descend(optimiser, w, grads):
    path = []
    for g in grads:
        w.grad = torch.tensor(g, dtype=w.dtype)
        optimiser.step()
        path.append(w.detach().clone())
    return path


def test_the_first_two_steps_by_hand():
    w = weights(1.0)
    first, second = descend(PaperAdam([w], lr=0.1, betas=(0.9, 0.99), tau=1e-2), w, [[0.3], [-0.1]])
    # bias correction leaves the first gradient itself
    expected = 1 - 0.1 * 0.3 / sqrt(0.3**2 + 1e-2)
    assert float(first) == pytest.approx(expected, rel=1e-12)
    m, v = 0.9 * 0.1 * 0.3 + 0.1 * -0.1, 0.99 * 0.01 * 0.09 + 0.01 * 0.01
    expected -= 0.1 * (m / (1 - 0.9**2)) / sqrt(v / (1 - 0.99**2) + 1e-2)
    assert float(second) == pytest.approx(expected, rel=1e-12)


def test_without_tau_it_is_adam():
    grads = torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    ours, theirs = weights(*range(5)), weights(*range(5))
    a = descend(PaperAdam([ours], lr=0.01, tau=1e-30), ours, grads)
    b = descend(torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.99), eps=1e-15), theirs, grads)
    assert torch.allclose(torch.stack(a), torch.stack(b), rtol=1e-10)


def test_tau_inside_the_root_caps_the_step_of_tiny_gradients():
    ours, theirs = weights(0.0), weights(0.0)
    descend(PaperAdam([ours], lr=1.0), ours, [[1e-6]])
    descend(torch.optim.Adam([theirs], lr=1.0, betas=(0.9, 0.99)), theirs, [[1e-6]])
    assert float(ours.detach()) == pytest.approx(-1e-3, rel=1e-3) and float(theirs.detach()) == pytest.approx(
        -1, rel=0.02
    )


def test_its_state_resumes_to_the_same_bits():
    grads = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).tolist()
    whole = weights(1, 2, 3, 4)
    expected = descend(PaperAdam([whole], lr=0.1), whole, grads)[-1]
    first = weights(1, 2, 3, 4)
    optimiser = PaperAdam([first], lr=0.1)
    descend(optimiser, first, grads[:3])
    second = torch.nn.Parameter(first.detach().clone())
    resumed = PaperAdam([second], lr=0.5)
    resumed.load_state_dict(optimiser.state_dict())
    assert torch.equal(descend(resumed, second, grads[3:])[-1], expected)


def test_a_weight_without_a_gradient_stays():
    w = weights(1.0)
    PaperAdam([w]).step()
    assert float(w.detach()) == 1


@pytest.mark.parametrize("options", [{"lr": -1}, {"tau": 0}, {"betas": (1, 0.9)}])
def test_values_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="expected lr"):
        PaperAdam([weights(1.0)], **options)
