"""What the names of checkpoints say: read in one way only, or not at all and with a warning."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.checkpoints.finding.one_run import several_runs
from analyze.checkpoints.finding.series import in_order, in_order_with_deleted, remarks, select
from analyze.checkpoints.naming.file_names import read_names
from analyze.checkpoints.naming.training_position import TrainingPosition
from tests.checkpoint_files import found, known, save, weights
from tests.conftest import assert_input_error, call
from tests.test_layouts import scan

STEPS = {
    "thousands": (["ckpt_750", "ckpt_5k", "ckpt_10k", "ckpt_1m"], [750, 5000, 10_000, 1_000_000]),
    "powers": (["step_1e3", "step_5E3", "step_1e+04"], [1000, 5000, 10_000]),
    "decimals of units": (["step_0.5M", "step_1.5k", "step_2K"], [500_000, 1500, 2000]),
    "commas": (["step=500", "step=1,000", "step=12,000,000"], [500, 1000, 12_000_000]),
    "underscores": (["step=500_000", "step=1_000_000"], [500_000, 1_000_000]),
    "underscores alone": (["500_000", "1_000_000"], [500_000, 1_000_000]),
    "beside underscores": (["ckpt_500", "ckpt_1_000", "ckpt_1_500"], [500, 1000, 1500]),
    "two numbers": (["step_1_500", "step_2_1000"], [1, 2]),
    "the word behind": (["500_steps", "10k_steps", "rl_1_000_000_steps"], [500, 10_000, 1_000_000]),
    "of a total": (["step10of100", "step_20_of_100"], [10, 20]),
    "words between": (["epoch3step100", "ep3-ba200"], [100, 200]),
    "loss and accuracy": (["checkpoint-500-loss-1.25", "checkpoint-1000-loss-2"], [500, 1000]),
    "accuracy in percent": (["model_9_acc=93", "model_10_acc=9"], [9, 10]),
    "a limit beside it": (["max_steps_1000_step_5", "max_steps_1000_step_9"], [5, 9]),
    "of a rate": (["lr1e-4_step9", "lr1e-5_step10"], [9, 10]),
    "number of a model": (["resnet18_5", "resnet18_10"], [5, 10]),
    "a model's number is no thousands": (["resnet18_50", "resnet18_100"], [50, 100]),
    "words that begin as months": (["decoder_9", "decoder_10"], [9, 10]),
    "a clock beside it": (["model_10-20-30_9", "model_10-20-30_10"], [9, 10]),
    "numbers of a model": (["wav2vec2-900", "wav2vec2-1k"], [900, 1000]),
    "patches of a model": (["ViT-B-32_7", "ViT-B-32_10"], [7, 10]),
    "padded": (["model.00009", "model.00010"], [9, 10]),
    "folders": (["0/model", "100/model", "2000/model"], [0, 100, 2000]),
    "folders beside a model's number": (["100/resnet18", "2000/resnet18"], [100, 2000]),
    "files in folders of runs": (["0/model_9", "0/model_10"], [9, 10]),
    "the number that changes": (["checkpoint-1-900", "checkpoint-1-1000"], [900, 1000]),
    "a label that changes": (["step_9_iter_200", "step_10_iter_200"], [9, 10]),
    "digits of other scripts": (["step_٩", "step_\uff11\uff10"], [9, 10]),
    "no metric": (["train_loss_step=0.53-step=7", "train_loss_step=0.5-step=9"], [7, 9]),
    "a date as a step": (["step_20240501", "step_20250501"], [20_240_501, 20_250_501]),
    "joined to a word": (["model9", "model10"], [9, 10]),
    "capitals": (["modelStep9", "modelStep10"], [9, 10]),
}  # fmt: skip


def steps(names: list[str]) -> list[float | None]:
    return [x.step for x in read_names([f"{name}.pt" for name in names]).values()]


@pytest.mark.parametrize("case", STEPS)
def test_steps_as_people_write_them(case):
    names, expected = STEPS[case]
    assert steps(names) == expected


EPOCHS = {
    "fractions": (["epoch=0.5", "epoch=1.0", "epoch=10.5"], [0.5, 1, 10.5]),
    "beside a model": (["vgg16_bn_epoch3", "vgg16_bn_epoch10"], [3, 10]),
    "of a total": (["epoch3of10", "epoch10of10"], [3, 10]),
    "with steps of a schedule": (["lr_step30/epoch_9", "lr_step30/epoch_10"], [9, 10]),
    "beside a fold": (["fold1_epoch9", "fold1_epoch10"], [9, 10]),
    "behind": (["9epoch", "10epoch"], [9, 10]),
}


@pytest.mark.parametrize("case", EPOCHS)
def test_epochs_as_people_write_them(case):
    names, expected = EPOCHS[case]
    named = read_names([f"{name}.pt" for name in names]).values()
    assert [x.epoch for x in named] == expected
    assert {x.step for x in named} == {None}


NO_STEP = {
    "seeds": ["seed1", "seed2"],
    "folds": ["model_fold0", "model_fold1"],
    "versions": ["model_v1", "model_v2"],
    "shards": ["1of5", "2of5"],
    "models": ["resnet18", "resnet34", "resnet50"],
    "powers of other digits": ["step_10\u00b2", "step_9\u00b2"],
    "thousands or decimals": ["step_1.000", "step_2.000"],
    "a model": ["swinv2", "vit_base_patch16_224", "resnet18_5"],
    "a hash": ["a1b2c3d4", "deadbee1", "7e20a61"],
    "hashes of digits": ["model_1234567", "model_8234563"],
    "metrics": ["best-0.95", "best-0.97"],
    "decimals": ["model_10.5", "model_9.5"],
    "negative": ["step_-1", "step=-2", "model_-1"],
    "an overflow": ["step_1e400", "step_1e99"],
    "too many digits": ["step_" + "9" * 30, "model_" + "9" * 200],
    "other letters": ["step_10a", "step_20b", "step_5min"],
    "groups or two numbers": ["step_1_500", "step_2_750"],
    "fairseq's or groups": ["checkpoint_1_500", "checkpoint_1_750"],
    "two that change": ["model_1_900", "model_2_1000"],
    "two labels": ["step_9_iter_100", "step_10_iter_90"],
    "folder and file": ["step1000/iter_5", "step2000/iter_9"],
    "tokens": ["tokens4B", "model-20BT", "5B_tokens"],
    "dates and times": ["model_20240501_235500", "model_20240502_000500"],
    "ISO times": ["2024-05-01T23-55-00", "2024-05-02T00:05:00Z"],
    "minutes": ["20240501-2355", "202405012355"],
    "dates": ["model_20240501", "2024.05.02"],
    "folders of dates": ["2024-05-01/23-55-00/model", "2024-05-02/00-05-00/model"],
    "months": ["May01_12-00-00", "Dec31_23-59-59_host"],
    "the day first": ["01-05-2024", "1.6.2024"],
    "short years": ["model_240501_235500", "model_240502_000500"],
    "times of day": ["model_23-55-00", "model_00-05-00"],
    "seconds since 1970": ["model_1714600000", "1714600000123", "1714600000.5"],
    "words": ["last", "best", "final"],
    "units of time": ["90min", "2h", "3h"],
    "ordinals": ["1st", "2nd", "3rd", "4th", "5th"],
    "units of two": ["900Ki", "1Mi", "2Mi"],
    "variants": ["1a", "1b", "2a"],
}


@pytest.mark.parametrize("case", NO_STEP)
def test_what_is_no_step_for_sure_gives_none(case):
    assert set(steps(NO_STEP[case])) == {None}


def test_letters_joined_to_numbers_are_left_alone_where_all_have_the_same():
    assert steps(["1b", "2b", "10b"]) == [1, 2, 10]
    assert steps(["mlp_256x256_9", "mlp_256x256_10"]) == [9, 10]
    assert steps(["500m", "1b", "2b"]) == [5e8, None, None]
    assert steps(["model_1", "model_1b", "model_2"]) == [1, None, 2]


DOUBTS = {
    ("90min", "2h"): "after a number may be a unit",
    ("step_10a", "step_20a"): "10a is no number",
    ("step_1_500", "step_2_750"): "1_500 is 1500 or two numbers",
    ("model_1_500", "model_2_500"): "1_500 is 1500 or two numbers",
    ("model_1_900", "model_2_1000"): "1 by name, last integer or 900 by name, last integer",
    ("step_9_iter_100", "step_10_iter_90"): "9 by name step=N",
    ("epoch_1.9", "epoch_1.10"): "1.9 has a fraction, or a part after its point",
    ("step_-1",): "-1 is negative",
    ("step_0.5",): "0.5 is not whole",
    ("resnet18", "resnet34"): "resnet18 may be a name",
    ("s1e5", "s1e6"): "s1e5 is one number or two",
    ("05_01_12_30", "05_02_09_10"): "1 by name, last integer or 12 by name, last integer or 30",
    ("resnet18_5",): "18 or 5 may be a part of the name",
    ("0501_model_9", "0502_model_5"): "501 by",
    ("2024-05-01_10", "2024-05-02_05"): "10 is not in the order of the times beside it",
}


@pytest.mark.parametrize("names", DOUBTS)
def test_doubts_are_told_with_both_readings(tmp_path, names):
    for k, name in enumerate(names):
        save(tmp_path / f"{name}.pt", weights(k))
    warnings = " ".join(scan(tmp_path).warnings)
    assert DOUBTS[names] in warnings
    assert "--step-regex" in warnings
    assert "--manifest" in warnings
    assert [known(c.step) for c in found(tmp_path)] == [None] * len(names)


def test_names_of_one_time_stand_in_its_order_whatever_their_age(tmp_path):
    names = ["model_20240501_235500.pt", "model_20240502_000500.pt", "model_20240502_013000.pt"]
    for k, name in enumerate(names):
        path = save(tmp_path / name, weights(k))
        os.utime(path, (2000 - k, 2000 - k))
    assert [c.name for c in found(tmp_path)] == names
    assert "in the order of the times in their names" in " ".join(scan(tmp_path).warnings)


@pytest.mark.parametrize("apart", ["_", "/"], ids=["names", "folders"])
def test_steps_that_begin_again_in_every_epoch_order_its_checkpoints(tmp_path, apart):
    names = [f"epoch_{e}{apart}step_{s}.pt" for e in (9, 10) for s in ("900", "1k")]
    for k, name in enumerate(names):
        save(tmp_path / name, weights(k))
    assert [c.name for c in found(tmp_path)] == names
    assert [(known(c.step), c.epoch) for c in found(tmp_path)] == [
        (None, 9), (None, 9), (None, 10), (None, 10),
    ]  # fmt: skip
    assert "step 900 is counted anew in every epoch" in " ".join(scan(tmp_path).warnings)


def test_saved_steps_that_begin_again_in_every_epoch_order_its_checkpoints(tmp_path):
    for k, (epoch, step) in enumerate(((1, 100), (1, 200), (2, 50), (2, 150))):
        save(tmp_path / f"{'dbca'[k]}.pt", {"model": weights(k), "epoch": epoch, "step": step})
    assert [c.name for c in found(tmp_path)] == ["d.pt", "b.pt", "c.pt", "a.pt"]
    assert [known(c.step) for c in found(tmp_path)] == [None] * 4
    warnings = " ".join(scan(tmp_path).warnings)
    assert "content step 100 is counted anew in every epoch" in warnings
    assert "two runs" not in warnings


def test_saved_steps_that_are_the_length_of_an_epoch_are_none(tmp_path):
    for epoch in (9, 10):
        content = {"model": weights(epoch), "epoch": epoch, "iter": 390}
        save(tmp_path / f"ckpt_epoch_{epoch}.pt", content)
    assert [(known(c.step), c.epoch) for c in found(tmp_path)] == [(None, 9), (None, 10)]
    assert "two runs" not in " ".join(scan(tmp_path).warnings)


def test_a_pattern_that_cuts_a_number_off_is_refused(tmp_path):
    for k, name in enumerate(["s_900.pt", "s_1.5k.pt", "s_2e3_last.pt"]):
        save(tmp_path / name, weights(k))
    result = call("scan", str(tmp_path), "--step-regex", r"s_(?P<step>\d+)")
    assert_input_error(result, "cuts a number off", "step '1' of '1.5k' in s_1.5k.pt")
    checkpoints = found(tmp_path, step_regex=r"s_(?P<step>[\d.]+[kM]?(?:e\d+)?)(?:_|[.]pt)")
    assert [c.step for c in checkpoints] == [900, 1500, 2000]


def test_a_pattern_may_part_what_looks_like_one_number(tmp_path):
    save(tmp_path / "s5e10.pt", weights(1))
    (only,) = found(tmp_path, step_regex=r"s(?P<step>\d+)e(?P<epoch>\d+)")
    assert (only.step, only.epoch) == (5, 10)


def test_deleted_checkpoints_keep_their_place():
    """A training that is followed deletes old ones: their names are left, and no time of change."""
    for names in (["m_20240501_235500.pt", "m_20240502_000500.pt"],
                  ["epoch_1_step_9.pt", "epoch_1_step_1k.pt", "epoch_2_step_9.pt"]):  # fmt: skip
        said = read_names(names)
        deleted = [replace(checkpoint(n, said[n]), order=math.nan) for n in reversed(names)]
        assert [c.name for c in in_order_with_deleted(deleted)] == names


def test_tokens_are_an_order_but_no_step(tmp_path):
    for k, name in enumerate(["tokens10B.pt", "tokens9B.pt", "tokens1e9.pt"]):
        save(tmp_path / name, weights(k))
    checkpoints = found(tmp_path)
    assert [(known(c.step), c.tokens) for c in checkpoints] == [
        (None, 1e9), (None, 9e9), (None, 1e10),
    ]  # fmt: skip
    assert read_names(["step-001000-2BT.pt"])["step-001000-2BT.pt"].tokens == 2e9


def test_two_rules_that_read_different_steps_are_both_named(tmp_path):
    for step in (5, 6):
        save(tmp_path / f"step_{step}.pt", {"model": weights(step), "global_step": 100 * step})
    (warning,) = [w for w in scan(tmp_path).warnings if "two rules" in w]
    assert "step_5.pt (step 500 by content global_step, 5 by name step=N)" in warning
    pattern = r"step_(?P<step>\d+)"
    assert [c.step for c in found(tmp_path, step_regex=pattern)] == [5, 6]
    assert "two rules" not in " ".join(remarks(found(tmp_path, step_regex=pattern)))


def test_a_bare_number_in_another_unit_is_no_other_step(tmp_path):
    for k in (5, 6):
        save(tmp_path / f"ckpt_{k}.pt", {"model": weights(k), "global_step": 100 * k})
    assert scan(tmp_path).warnings == []
    save(tmp_path / "ckpt_7.pt", {"model": weights(7), "global_step": 300})
    (warning,) = [w for w in scan(tmp_path).warnings if "two rules" in w]
    assert "step 300 by content global_step, 7 by name checkpoint-N" in warning


def test_an_epoch_that_was_saved_and_another_in_the_name_are_both_named(tmp_path):
    for epoch in (5, 6):
        save(tmp_path / f"epoch_{epoch}.pt", {"model": weights(epoch), "epoch": 11 - epoch})
    assert "epoch 5 by what was saved, 6 by name epoch=N" in " ".join(scan(tmp_path).warnings)
    for epoch in (5, 6):
        save(tmp_path / f"epoch_{epoch}.pt", {"model": weights(epoch), "epoch": epoch - 1})
    assert scan(tmp_path).warnings == []


def test_counting_from_zero_is_no_other_step(tmp_path):
    for step in (5, 6):
        save(tmp_path / f"step_{step}.pt", {"model": weights(step), "global_step": step + 1})
    assert [c.step for c in found(tmp_path)] == [6, 7]
    assert "two rules" not in " ".join(scan(tmp_path).warnings)


def test_what_a_file_says_twice_and_otherwise_is_told(tmp_path):
    for step in (5, 6):
        content = {"model": weights(step), "global_step": 100 * step, "step": 11 - step}
        save(tmp_path / f"{step}.pt", content)
    assert "11" not in str([c.step for c in found(tmp_path)])
    assert "step 500 by content global_step, 6 by content step" in " ".join(scan(tmp_path).warnings)


def test_a_pattern_reads_numbers_as_names_have_them(tmp_path):
    for k, name in enumerate(["a1.5k.pt", "a1e4.pt"]):
        save(tmp_path / name, weights(k))
    assert [c.step for c in found(tmp_path, step_regex="a(?P<step>.+)[.]pt")] == [1500, 10_000]
    result = call("scan", str(tmp_path), "--step-regex", "(?P<step>a).*")
    assert_input_error(result, "finds no number", "step 'a' in a1.5k.pt")


# --- several runs


RUNS = {
    "folds": (["fold0/epoch_1", "fold1/epoch_1"], "fold 0 in fold0/epoch_1.pt and fold 1"),
    "folds that go on": (["fold0/step_1", "fold0/step_2", "fold1/step_3", "fold1/step_4"], "fold"),
    "folds in names": (["fold0_epoch_1", "fold1_epoch_1", "fold1_epoch_2"], "fold1_epoch_*"),
    "seeds": (["seed1/step_10", "seed2/step_20"], "seed 1 in seed1/step_10.pt and seed 2"),
    "folders by number": (["0/step_10", "0/step_20", "1/step_10", "1/step_20"], "'0/*'"),
    "steps go on, epochs begin again": (
        ["a/epoch1_step10", "a/epoch2_step20", "b/epoch1_step30", "b/epoch2_step40"], "epoch 1 in"),
    "seeds before a number": (["seed0_10", "seed0_20", "seed1_10", "seed1_20"], "'seed1_*.pt'"),
    "stages": (["stage1_step5", "stage1_step90", "stage2_step7"], "steps 5 to 90 in stage1_step*"),
    "a later stage from zero": (["stage1/step50", "stage1/step90", "stage2/step7"], "'stage2/*'"),
    "phases by epoch": (["phase1_epoch1", "phase1_epoch2", "phase2_epoch1"], "phase2_epoch*"),
}  # fmt: skip


@pytest.mark.parametrize("case", RUNS)
def test_several_runs_are_told_apart(tmp_path, case):
    names, told = RUNS[case]
    for k, name in enumerate(names):
        save(tmp_path / f"{name}.pt", weights(k))
    refusal = str(several_runs(found(tmp_path)))
    assert "several runs" in refusal
    assert told in refusal
    choices = re.findall(r"--checkpoints '(.*?)'", refusal)
    assert len(choices) == 2


def test_stages_that_go_on_counting_are_one_run(tmp_path):
    for step, stage in ((50, 1), (90, 1), (100, 2), (1000, 10)):
        save(tmp_path / f"stage{stage}-step{step}" / "model.pt", weights(step))
    checkpoints = found(tmp_path)
    assert several_runs(checkpoints) is None
    assert [c.step for c in checkpoints] == [50, 90, 100, 1000]


def test_files_beside_folders_are_chosen_by_what_their_names_begin_with(tmp_path):
    for k, name in enumerate(["net_1", "net_2", "fold0/net_1", "fold1/net_2"]):
        save(tmp_path / f"{name}.pt", weights(k))
    checkpoints = found(tmp_path)
    choices = re.findall(r"--checkpoints '(.*?)'", str(several_runs(checkpoints)))
    assert choices == ["net_*", "fold0/*", "fold1/*"]
    assert [c.name for c in select(checkpoints, "net_*")] == ["net_1.pt", "net_2.pt"]


def test_a_run_that_goes_on_within_an_epoch_is_one_run(tmp_path):
    for k, name in enumerate(["a/epoch0_step10", "a/epoch0_step20", "b/epoch0_step30"]):
        save(tmp_path / f"{name}.pt", weights(k))
    assert several_runs(found(tmp_path)) is None


def test_one_epoch_with_different_weights_is_told(tmp_path):
    for k, name in enumerate(["netG_epoch_1", "netD_epoch_1"]):
        save(tmp_path / f"{name}.pt", weights(k))
    assert "different weights at one epoch" in " ".join(scan(tmp_path).warnings)


def test_large_steps_are_shown_with_all_their_digits(tmp_path):
    for step in (1_000_001, 1_000_002):
        save(tmp_path / "a" / f"step_{step}.pt", weights(step))
        save(tmp_path / "b" / f"step_{step}.pt", weights(step + 5))
    assert "step 1000001 in a/step_1000001.pt" in str(several_runs(found(tmp_path)))


# --- any series at all


def checkpoint(name: str, said: TrainingPosition) -> Checkpoint:
    numbers = (math.nan if x is None else x for x in (said.step, said.epoch))
    order = math.nan if said.order is None else said.order
    return Checkpoint(
        name, Path(name), *numbers, said.step_rule, "torch", "", "", 1, doubt=said.doubt,
        order=order,
    )  # fmt: skip


def test_any_series_is_in_order_or_a_warning_is_given():
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies as st

    prefixes = ["", "model_", "resnet18-", "ViT-B-32_", "wav2vec2.", "run_3/", "a1b2c3d4/", "v2_",
                "20240501_235500_", "lr1e-4_", "seed0-", "fold1/", "net_"]  # fmt: skip
    labels = ["step", "step=", "step_", "global_step", "iter_", "iteration-", "epoch=", "epoch_",
              "ep", "checkpoint-", "ckpt_", "it", "update_", ""]  # fmt: skip
    suffixes = ["", "_loss=0.25", "-acc-93.5", "-v1", "_of_100000000", "_seed1", "-rank0", "_ema",
                "-tokens4B", "/model", "-20240501"]  # fmt: skip
    writings = [
        str, "{:08d}".format, "{:,}".format, "{:_}".format, "{:.2e}".format,
        lambda n: f"{n / 1000:g}k" if n % 100 == 0 else str(n),
        lambda n: f"{n / 1e6:g}M" if n % 100_000 == 0 else str(n),
        lambda n: f"{n}x", lambda n: f"{n / 2}", lambda n: f"-{n}",
    ]  # fmt: skip
    number = st.one_of(st.integers(0, 2000), st.integers(0, 20_000_000),
                       st.integers(1, 40).map(lambda n: n * 100_000))  # fmt: skip

    @hypothesis.settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @hypothesis.given(
        numbers=st.lists(number, min_size=2, max_size=6, unique=True).map(sorted),
        prefix=st.sampled_from(prefixes), label=st.sampled_from(labels),
        suffix=st.sampled_from(suffixes), write=st.sampled_from(writings),
    )  # fmt: skip
    def check(numbers, prefix, label, suffix, write):
        names = [f"{prefix}{label}{write(n)}{suffix}.pt" for n in numbers]
        hypothesis.assume(len(set(names)) == len(names))
        shuffled = sorted(names, key=lambda name: name[::-1])
        checkpoints = in_order([checkpoint(n, x) for n, x in read_names(shuffled).items()])
        warned = [w for w in remarks(checkpoints) if "gaps" not in w]
        assert [c.name for c in checkpoints] == names or warned, (names, checkpoints)
        taken = [c.step for c in checkpoints if not math.isnan(c.step)]
        if write in writings[:4] and not warned and label:
            assert taken in ([], [float(n) for n in numbers]), (names, taken)

    check()


def test_nothing_depends_on_the_hash_seed():
    names = [name for names in NO_STEP.values() for name in names]
    home = "analyze.checkpoints.naming.file_names"
    code = f"from {home} import read_names; print(read_names({names!r}))"
    said = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                       env=os.environ | {"PYTHONHASHSEED": str(seed)}).stdout
        for seed in (1, 2)
    }  # fmt: skip
    assert len(said) == 1
