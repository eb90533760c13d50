"""The directories that trainers leave: made by the real library where there is one."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from analyze.checkpoints.layouts.table import LAYOUTS
from analyze.checkpoints.reading import read_weights
from analyze.checkpoints.scan import scan
from tests.checkpoint_files import (
    FOREIGN,
    assert_weights,
    found,
    hugging_face,
    known,
    net,
    reasons,
    save,
    weights,
)

# --- made by the real library


@FOREIGN
def test_lightning(tmp_path):
    lightning = pytest.importorskip("lightning")
    from lightning.pytorch.callbacks import ModelCheckpoint

    saved = {}

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net()

        def training_step(self, batch, _):
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

        def on_save_checkpoint(self, checkpoint):
            saved[self.global_step] = {k: v.clone() for k, v in self.net.state_dict().items()}

    data = torch.utils.data.TensorDataset(torch.randn(12, 4), torch.randint(0, 2, (12,)))
    trainer = lightning.Trainer(
        default_root_dir=tmp_path, max_epochs=3, accelerator="cpu", logger=True,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[ModelCheckpoint(save_top_k=-1, save_last="link")],
    )  # fmt: skip
    trainer.fit(Module(), torch.utils.data.DataLoader(data, batch_size=4))
    checkpoints = found(tmp_path)
    assert [(c.step, c.epoch, c.epochs_completed) for c in checkpoints] == [
        (3, 0, 1), (6, 1, 2), (9, 2, 3),
    ]  # fmt: skip
    assert [c.step_rule for c in checkpoints] == ["content global_step"] * 3
    assert {c.prefix for c in checkpoints} == {"net."}
    assert [c.learning_rate for c in checkpoints] == [0.1] * 3
    for c in checkpoints:
        assert_weights(c, saved[int(c.step)])
    assert [w for n, w in reasons(tmp_path).items() if n.endswith("last.ckpt")] == [
        "a link to " + checkpoints[-1].name
    ]


@FOREIGN
def test_lightnings_average_stands_where_the_weights_were(tmp_path):
    pytest.importorskip("lightning")
    from lightning.pytorch.callbacks import WeightAveraging

    callback = WeightAveraging()
    callback._average_model = nn.Module()
    callback._average_model.state_dict = lambda: {
        **{f"module.{k}": v for k, v in weights(1).items()}, "n_averaged": torch.tensor(3),
    }  # fmt: skip
    content = {"state_dict": weights(0), "global_step": 7, "pytorch-lightning_version": "2.6"}
    callback.on_save_checkpoint(None, None, content)
    save(tmp_path / "epoch=0-step=7.ckpt", content)
    (raw,) = found(tmp_path)
    assert (raw.weights_key, raw.both) == ("current_model_state", True)
    assert_weights(raw, weights(0))
    (average,) = found(tmp_path, weights="ema")
    assert_weights(average, weights(1), weights="ema")


@FOREIGN
def test_transformers_trainer(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, num_labels=3,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    data = [{"input_ids": torch.randint(0, 20, (5,)), "labels": k % 3} for k in range(12)]
    saved = {}

    class Keep(transformers.TrainerCallback):
        def on_save(self, arguments, state, control, model, **_):
            saved[state.global_step] = {k: v.clone() for k, v in model.state_dict().items()}

    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"), num_train_epochs=2, per_device_train_batch_size=2,
        save_steps=3, logging_steps=3, report_to=[], use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=[Keep()])
    trainer.train()
    checkpoints = found(tmp_path / "out")
    assert [(c.step, c.epoch) for c in checkpoints] == [(3, 0.5), (6, 1), (9, 1.5), (12, 2)]
    assert {c.step_rule for c in checkpoints} == {"trainer_state.json"}
    rates = [e["learning_rate"] for e in trainer.state.log_history if "learning_rate" in e]
    assert [c.learning_rate for c in checkpoints] == rates
    for c in checkpoints:
        read = read_weights(c.path)
        assert all(torch.equal(read[k], saved[int(c.step)][k]) for k in read)
    why = reasons(tmp_path / "out")
    assert why["checkpoint-3/optimizer.pt"].startswith("state of an optimizer")
    assert why["checkpoint-3/training_args.bin"].startswith("arguments of the trainer")


@FOREIGN
def test_timm(tmp_path):
    pytest.importorskip("timm")
    from timm.utils import CheckpointSaver, ModelEmaV3

    model = net()
    average = ModelEmaV3(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    arguments = argparse.Namespace(model="net", lr=0.1)
    saver = CheckpointSaver(
        model, optimizer, args=arguments, model_ema=average, checkpoint_dir=str(tmp_path),
        recovery_dir=str(tmp_path),
    )  # fmt: skip
    saved = {}
    for epoch in range(4):
        model.load_state_dict(weights(epoch))
        saved[epoch] = {k: v.clone() for k, v in average.module.state_dict().items()}
        saver.save_recovery(epoch, batch_idx=5)
        saver.save_checkpoint(epoch, metric=float(epoch))
    checkpoints = found(tmp_path)
    assert [(known(c.step), c.epoch, c.epochs_completed) for c in checkpoints] == [
        (None, 0, 1), (None, 1, 2), (None, 2, 3), (None, 3, 4),
    ]  # fmt: skip
    assert [c.name for c in checkpoints] == [f"checkpoint-{k}.pth.tar" for k in range(4)]
    for c in checkpoints:
        assert_weights(c, weights(int(c.epoch)))
        assert_weights(c, saved[int(c.epoch)], weights="ema")
    why = reasons(tmp_path)
    assert why["last.pth.tar"] == "the same file as checkpoint-3.pth.tar"
    assert why["model_best.pth.tar"] == "the same file as checkpoint-3.pth.tar"
    assert "middle of an epoch" in why["recovery-3-5.pth.tar"]
    warnings = " ".join(scan(tmp_path).warnings)
    assert "best by metric of timm's saver" in warnings
    assert "averaged (EMA) weights are there as well" in warnings


@FOREIGN
def test_distributed_checkpoints(tmp_path):
    import torch.distributed.checkpoint as dcp

    for step in (10, 9):
        state = {"model": weights(step), "optimizer": {"m": torch.ones(3)}, "step": step}
        dcp.save(state, checkpoint_id=tmp_path / f"step-{step}")
    checkpoints = found(tmp_path)
    assert [(c.name, c.step, c.step_rule, c.format) for c in checkpoints] == [
        ("step-9", 9, "content step", "distributed"),
        ("step-10", 10, "content step", "distributed"),
    ]
    for c in checkpoints:
        assert_weights(c, weights(int(c.step)))
        assert len(c.sha256) == 64


@FOREIGN
def test_the_application_state_of_torchs_recipe(tmp_path):
    import torch.distributed.checkpoint as dcp

    state = {"app": {"model": weights(3), "optim": {"m": torch.ones(3)}}}
    dcp.save(state, checkpoint_id=tmp_path / "step-3")
    (only,) = found(tmp_path)
    assert (only.step, only.weights_key) == (3, "app.model")
    assert_weights(only, weights(3))


def test_deepspeed(tmp_path):
    for step in (100, 20):
        folder = tmp_path / f"global_step{step}"
        state = {"module": weights(step), "global_steps": step}
        save(folder / "mp_rank_00_model_states.pt", state)
        save(folder / "zero_pp_rank_0_mp_rank_00_optim_states.pt", {"optimizer_state_dict": {}})
    save(folder / "mp_rank_01_model_states.pt", {"module": weights(1)})
    (tmp_path / "latest").write_text("global_step100")
    checkpoints = found(tmp_path)
    assert [(c.step, c.weights_key) for c in checkpoints] == [(20, "module"), (100, "module")]
    assert_weights(checkpoints[0], weights(20))
    why = reasons(tmp_path)
    assert why["latest"] == "says which checkpoint is the last one"
    assert why["global_step20/mp_rank_01_model_states.pt"].startswith("one part of a model-par")


@FOREIGN
def test_sharded_lightning_directory(tmp_path):
    import torch.distributed.checkpoint as dcp

    folder = tmp_path / "epoch=1-step=6.ckpt"
    state = {"model": {f"net.{k}": v for k, v in weights(1).items()}}
    dcp.save(state, checkpoint_id=folder)
    save(folder / "meta.pt", {"epoch": 1, "global_step": 6, "pytorch-lightning_version": "2.6"})
    (only,) = found(tmp_path)
    assert (only.name, only.step, only.epoch) == ("epoch=1-step=6.ckpt", 6, 1)
    assert_weights(only, weights(1))
    assert found(folder)[0].name == "epoch=1-step=6.ckpt"


@FOREIGN
def test_flattened_names_beside_an_optimizer(tmp_path):
    """torchtitan keeps the parameters at the top level of the last step."""
    import torch.distributed.checkpoint as dcp

    dcp.save(weights(2), checkpoint_id=tmp_path / "step-5")
    (only,) = found(tmp_path)
    assert only.step == 5
    assert_weights(only, weights(2))


def test_torchvision_references(tmp_path):
    """The layout of references/classification/train.py, which is a script and no package."""
    model, optimizer = net(), torch.optim.SGD(net().parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    average = torch.optim.swa_utils.AveragedModel(model)
    for epoch in (0, 1, 10):
        model.load_state_dict(weights(epoch))
        average.module.load_state_dict(weights(epoch + 50))
        content = {
            "model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch,
            "lr_scheduler": schedule.state_dict(), "args": argparse.Namespace(lr=0.1, data=Path()),
            "model_ema": average.state_dict(),
        }  # fmt: skip
        save(tmp_path / f"model_{epoch}.pth", content)
        save(tmp_path / "checkpoint.pth", content)
    checkpoints = found(tmp_path)
    assert [(c.name, known(c.step), c.epoch, c.epochs_completed) for c in checkpoints] == [
        ("model_0.pth", None, 0, 1), ("model_1.pth", None, 1, 2), ("model_10.pth", None, 10, 11),
    ]  # fmt: skip
    for c in checkpoints:
        assert_weights(c, weights(int(c.epoch)))
        assert_weights(c, weights(int(c.epoch) + 50), weights="ema")
    assert reasons(tmp_path)["checkpoint.pth"] == "the same weights as model_10.pth"


def test_averaged_model_of_torch(tmp_path):
    average = torch.optim.swa_utils.AveragedModel(net(3))
    save(tmp_path / "swa_step_4.pt", average.state_dict())
    (only,) = found(tmp_path)
    assert only.weights == "ema"
    assert "averaged (EMA) weights, not those" in scan(tmp_path).warnings[-1]
    assert_weights(only, weights(3))
    (refused,) = found(tmp_path, weights="model")
    assert "holds no trained weights" in str(refused.problem)
    assert "--weights ema" in refused.problem.fix


def test_averaged_weights_are_no_part_of_a_series_of_trained_ones(tmp_path):
    save(tmp_path / "step_1.pt", weights(1))
    save(tmp_path / "step_2.pt", {"ema": weights(2)})
    good, bad = found(tmp_path)
    assert good.problem is None
    assert "averaged weights among" in str(bad.problem)


# --- built to the documented layout


def mmengine_content(epoch: int, iteration: int):
    meta = {"epoch": epoch, "iter": iteration, "time": "2026", "seed": np.int64(3)}
    average = {f"module.{k}": v for k, v in weights(epoch + 50).items()}
    return {
        "meta": meta, "state_dict": weights(epoch), "message_hub": {"x": np.float64(0.5)},
        "ema_state_dict": average | {"steps": torch.tensor(9)},
    }  # fmt: skip


def test_mmengine(tmp_path):
    for epoch in (1, 2, 12):
        save(tmp_path / f"epoch_{epoch}.pth", mmengine_content(epoch, 100 * epoch))
    save(tmp_path / "best_acc_epoch_2.pth", mmengine_content(2, 200))
    (tmp_path / "last_checkpoint").write_text("epoch_12.pth")
    checkpoints = found(tmp_path)
    assert [(c.step, c.epoch, c.epochs_completed) for c in checkpoints] == [
        (100, 1, 1), (200, 2, 2), (1200, 12, 12),
    ]  # fmt: skip
    assert {c.step_rule for c in checkpoints} == {"content meta.iter"}
    assert_weights(checkpoints[1], weights(2))
    assert_weights(checkpoints[1], weights(52), weights="ema")
    assert reasons(tmp_path)["best_acc_epoch_2.pth"] == "the same weights as epoch_2.pth"


def test_mmengine_keeps_its_own_records_and_need_not_be_installed(tmp_path, monkeypatch):
    import sys
    import types

    names = ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer")
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    buffer = type("HistoryBuffer", (), {"__module__": names[-1]})
    sys.modules[names[-1]].HistoryBuffer = buffer
    record = buffer()
    record._log_history = np.arange(3.0)
    content = mmengine_content(1, 100) | {"message_hub": {"log_scalars": {"loss": record}}}
    save(tmp_path / "epoch_1.pth", content)
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    assert_weights(found(tmp_path)[0], weights(1))


def test_nanogpt(tmp_path):
    content = {
        "model": {f"_orig_mod.{k}": v for k, v in weights(5).items()}, "iter_num": 2000,
        "model_args": {"n_layer": 1}, "best_val_loss": torch.tensor(1.5), "config": {"lr": 0.1},
    }  # fmt: skip
    save(tmp_path / "ckpt.pt", content)
    (only,) = found(tmp_path)
    assert (only.step, only.step_rule, only.prefix) == (2000, "content iter_num", "_orig_mod.")
    assert "only one checkpoint" in scan(tmp_path).warnings[0]
    assert_weights(only, weights(5))


def test_composer(tmp_path):
    for batch in (20, 100):
        content = {"state": {"model": weights(batch)}, "rng": []}
        save(tmp_path / f"ep1-ba{batch}-rank0.pt", content)
        save(tmp_path / f"ep1-ba{batch}-rank1.pt", content)
    (tmp_path / "latest-rank0.pt").symlink_to("ep1-ba100-rank0.pt")
    checkpoints = found(tmp_path)
    assert [(c.step, c.epoch, c.weights_key) for c in checkpoints] == [
        (20, 1, "state.model"), (100, 1, "state.model"),
    ]  # fmt: skip
    assert_weights(checkpoints[0], weights(20))
    why = reasons(tmp_path)
    assert why["latest-rank0.pt"] == "a link to ep1-ba100-rank0.pt"
    assert why["ep1-ba20-rank1.pt"] == "the file of another rank; rank 0 is read"


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("shards", [1, 3])
def test_hugging_face_directories(tmp_path, kind, shards):
    for step in (1000, 500):
        folder = tmp_path / f"checkpoint-{step}"
        hugging_face(folder, step, weights(step), shards=shards, kind=kind)
    checkpoints = found(tmp_path)
    assert [(c.step, c.epoch, c.epochs_completed) for c in checkpoints] == [
        (500, 1, 1), (1000, 2, 2),
    ]  # fmt: skip
    for c in checkpoints:
        assert_weights(c, weights(int(c.step)))
    if shards > 1:
        assert [c.name for c in checkpoints] == ["checkpoint-500", "checkpoint-1000"]


def test_the_final_weights_beside_the_last_checkpoint_are_found_once(tmp_path):
    hugging_face(tmp_path / "out", 1000, weights(1))
    hugging_face(tmp_path / "out" / "checkpoint-1000", 1000, weights(1))
    assert len(found(tmp_path / "out")) == 1


def test_suffixed_names_of_hugging_face(tmp_path):
    hugging_face(tmp_path / "checkpoint-230500-loss-1.2531", None, weights(1))
    (only,) = found(tmp_path)
    assert (only.step, only.step_rule) == (230500, "name checkpoint-N")


PYTHIA = {
    "step0": (0, None),
    "step1": (1, None),
    "step512": (512, None),
    "step1000-tokens4B": (1000, 4e9),
    "stage1-step1500-tokens6B": (1500, 6e9),
    "step-002000-2BT": (2000, 2e9),
    "step143000": (143000, None),
}


def test_revisions_of_pythia_olmo_and_fineweb(tmp_path):
    for k, name in enumerate(PYTHIA):
        hugging_face(tmp_path / name, None, weights(k))
    checkpoints = found(tmp_path)
    assert [(c.step, known(c.tokens)) for c in checkpoints] == list(PYTHIA.values())
    assert scan(tmp_path).warnings == []  # log-spaced steps are no gaps


def test_fairseq_names(tmp_path):
    for epoch, step in ((1, 500), (2, 1000)):
        save(tmp_path / f"checkpoint_{epoch}_{step}.pt", {"model": weights(step)})
    assert [(c.step, c.epoch) for c in found(tmp_path)] == [(500, 1), (1000, 2)]


def test_what_is_not_read_is_named(tmp_path):
    save(tmp_path / "step_1.pt", weights())
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "_CHECKPOINT_METADATA").write_text("{}")
    save_file(weights(), tmp_path / "adapter_model.safetensors")
    save(tmp_path / "layer_00-model_00-model_states.pt", weights())
    save(tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt", weights())
    why = reasons(tmp_path)
    assert why["7"].startswith("an Orbax checkpoint")
    assert why["adapter_model.safetensors"].startswith("a LoRA adapter")
    assert why["layer_00-model_00-model_states.pt"].startswith("one layer of a DeepSpeed")
    assert "zero_pp_rank_0_mp_rank_00_optim_states.pt" in why
    assert [c.name for c in found(tmp_path)] == ["step_1.pt"]


# --- wrappers, in any nesting

WRAPPED = [
    "module.{}", "_orig_mod.{}", "module._orig_mod.{}", "_orig_mod.module.{}",
    "model.module._orig_mod.{}", "net.model.{}",
]  # fmt: skip


@pytest.mark.parametrize("form", WRAPPED)
def test_prefixes(tmp_path, form):
    save(tmp_path / "step_1.pt", {"state_dict": {form.format(k): v for k, v in weights(4).items()}})
    assert_weights(found(tmp_path)[0], weights(4))


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "module"])
def test_wrappers_inside(tmp_path, wrapper):
    inside = {k.replace("0.", f"0.{wrapper}.", 1): v for k, v in weights(4).items()}
    assert inside.keys() != weights(4).keys()
    save(tmp_path / "step_1.pt", {f"model.{k}": v for k, v in inside.items()})
    assert_weights(found(tmp_path)[0], weights(4))


def test_a_compiled_model_and_an_averaged_one(tmp_path):
    compiled = torch.compile(net(4))
    average = torch.optim.swa_utils.AveragedModel(compiled)
    save(tmp_path / "step_1.pt", compiled.state_dict())
    save(tmp_path / "step_2.pt", {"model": weights(5), "model_ema": average.state_dict()})
    first, second = found(tmp_path)
    assert_weights(first, weights(4))
    assert_weights(second, weights(4), weights="ema")


# --- the table


def distributed(folder: Path) -> None:
    import torch.distributed.checkpoint as dcp

    dcp.save({"model": weights()}, checkpoint_id=folder, no_dist=True)


EXAMPLES = {
    "distributed": lambda run: distributed(run / "step_5"),
    "shards": lambda run: hugging_face(run / "step_5", None, weights(), shards=2),
    "safetensors": lambda run: save_file(weights(), run / "step_5.safetensors"),
    "torch": lambda run: save(run / "step_5.pt", weights()),
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@FOREIGN
def test_every_layout_is_recognised_read_and_explained(tmp_path, layout):
    EXAMPLES[layout.name](tmp_path)
    (only,) = found(tmp_path)
    assert layout.name in only.format
    assert only.step == 5
    assert_weights(only, weights())
    page = Path(__file__).parents[1] / "docs" / "checkpoints.md"
    assert f"- {layout.on_disk}\n" in page.read_text(encoding="utf-8")


def test_a_directory_of_no_layout_says_which_there_are(tmp_path):
    save(tmp_path / "step_5" / "weights" / "a.pt", weights())
    (tmp_path / "list.csv").write_text("checkpoint,step\nstep_5,5\n")
    (only,) = found(tmp_path, manifest=tmp_path / "list.csv")
    assert only.problem.what == "the directory is no checkpoint"
    for layout in LAYOUTS:
        assert (layout.on_disk in only.problem.expected) == (layout.mark is not None)
