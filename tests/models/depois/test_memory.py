"""What is remembered of a generator's past."""

import torch

from models.depois import memory


def test_it_keeps_every_image_until_it_is_full_and_then_a_fair_draw(monkeypatch):
    monkeypatch.setattr(memory, "REMEMBERED", 50)
    kept, draw = memory.Memory((1, 1, 1)), torch.Generator().manual_seed(0)
    values = (torch.arange(2000) % 256).float() / 127.5 - 1
    for k in range(0, 2000, 20):
        kept.add(values[k : k + 20].view(-1, 1, 1, 1), torch.arange(k, k + 20), draw)
        if k + 20 <= 50:
            assert kept.labels[: k + 20].tolist() == list(range(k + 20))
    assert kept.seen == 2000 and (kept.labels % 256 == kept.pixels.flatten()).all()
    assert 700 < kept.labels.float().mean() < 1300  # of the whole past, neither its beginning nor its end


def test_it_returns_what_it_was_given():
    kept, draw = memory.Memory((1, 2, 2)), torch.Generator().manual_seed(0)
    x = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    kept.add(x, torch.tensor([3, 7]), draw)
    found, labels = kept.draw(20, draw)
    assert set(labels.tolist()) == {3, 7} and torch.equal(
        found[:, 0, 0, 0], torch.where(labels == 7, 1.0, -1.0)
    )
