"""Whether the model's own backward pass can be trusted, by which all else is judged.

Plain autograd over a batch must give the sum of what it gives one example at a time. The forward
pass has been shown not to mix examples, so only a backward pass that is wrong for some shape can
differ: torch's own has been, for some models, at a batch of one.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from analyze.errors import CheckpointError, InputError, listed
from analyze.gradients.checks.finite_differences import derivative_among
from analyze.gradients.checks.floors import explained, sum_is_off
from analyze.gradients.checks.precision import RELATIVE, rounding_share
from analyze.gradients.checks.reference import Autograd, Reference, squared_norms
from analyze.gradients.data.loader import Examples


def trustworthy(
    autograd: Autograd, examples: Examples, reference: Reference
) -> tuple[Reference, Autograd]:
    """What plain autograd gives of some probes, and the autograd that is right for each alone.

    ``reference`` is what ``autograd`` gives of each alone. Where that adds up to something else
    than their batch gives, an example beside itself is taken, if finite differences side with it.

    Raises:
        InputError: the two differ, and it is not shown which of them is right.

    Cost: a forward and a backward pass of all together; where they differ, those of the reference
    once more and eight forward passes.
    """
    wrong = _off_the_batch(autograd, examples, reference)
    if not wrong:
        return reference, autograd
    verdict = None
    if autograd.copies == 1:
        beside_itself = replace(autograd, copies=2)
        doubled = beside_itself.alone(examples)
        if not _off_the_batch(beside_itself, examples, doubled):
            k = int((reference.network - doubled.network).abs().argmax())
            gradients = [
                reference.of_one(examples, k)[1] for reference in (autograd, beside_itself)
            ]
            verdict = derivative_among(autograd, examples, k, *gradients)
        if verdict == 1:
            return doubled, beside_itself
    sides = "with the gradient alone" if verdict == 0 else "with neither for sure"
    raise InputError(
        "the backward pass gives an example another gradient alone than beside others",
        found=f"{listed(wrong)}: the gradient of {len(examples.inputs)} probes together is not the "
        "sum of those alone, though the outputs are the same (torch "
        f"{torch.__version__}); finite differences side {sides}",
        expected="one gradient of each example, whatever stands beside it",
        fix="look for a custom autograd function whose backward pass depends on the batch; for a "
        "maximum, mean or sort over the batch, or a parameter for each place in it, whose weight "
        "is zero as yet; and for a loss that looks at other examples. Give a model without what "
        "differs: --model FILE.py:FACTORY",
    )


def _off_the_batch(autograd: Autograd, examples: Examples, reference: Reference) -> list[str]:
    """Parameters whose gradient over the batch is not the sum of the reference's gradients."""
    _, gradients = autograd.together(examples)
    rtol = RELATIVE[autograd.precision]
    floor = rounding_share(autograd.precision) * reference.network
    squares = reference.squared_norms
    totals = reference.totals
    change = squared_norms((n, g - totals[n]) for n, g in gradients.items() if n in totals)
    wrong = [name for name in change if sum_is_off(change[name], squares[name], rtol, floor)]
    rounding = autograd.rounding(examples, wrong)
    return [
        name
        for name in wrong
        if not explained(change[name], rounding[name].sum(), squares[name].sum())
    ]


def check_finite(reference: Reference) -> None:
    """Refuse losses and gradients that are not finite: nothing can be proven of them.

    Raises:
        CheckpointError: some are not.
    """
    losses, norms = reference.losses, reference.squared_norms
    bad = [name for name, squares in norms.items() if not squares.isfinite().all()]
    if bad or not losses.isfinite().all():
        raise CheckpointError(
            "losses or gradients are not finite",
            found=f"losses {listed([f'{loss:.4g}' for loss in losses.tolist()], 4)} of probes; "
            f"gradients with NaN or infinity in {listed(bad, 4) or 'no parameter'}",
            expected="finite losses and gradients by plain autograd: the proof compares with it",
            fix="leave the checkpoint out: --checkpoints GLOB",
        )
