"""What the verification of numbers proves, in words."""

from __future__ import annotations


def agreement(alone: int, elsewhere: int) -> str:
    """What the verification of a run proves, in words; empty where nothing was verified.

    ``alone`` probes were compared with plain autograd and ``elsewhere`` probes measured again in
    other batches, over all checkpoints. By the rule of three, with no failure among ``n`` random
    probes, the share that is off is below ``3 / n`` with 95 % confidence.
    """
    if not alone:
        return ""
    agree = (
        f"{alone} of {alone} probes agree with plain autograd alone, and {elsewhere} of "
        f"{elsewhere} with themselves in other batches"
    )
    if alone <= 3:
        return f"{agree}: too few to say how many of all do"
    off = f"fewer than 3/{alone} of the probes are off ({3 / alone:.1%})"
    return f"{agree}: with 95 % confidence {off}"
