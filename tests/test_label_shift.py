"""Targets of language models: the next tokens, shifted where asked, never the inputs unseen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import analyze
from tests import oracle
from tests.conftest import call

EXAMPLES, LENGTH, WORDS = 12, 8, 11
SHIFTED = "cross_entropy?shift=1"


class Recurrent(nn.Module):
    """A causal language model."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 6)
        self.layer = nn.GRU(6, 6, batch_first=True)
        self.head = nn.Linear(6, WORDS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.head(self.layer(self.words(input_ids))[0])


def tokens(length: int = LENGTH) -> Tensor:
    return torch.randint(0, WORDS, (EXAMPLES, length), generator=torch.Generator().manual_seed(0))


def padded(labels: Tensor) -> Tensor:
    """As a trainer's collator leaves them: what is padded, or was asked, does not count."""
    labels = labels.clone()
    labels[::3, 5:] = -100
    labels[1::3, :2] = -100
    return labels


def measured(ids: Tensor, labels: Tensor, loss: str = "cross_entropy", **further: Tensor):
    torch.manual_seed(0)
    probes = analyze.ProbeSet(
        {"input_ids": ids} | further, labels, ["clean", "corrupted"] * (EXAMPLES // 2)
    )
    return analyze.measure(
        Recurrent(), probes, loss=loss, device="cpu", folds=1, precision="float64"
    )


def shuffled(ids: Tensor) -> Tensor:
    """Labels of every second example are those of another."""
    ids = ids.clone()
    ids[1::2] = ids[1::2].roll(1, 0)
    return ids


UNSHIFTED = {
    "all": tokens(),
    "padded": padded(tokens()),
    "other labels in one subset": shuffled(tokens()),
    "few examples with their own": torch.cat([tokens()[:4], tokens()[4:].flip(0)]),
}


@pytest.mark.parametrize("name", UNSHIFTED)
def test_labels_that_are_the_inputs_are_refused_with_both_ways_out(name):
    with pytest.raises(analyze.InputError, match="own inputs") as caught:
        measured(tokens(), UNSHIFTED[name], "cross_entropy?label_smoothing=0.1")
    assert "'cross_entropy?label_smoothing=0.1&shift=1'" in caught.value.fix
    assert "'cross_entropy?label_smoothing=0.1&shift=0'" in caught.value.fix


def test_they_are_found_beside_a_mask_and_in_short_sequences():
    mask = torch.ones(EXAMPLES, LENGTH, dtype=torch.int64)
    with pytest.raises(analyze.InputError, match=r"equal to inputs\.input_ids"):
        measured(tokens(), tokens(), attention_mask=mask)
    with pytest.raises(analyze.InputError, match="own inputs"):
        measured(tokens(3), tokens(3))


def following(ids: Tensor) -> Tensor:
    return F.pad(ids[:, 1:], (0, 1), value=-100)


def masked(ids: Tensor) -> Tensor:
    """A masked language model's: few count, and of these one in ten is the input."""
    labels = torch.full_like(ids, -100)
    labels[:, 1:5] = (ids[:, 1:5] + 1) % WORDS
    labels[0, 1:5] = ids[0, 1:5]
    return labels


OTHERS = {
    "next tokens": following(tokens()),
    "padded": padded(following(tokens())),
    "masked": masked(tokens().repeat_interleave(2, 0)[:EXAMPLES]),
    "random": tokens().flip(0),
    "tags": tokens() % 3,
    "short": tokens().flip(0)[:, :2],
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_labels_are_taken_as_they_are(name):
    labels = OTHERS[name]
    ids = tokens().repeat_interleave(2, 0)[:EXAMPLES] if name == "masked" else tokens()
    tree = measured(ids[:, : labels.shape[1]], labels)
    truth = truth_of(ids[:, : labels.shape[1]], labels)
    assert_same(tree, truth)


def test_a_constant_sequence_says_nothing():
    ids = torch.arange(EXAMPLES)[:, None].remainder(WORDS).repeat(1, LENGTH)
    assert_same(measured(ids, ids), truth_of(ids, ids))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("labels", [tokens(), padded(tokens())], ids=["all", "padded"])
def test_shifted_as_transformers_does(labels, smoothing):
    """Logits without the last position against labels without the first."""
    tree = measured(tokens(), labels, f"{SHIFTED}&label_smoothing={smoothing}")
    assert_same(tree, truth_of(tokens(), following(labels), smoothing))
    torch.manual_seed(0)
    logits = Recurrent().double()(tokens())[:, :-1]
    mean = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), label_smoothing=smoothing)
    assert tree["loss_per_token"].sel(subset="all").item() == pytest.approx(mean.item(), rel=1e-9)
    counted = labels[:, 1:] != -100
    assert tree["token_count"].sel(subset="all").item() == counted.sum()
    right = (logits.argmax(-1) == labels[:, 1:]) & counted
    share = (right.sum(1) / counted.sum(1)).mean().item()
    assert tree["accuracy"].sel(subset="all").item() == pytest.approx(share)


def truth_of(ids: Tensor, labels: Tensor, smoothing: float = 0.0) -> oracle.Statistics:
    torch.manual_seed(0)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(
            output.flatten(0, 1), target.flatten(), reduction="sum", label_smoothing=smoothing
        )

    cell = [k % 2 for k in range(EXAMPLES)]
    return oracle.statistics(Recurrent(), {"input_ids": ids}, labels, cell, 2, loss=loss)


def assert_same(tree, truth: oracle.Statistics) -> None:
    for name, gram in truth.gram.items():
        found = tree["parameters"]["gradient_gram"].sel(parameter=name).values[0]
        assert oracle.relative_error(found, gram) < 1e-9, name


def test_as_transformers_itself_computes_it():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_positions=LENGTH, n_embd=8, n_layer=1, n_head=2
    )
    torch.manual_seed(0)
    model, labels = transformers.GPT2LMHeadModel(config).eval(), padded(tokens())
    expected = model(input_ids=tokens(), labels=labels).loss.item()
    probes = analyze.ProbeSet({"input_ids": tokens()}, labels)
    tree = analyze.measure(model, probes, loss=SHIFTED, device="cpu", folds=1)
    assert tree["loss_per_token"].sel(subset="all").item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(analyze.InputError, match="own inputs"):
        analyze.measure(model, probes, device="cpu", folds=1)


def test_copying_is_measured_where_it_is_said():
    tree = measured(tokens(), tokens(), "cross_entropy?shift=0")
    assert_same(tree, truth_of(tokens(), tokens()))


def test_nothing_is_shifted_twice():
    with pytest.raises(analyze.InputError, match="shifted already") as caught:
        measured(tokens(), following(tokens()), SHIFTED)
    assert "'cross_entropy?shift=0'" in caught.value.fix


@pytest.mark.parametrize(
    ("targets", "message"),
    [(torch.rand(EXAMPLES, 3), "soft targets are not shifted"),
     (torch.randint(0, 3, (EXAMPLES,)), "only sequences")],
    ids=["soft", "classes"],
)  # fmt: skip
def test_only_sequences_of_classes_are_shifted(targets, message):
    with pytest.raises(analyze.InputError, match=message) as caught:
        analyze.measure(
            nn.Linear(4, 3), analyze.ProbeSet(torch.randn(EXAMPLES, 4), targets), loss=SHIFTED
        )
    assert "'cross_entropy'" in caught.value.fix


def test_a_sequence_without_anything_after_it_has_no_target():
    with pytest.raises(analyze.InputError, match="no target counts"):
        measured(tokens(1), tokens(1), SHIFTED)


def test_losses_are_shown_per_token(tmp_path):
    from analyze.reports.summary import subset_summary
    from analyze.results.file import write_results

    tree = measured(tokens(), padded(tokens()), SHIFTED)
    write_results(tree, tmp_path / "o.h5")
    shown = call("show", str(tmp_path / "o.h5")).stdout
    assert "mean loss per token and per probe, nats" in shown
    rows = call("show", str(tmp_path / "o.h5"), "--csv").stdout.splitlines()
    column = rows[0].split(",").index("loss_per_token")
    found = [float(row.split(",")[column]) for row in rows[1:]]
    assert found == pytest.approx(tree["loss_per_token"].values[0].tolist())
    assert f"{found[0]:.4g}" in shown
    loss, count = (tree[n].sel(subset="clean") for n in ("loss", "token_count"))
    assert found[0] == pytest.approx(loss.item() * (EXAMPLES // 2) / count.item())
    assert subset_summary(tree, "clean", "clean").loss_per_token == found[0]


def test_a_loss_of_one_position_has_none():
    probes = analyze.ProbeSet(torch.randn(EXAMPLES, 4), torch.randint(0, 3, (EXAMPLES,)))
    tree = analyze.measure(nn.Linear(4, 3), probes, device="cpu", folds=1)
    assert "loss_per_token" not in tree
    assert "token_count" not in tree
