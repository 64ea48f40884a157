"""Hand-computed distances, the per-image mask rule, and the bootstrap over photos."""

import numpy as np
import pytest
import torch

from common import images
from metrics import images as image_metrics
from metrics.images import edited, image_rows, pair_rows, summarise, summarise_table
from metrics.ssim import Windowed


def flat(*values, size=16):
    """One constant image per value."""
    return torch.stack([torch.full((3, size, size), float(v)) for v in values])


def test_distances_of_constant_images():
    rows = pair_rows(flat(0.5, -0.2), flat(0.1, -0.2), edited(flat(0.1, -0.2), flat(0.1, -1.0)))
    assert rows["l1"].tolist() == pytest.approx([0.4, 0])
    assert rows["l2"].tolist() == pytest.approx([0.16, 0], abs=1e-7)
    assert rows["linf"].tolist() == pytest.approx([0.4, 0])
    # data range 2, squared
    assert rows["psnr"][0].item() == pytest.approx(10 * np.log10(4 / 0.16), abs=1e-4)
    assert rows["psnr"][1].item() == image_metrics.PSNR_CAP


def test_linf_and_l2_of_a_single_changed_value():
    fake = flat(0, 0)
    fake[1, 2, 3, 4] = 0.8
    rows = image_rows(fake, flat(0, 0))
    assert rows["linf"].tolist() == pytest.approx([0, 0.8])
    assert rows["l2"].tolist() == pytest.approx([0, 0.64 / (3 * 16 * 16)])


def test_ssim_is_that_of_the_8_bit_images():
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    rng = torch.Generator().manual_seed(0)
    a, b = (images.quantise(torch.rand(2, 3, 24, 24, generator=rng) * 2 - 1) for _ in range(2))
    eight_bit = [torch.from_numpy(images.to_uint8(v)).movedim(-1, 1).float() for v in (a, b)]
    expected = ssim(*eight_bit, data_range=255.0, reduction="none")
    assert image_rows(a, b)["ssim"].tolist() == pytest.approx(expected.tolist(), abs=1e-4)
    assert image_rows(a, a)["ssim"].tolist() == pytest.approx([1, 1])


def test_mask_keeps_the_edited_region_of_each_image():
    photo, reference = flat(0, 0, 0), flat(0, 0, 0)
    reference[0, :, :4] = 0.2  # channels sum to 0.6 > 0.5 on a quarter of the first image
    reference[1] = 0.1  # 0.3: nothing of the second counts as edited
    reference[2, 0] = 0.6  # one channel alone, the whole third image
    fake = reference.clone()
    fake[0, :, :4] += 0.5  # inside the mask
    fake[0, :, 4:] += 0.9  # outside: must not count
    fake[1] += 1
    fake[2, 1] += 0.3  # one of three channels
    rows = pair_rows(fake, reference, edited(reference, photo))
    assert rows["l2_mask"][[0, 2]].tolist() == pytest.approx([0.25, 0.03], abs=1e-6)
    assert torch.isnan(rows["l2_mask"][1])
    found = summarise(rows, ["a", "b", "c"], seed=0)
    assert found["empty_masks"] == 1
    assert found["l2_mask"] == pytest.approx(0.14, abs=1e-6) and found["sr_mask"] == pytest.approx(0.5)


def test_mask_threshold_is_strict():
    half = torch.tensor([0.5, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    assert torch.isnan(pair_rows(flat(1), half, edited(half, flat(0)))["l2_mask"]).all()


def test_all_masks_empty_gives_none():
    found = summarise(pair_rows(flat(1, 1), flat(0, 0), edited(flat(0, 0), flat(0, 0))), ["a", "b"], seed=0)
    assert (
        found["l2_mask"] is None
        and found["sr_mask"] is None
        and found["l2_mask_ci"] is None
        and found["empty_masks"] == 2
    )


def test_summary_counts_pairs_and_takes_the_largest_linf():
    rows = pair_rows(
        flat(0.3, 0.2, 0.1, 0.0), flat(0, 0, 0, 0), edited(flat(0, 0, 0, 0), flat(1, 1, 1, 1))
    )  # l2: .09 .04 .01 0
    found = summarise(rows, list("aabb"), seed=0)
    # only .09 is above .05
    assert found["prop_dist"] == pytest.approx(0.25)
    assert found["l2"] == pytest.approx(0.035) and found["linf"] == pytest.approx(0.3)
    assert found["l2_std"] == pytest.approx(np.std([0.09, 0.04, 0.01, 0], ddof=1))
    assert "linf_ci" not in found


def test_photo_summary_has_no_pair_figures():
    assert set(summarise(image_rows(flat(0.1), flat(0)), ["a"], 0)) == {
        "l2",
        "l2_std",
        "l2_ci",
        "linf",
        "psnr",
        "psnr_std",
        "psnr_ci",
        "ssim",
        "ssim_std",
        "ssim_ci",
    }


def test_means_do_not_depend_on_the_batch_size(faces):
    x, _ = faces(n=6, size=16)
    y, _ = faces(n=6, size=16, seed=1)
    mask, windowed = edited(y, y.flip(0)), Windowed.of(y)
    whole = pair_rows(x, y, mask, windowed)
    each = [slice(i, i + 1) for i in range(6)]
    parts = [pair_rows(x[i], y[i], mask[i], Windowed.of(y[i])) for i in each]
    for key, row in whole.items():
        assert torch.allclose(row, torch.cat([p[key] for p in parts]), atol=1e-6, equal_nan=True), key


def test_interval_holds_the_mean_and_shrinks_with_the_number_of_photos():
    rng = np.random.default_rng(0)
    values = rng.exponential(size=2000)
    widths = []
    for n in (20, 200, 2000):
        found = summarise({"l2": values[:n]}, range(n), seed=0)
        low, high = found["l2_ci"]
        assert low < found["l2"] < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2 and widths[2] < widths[1] / 2
    # normal theory, unit variance
    assert widths[2] == pytest.approx(2 * 1.96 / np.sqrt(2000), rel=0.15)


def test_interval_takes_the_pairs_of_a_photo_together():
    per_photo = np.random.default_rng(1).normal(size=100)
    once = summarise({"l2": per_photo}, range(100), seed=0)["l2_ci"]
    repeated = summarise({"l2": np.repeat(per_photo, 5)}, np.repeat(np.arange(100), 5), seed=0)["l2_ci"]
    as_independent = summarise({"l2": np.repeat(per_photo, 5)}, range(500), seed=0)["l2_ci"]
    assert repeated == pytest.approx(once)  # five copies of a photo's value say nothing new
    assert np.diff(as_independent) < 0.6 * np.diff(once)


def test_interval_depends_on_the_seed_and_not_on_the_order():
    values, ids = np.random.default_rng(2).normal(size=60), [f"{i // 3:03d}.png" for i in range(60)]
    order = np.random.default_rng(3).permutation(60)
    found = summarise({"l2": values}, ids, seed=0)["l2_ci"]
    assert summarise({"l2": values[order]}, [ids[i] for i in order], seed=0)["l2_ci"] == pytest.approx(found)
    assert summarise({"l2": values}, ids, seed=1)["l2_ci"] != pytest.approx(found, abs=1e-9)


def test_one_photo_has_no_interval():
    found = summarise({"l2": [1.0, 2.0]}, ["a", "a"], seed=0)
    assert found["l2"] == 1.5 and found["l2_ci"] is None


def test_groups_split_the_rows():
    _, found = summarise_table({"l2": np.array([[1.0, 2.0], [3.0, 6.0]])}, ["Male", "Young"], seed=0)
    assert found["Male"]["l2"] == 2 and found["Young"]["l2"] == 4


def test_wrong_shapes_and_lengths_are_refused():
    with pytest.raises(ValueError, match="equal shape"):
        image_rows(flat(0), flat(0, 0))
    with pytest.raises(ValueError, match="rows"):
        summarise({"l2": [1.0]}, ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="rows"):
        summarise({"l2": []}, [], seed=0)
