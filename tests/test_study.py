"""The study: its page tells what its files hold, and what it claims follows from its intervals."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import re

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from analyze.errors import InputError
from scripts.studying import courses, design, images, page, quick, shipped, store
from scripts.studying.design import NETWORKS, Training
from scripts.studying.findings import FINDINGS, Seen, verdict
from scripts.studying.seeds import OverSeeds, digits
from scripts.studying.store import Measured, Study

MAIN = NETWORKS["residual"]
SOME_STEPS = (0, 1, 2)


@pytest.fixture(scope="module")
def study():
    return store.read()


def test_the_page_is_what_the_files_say(study):
    """Otherwise run ``scripts/study --page``."""
    assert page.PAGE.read_text(encoding="utf-8") == page.written(study)


def test_every_figure_of_the_page_is_there(study):
    shown = re.findall(r"\]\((study/\w+\.png)\)", page.PAGE.read_text(encoding="utf-8"))
    assert len(shown) == 7
    assert all((page.PAGE.parent / name).stat().st_size > 5000 for name in shown)


def test_the_files_are_small_enough_to_ship():
    assert sum(path.stat().st_size for path in store.FOLDER.rglob("*")) < 7e6


def _data_of(page):
    """The numbers that a page of the package draws."""
    text = page.read_text(encoding="utf-8")
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1]
    )


def _array(packed):
    values = np.frombuffer(base64.b64decode(packed["base64"]), packed["kind"])
    return values.reshape(packed["shape"])


def test_the_report_shows_what_the_page_tells(study):
    """Otherwise run ``scripts/study`` where all was measured."""
    shown = _data_of(shipped.REPORT)
    (told,) = [m for m in study.done if m.training == shipped.EXAMPLE]
    assert shown["training"]["values"] == told.steps.tolist()
    network = _array(shown["m_coherence"])[0]
    for values, subset in zip(network, shown["subsets"], strict=True):
        np.testing.assert_allclose(values, told.values(subset=subset["name"]), rtol=2e-3)


def test_the_comparison_shows_the_trainings_that_the_page_tells(study):
    shown = _data_of(shipped.COMPARISON)
    told = {m.training.name: m for m in study.done}
    wanted = [t.name for group in shipped.configurations().values() for t in group]
    assert [run["name"] for run in shown["runs"]] == wanted
    losses = _array(shown["loss"])[:, shown["subsets"].index("all")]
    for name, loss in zip(wanted, losses, strict=True):
        np.testing.assert_allclose(loss, told[name].values("loss"), rtol=2e-3)


def test_the_pages_name_no_place_of_the_machine_that_made_them():
    for path in (shipped.REPORT, shipped.COMPARISON):
        text = path.read_text(encoding="utf-8")
        assert "scripts/studying/__main__" in text
        assert not re.findall(r"/(?:tmp|home|root|work)/", text)


def test_pages_are_not_written_from_some_of_the_files(tmp_path):
    assert "has no residual_noise_0_seed_0" in shipped.written_pages(tmp_path)


def test_the_design_has_each_training_once():
    wanted = [
        (network, noise, seed)
        for network, noises, seeds in [
            ("residual", (0, 25, 50, 75, 100), 5), ("inception", (0, 50, 100), 3),
            ("group_norm", (0, 50, 100), 3), ("no_norm", (0, 50, 100), 3),
        ]
        for noise in noises
        for seed in range(seeds)
    ]  # fmt: skip
    made = [(t.network.name, t.noise, t.seed) for t in design.trainings()]
    assert sorted(made) == sorted(wanted)


def test_an_interval_over_seeds_is_that_of_student():
    values = (0.1, 0.4, 0.3)
    lower, upper = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
    assert OverSeeds(values, is_log=False).interval == pytest.approx((lower, upper))
    assert OverSeeds(values).interval == pytest.approx((np.exp(lower), np.exp(upper)))
    assert OverSeeds(values).mean == pytest.approx(np.exp(np.mean(values)))


@pytest.mark.parametrize(
    ("values", "text"), [((3.0,), "3.0 (1 of 3 seeds)"), ((3.0, 3.1), "3.0 and 3.1 (2 of 3 seeds)")]
)
def test_too_few_seeds_tell_nothing(values, text):
    few = OverSeeds(values, is_log=False)
    assert np.isnan(few.interval).all()
    assert (few.sign(), few.above(2.0), few.is_enough) == (0, 0, False)
    assert str(few) == text


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ([1, 1], "holds"), ([1, 0], "in part"), ([1, -1], "in part"), ([-1, -1], "does not hold"),
        ([-1, 0], "cannot be told here"), ([0, 0], "cannot be told here"),
        ([], "cannot be told here"),
    ],
)  # fmt: skip
def test_a_verdict_follows_from_the_sides_of_the_intervals(sides, expected):
    assert verdict(sides) == expected


def test_quantities_of_too_few_seeds_do_not_count():
    seen = [Seen("0 %", OverSeeds((0.4, 0.5, 0.6)), 1), Seen("25 %", OverSeeds((0.5,)), 1)]
    finding = dataclasses.replace(FINDINGS[0], seen=lambda _: seen)
    assert finding.verdict(Study(())) == "holds"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0321, "0.032"), (0.56, "0.56"), (9.96, "10.0"), (14.2, "14"), (1234.5, "1,234"),
     (-0.617, "-0.62"), (float("nan"), "unknown")],
)  # fmt: skip
def test_numbers_have_two_digits(value, text):
    assert digits(value) == text


def course(values: dict[int, float], seed: int = 0) -> Measured:
    """A training whose network shows m-coherence of these values at these steps."""
    table = xr.Dataset(
        {"m_coherence": ("step", list(values.values()))}, {"step": list(values)}
    ).expand_dims(place=["network"], subset=["all"], mode=["recomputed"], size=["2m"])
    return Measured(Training(MAIN, 0, seed), table)


def test_a_peak_is_looked_for_in_the_other_seeds():
    """So that the one value that is high by chance does not count as the peak."""
    flat = dict.fromkeys((0, 1, 2, 10, 50, 100, 200, 300, 500, 700, 1000), 2.0)
    mine = course(flat | {1: 1.0, 100: 50.0, 200: 50.0, 300: 50.0})
    others = [course(flat | {1: 1.0, 2: 4.0, 10: 4.0, 50: 4.0}, seed) for seed in (1, 2)]
    group = [mine, *others]
    assert courses.change(mine, group, "peak") == pytest.approx(np.log(2))
    assert courses.change(mine, [mine], "peak") is None


def test_what_still_rises_at_the_end_does_not_return():
    rising = dict(zip((0, 1, 2, 10, 50, 100, 500, 1000), (4, 1, 1, 1, 2, 3, 4, 5), strict=True))
    group = [course(rising, seed) for seed in range(3)]
    assert courses.change(group[0], group, "return") > 0
    assert courses.change(group[0], group, "rise") > 0


def test_clean_and_corrupted_are_compared_at_one_size():
    """Equal alphas of subsets of different size are equal m-coherence of 100 probes each."""
    alpha, counts = 0.01, (40, 280)
    values = [1 + (n - 1) * alpha for n in counts]
    table = xr.Dataset(
        {"m_coherence": (("subset", "step"), np.array(values)[:, None]),
         "count": ("subset", np.array(counts))},
        {"subset": ["clean", "corrupted"], "step": [7]},
    ).expand_dims(place=["network"], mode=["recomputed"], size=["2m"])  # fmt: skip
    table["count"] = table["count"].isel(place=0, drop=True)
    measured = Measured(Training(MAIN, 50, 0), table)
    assert courses.at_size(measured, "clean", 100) == pytest.approx(1 + 99 * alpha)
    assert courses.clean_over_corrupted(measured, np.array([True])) == pytest.approx(0)


def test_files_keep_four_digits(tmp_path):
    values = np.array([0.0, np.nan, 1.2345678, -9.8765e-7, 3.4e30], dtype=np.float32)
    store.keep(xr.Dataset({"a": ("x", values)}), tmp_path / "a.nc.gz")
    again = xr.load_dataset(tmp_path / "a.nc.gz", engine="scipy")["a"].values
    np.testing.assert_allclose(again, values, rtol=1e-4)
    assert (again.view(np.uint32)[2:] % (1 << store.DROPPED_BITS) == 0).all()


def test_the_same_trainings_again_lie_within_the_page(study):
    lines, good = quick.compared(study, Study(study.of(noise=0)[:1] + study.of(noise=100)[:1]))
    assert good
    assert "OUTSIDE" not in "".join(lines)
    assert lines[-1].endswith("equal to those of the page")


def test_a_training_that_went_otherwise_lies_outside(study):
    first = study.of(noise=0)[0]
    changed = first.table.assign(m_coherence=1 + 30 * first.table["m_coherence"] ** 2)
    lines, good = quick.compared(study, Study((dataclasses.replace(first, table=changed),)))
    assert not good
    assert "OUTSIDE" in "".join(lines)


# --- a training, made small


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Files of the data set's form, with stripes for images."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for part, count in (("train", 300), ("t10k", 200)):
        labels = np.arange(count, dtype=np.uint8) % 10
        pixels = np.zeros((count, 28, 28), dtype=np.uint8)
        for row, label in zip(pixels, labels, strict=True):
            row[:, 2 * label : 2 * label + 4] = generator.integers(100, 255, (28, 4))
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
            content = bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    return folder


@pytest.fixture(scope="module")
def small(data, tmp_path_factory):
    """A training of two steps, measured, and its results files."""
    from scripts.studying import measuring
    from scripts.studying import training as training_module

    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in [
            (images, "IMAGES", 100), (images, "PROBES", 60), (images, "HELD_OUT", 30),
            (training_module, "IMAGES", 100), (training_module, "EPOCHS", 1),
            (training_module, "STEPS", 2), (training_module, "MEASURED_STEPS", SOME_STEPS),
            (measuring, "SAVED_STEPS", (0, 2)),
        ]:  # fmt: skip
            patch.setattr(module, name, value)
        build = tmp_path_factory.mktemp("build")
        training = Training(MAIN, 50, 1)
        yield measuring.measured(training, data, build), build / f"{training.name}_recomputed.h5"


def test_what_is_kept_is_what_was_measured(small):
    import analyze

    taken, path = small
    tree = analyze.open_results(path)
    chosen = taken.sel(mode="recomputed", size="2m")
    subsets = tree["network"]["subset"].values
    assert taken["step"].values.tolist() == [*SOME_STEPS]
    for name in ("m_coherence", "m_coherence_stderr", "null_upper"):
        network = chosen[name].sel(place="network", subset=subsets).transpose("step", "subset")
        np.testing.assert_allclose(network, tree["network"][name], rtol=1e-6)
        layer = chosen[name].sel(place="first convolution", subset=subsets)
        expected = tree["layers"][name].sel(layer="conv1")
        np.testing.assert_allclose(layer.transpose("step", "subset"), expected, rtol=1e-6)
    assert np.isnan(taken["m_coherence"].sel(mode="saved", step=1)).all()
    assert chosen["count"].sel(subset="all") == 60
    assert chosen["count"].sel(subset="held_out") == 30


def test_the_smaller_sample_is_half_of_the_folds(small):
    import analyze

    taken, path = small
    table = analyze.open_results(path)["parameters"].to_dataset()
    half = (table["cell_fold"] < 5) & (table["cell_subset"] != "held_out")
    gram = table["gradient_gram"].sum("parameter").values[:, half][:, :, half].sum((1, 2))
    squares = table["gradient_sqnorm"].sum("parameter").values[:, half].sum(1)
    found = taken["m_coherence"].sel(mode="recomputed", size="m", place="network", subset="all")
    np.testing.assert_allclose(found, gram / squares, rtol=1e-6)
    count = taken["count"].sel(mode="recomputed", size="m", subset="all")
    assert count == table["probe_count"].values[half].sum()


def test_seeds_draw_other_weights_images_and_labels(data, monkeypatch):
    import torch

    from analyze.models.building import build_model
    from analyze.specs.model import ModelSpec
    from scripts.studying.training import initialise

    monkeypatch.setattr(images, "IMAGES", 100)
    first, again, other = (images.examples_of(Training(MAIN, 50, s), data) for s in (0, 0, 1))
    clean = images.examples_of(Training(MAIN, 0, 0), data)
    np.testing.assert_array_equal(first.training.ids, again.training.ids)
    np.testing.assert_array_equal(first.given, again.given)
    np.testing.assert_array_equal(first.training.ids, clean.training.ids)
    assert (clean.given == clean.training.labels).all()
    assert 30 < (first.given != first.training.labels).sum() <= 50
    assert set(first.training.ids) != set(other.training.ids)
    weights = []
    for seed in (0, 0, 1):
        model = build_model(ModelSpec.parse(MAIN.model))
        torch.manual_seed(seed)
        initialise(model, MAIN.he)
        weights.append(model.conv1.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_pixel_is_the_mean_of_four():
    pixels = np.arange(28 * 28, dtype=np.int64).reshape(1, 1, 28, 28) % 256
    one = images.Images(pixels.astype(np.uint8), np.zeros(1, dtype=int), np.zeros(1, dtype=int))
    found = images.smaller(one).pixels
    assert found.shape == (1, 1, 14, 14)
    assert found[0, 0, 0, 0] == 15  # of 0, 1, 28 and 29: 14.5, rounded up


def test_a_data_set_that_is_missing_is_asked_for(tmp_path):
    with pytest.raises(InputError, match="Fashion-MNIST is not there") as error:
        images.folder_of(tmp_path)
    assert "apt-get install dataset-fashion-mnist" in error.value.fix


def test_every_finding_is_a_line_of_the_page(study):
    text = page.PAGE.read_text(encoding="utf-8")
    for finding in FINDINGS:
        assert f"| {finding.says} |" in text
        line = next(x for x in text.splitlines() if x.startswith(f"| {finding.says} |"))
        assert f"| **{finding.verdict(study)}** |" in line
