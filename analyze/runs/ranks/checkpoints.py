"""The outcome of each checkpoint on the ranks of a launch: whole ones first, then divided ones."""

from __future__ import annotations

import copy
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import Pipe

import torch

from analyze.checkpoints.checkpoint import Checkpoint
from analyze.errors import CheckpointError, described
from analyze.gradients.engine import Engine
from analyze.gradients.ranks.team import Command
from analyze.models.building import build_model
from analyze.runs.loading import Loaded
from analyze.runs.measuring import advanced, measured, one_by_one
from analyze.runs.messages import showing
from analyze.runs.outcome import Outcome
from analyze.runs.preparation import Prepared
from analyze.runs.progress import Progress
from analyze.runs.protocol import Tell
from analyze.runs.ranks.dealing import dealing_of
from analyze.runs.ranks.follower import KNOW, MEASURE, TAKE_OVER, Follower, serve
from analyze.runs.ranks.leader import Leader
from analyze.runs.ranks.line import EndedError, GoneError, Line
from analyze.runs.units.configuration import configuration_of, differing
from analyze.runs.units.folder import Folder

LOST = "{name}: {reason}; measured again"


def on_ranks(
    prepared: Prepared, folder: Folder, progress: Progress, leader: Leader
) -> Generator[Outcome, None, None]:
    """The outcome of each checkpoint, in the order in which they are done.

    Those that may have a unit come first. A whole checkpoint that fails on its rank by no fault of
    the checkpoint is measured again with the leading rank, where errors show.

    Raises:
        InputError: a rank has ended, gives no sign, or found another job than this one.
    """
    units = [c for c in prepared.job.checkpoints if _may_have_a_unit(prepared, folder, c)]
    left = [c for c in prepared.job.checkpoints if c not in units]
    dealing = dealing_of(prepared.engine, len(left), leader.ranks)
    if left and not leader.begun:
        progress.note(f"{leader}: {dealing}")
        _begin(prepared, leader)
    by_all = partial(one_by_one, measure=None)
    if not prepared.engine.settings.directions:
        by_all = partial(one_by_one, measure=partial(_measured_by_all, prepared, leader))
    yield from by_all(prepared.on(units), folder, progress)
    whole, divided = left[: dealing.whole], left[dealing.whole :]
    for checkpoint, outcome in _dealt_out(prepared, progress, leader, whole):
        if isinstance(outcome, Outcome):
            yield outcome
        else:
            divided.append(checkpoint)
            reason = described(outcome)
            progress.note(LOST.format(name=checkpoint.name, reason=reason))
    yield from by_all(prepared.on(divided), folder, progress)


def _may_have_a_unit(prepared: Prepared, folder: Folder, checkpoint: Checkpoint) -> bool:
    """Whether the leading rank alone knows what to do: there is a unit's file, or a problem."""
    return checkpoint.name in prepared.problems or folder.has(checkpoint.name)


def _begin(prepared: Prepared, leader: Leader) -> None:
    """Tell the other ranks the job; refuse those that find another one.

    Raises:
        InputError: the model, the loss or the probes are others there.
    """
    job, engine = prepared.job, prepared.engine
    facts = {**vars(job), "loss": None}  # made anew there: a user's own function is no data
    arguments = (facts, engine.settings, prepared.division)
    own = partial(_configuration, prepared)
    ours, *theirs = leader.together((KNOW, arguments), own)
    for rank, configuration in enumerate(theirs, 1):
        if fields := differing(ours, configuration):
            raise leader.refuse(rank, f"{'; '.join(fields)} there")
    leader.begun = True


def _configuration(prepared: Prepared) -> dict[str, object]:
    job = prepared.job
    return configuration_of(job, build_model(job.model), prepared.engine)


def _dealt_out(
    prepared: Prepared, progress: Progress, leader: Leader, checkpoints: list[Checkpoint]
) -> Iterator[tuple[Checkpoint, Outcome | Exception]]:
    """Whole checkpoints with their outcomes, each measured by one rank, this one among them."""
    if not checkpoints:
        return

    def tasks() -> Iterator[Command]:
        for checkpoint in checkpoints:
            leader.doing = f"the measurement of {checkpoint.name} and others"
            following = prepared.following.get(checkpoint.name)
            yield MEASURE, (checkpoint, prepared.engine.current, following)

    with _beside(prepared) as own:
        for (_, (checkpoint, *_)), outcome in leader.each(tasks(), own, showing(progress)):
            yield checkpoint, outcome


@contextmanager
def _beside(prepared: Prepared) -> Iterator[Line]:
    """A line to a thread that measures for this rank, as the others do, while this one leads."""
    ours, theirs = (Line(connection) for connection in Pipe())
    follower = Follower.beside(prepared.job, copy.copy(prepared.engine))

    def work() -> None:
        torch.set_num_threads(prepared.division.threads)
        with suppress(GoneError, EndedError):
            serve(theirs, follower, None)
        theirs.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield ours
    finally:
        ours.close()  # it ends at the next batch
        thread.join()


def _measured_by_all(
    prepared: Prepared,
    leader: Leader,
    engine: Engine,
    checkpoint: Checkpoint,
    loaded: Loaded,
    tell: Tell,
) -> Outcome:
    """The outcome of a checkpoint whose batches are divided among all ranks.

    Raises:
        CheckpointError: it cannot be measured, or read, or the ranks read different files.
        InputError: a rank has ended, or gives no sign.
    """
    if not leader.begun:
        _begin(prepared, leader)
    leader.doing = f"the measurement of {checkpoint.name}"
    leader.told = partial(advanced, tell, checkpoint.name)
    command = TAKE_OVER, (checkpoint, engine.current)
    hashes = leader.together(command, lambda: loaded.sha256)
    if len(set(hashes)) > 1:
        raise CheckpointError(
            "the ranks of the launch do not read the same checkpoint",
            found=f"{checkpoint.name} with {len(set(hashes))} contents, by its hash",
            expected="the same files on all machines",
            fix="a directory that all machines share, or copies that are complete",
        )
    return measured(engine, checkpoint, loaded, tell, leader)
