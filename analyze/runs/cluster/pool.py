"""The machines of a cluster as workers: a checkpoint is a task of Ray's.

Ray sees to it where a task runs, and takes machines that come and go. What fails is tried again,
elsewhere where there is an elsewhere; a checkpoint that goes on failing is skipped with the reason.
"""

from __future__ import annotations

import math
import pickle
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from analyze.errors import CheckpointError, InputError, first_line
from analyze.gradients.device.devices import is_cpu
from analyze.runs.cluster import work
from analyze.runs.cluster.address import LOCAL
from analyze.runs.cluster.connection import connected
from analyze.runs.commission import Commission, Task, placed
from analyze.runs.outcome import Outcome
from analyze.runs.preparation import Prepared
from analyze.runs.progress import Progress
from analyze.runs.protocol import DONE, FAILED, MESSAGE, Tell

PAUSE = 1.0  # seconds after which new machines and signals are looked for
LIMITS = {"worker": 2, "machine": 5, "failure": 2}  # how often each may happen to a checkpoint
WAITING = (
    "Warning: no machine of the cluster has {wanted} free for a task now; the run waits for one"
)


@dataclass(frozen=True)
class Needs:
    """What a task takes of a machine."""

    cpus: int
    gpus: float

    def slots(self, resources: dict[str, float]) -> int:
        """How many tasks run at a time with these resources."""
        counts = [resources.get("CPU", 0.0) / self.cpus]
        if self.gpus:
            counts.append(resources.get("GPU", 0.0) / self.gpus)
        return math.floor(min(counts) + 1e-9)

    def __str__(self) -> str:
        return f"{self.cpus} CPUs and {self.gpus:g} GPUs" if self.gpus else f"{self.cpus} CPUs"


@contextmanager
def cluster_for(
    prepared: Prepared, where: str, gpus: float | None, progress: Progress
) -> Iterator[Cluster]:
    """The cluster at ``where`` for the checkpoints of a run, within the block.

    Each task has ``gpus`` GPUs, by default one where the run was prepared on one, and as many
    processors as the run has threads.

    Raises:
        InputError: there is no such cluster, or a machine of it would measure something else.
    """
    engine = prepared.engine
    if gpus is None:
        gpus = 0.0 if is_cpu(engine.device) else 1.0
    needs = Needs(prepared.division.threads, gpus)
    commission = pickle.dumps(
        Commission.of(prepared, engine.device.type, prepared.division.threads)
    )
    with connected(where) as ray:
        cluster = Cluster(ray, commission, needs, progress)
        cluster.check_machines()
        cluster.check_room(may_grow=where != LOCAL)
        try:
            yield cluster
        finally:
            cluster.end()


class Cluster:
    """Tasks of a connected Ray."""

    def __init__(
        self, ray: ModuleType, commission: bytes, needs: Needs, progress: Progress
    ) -> None:
        self._ray = ray
        self._needs = needs
        self._progress = progress
        self._commission = ray.put(commission)
        self._running: dict[Any, Task] = {}
        self._failures: Counter[tuple[str, str]] = Counter()
        options = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "max_retries": 0}
        self._work = ray.remote(num_returns="streaming", **options)(work.work)

    def check_machines(self) -> None:
        """Ask every machine whether it measures what this one does.

        Raises:
            InputError: one does not, or has no such package.
        """
        ray = self._ray
        strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        look = ray.remote(num_cpus=0, max_retries=0)(_look)
        asked = {
            look.options(scheduling_strategy=strategy(node["NodeID"], soft=False)).remote(
                self._commission
            ): node["NodeManagerHostname"]
            for node in ray.nodes()
            if node["Alive"]
        }
        for answer, host in asked.items():
            try:
                error = ray.get(answer)
            except ray.exceptions.RayError as problem:
                raise InputError(
                    "a machine of the cluster cannot measure",
                    found=f"{host}: {_last_line(problem)}",
                    expected="this program, in the same version, on every machine of the cluster",
                    fix=f"pip install gradient-coherence on {host}",
                ) from problem
            if error is not None:
                raise error

    def check_room(self, may_grow: bool) -> None:
        """See whether a task fits; a cluster that may grow is waited for.

        Raises:
            InputError: none fits, and no machine can come.
        """
        there = self._ray.cluster_resources()
        if self._needs.slots(there):
            return
        if not may_grow:
            raise InputError(
                "no task fits on this machine",
                found=f"{there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs that Ray "
                f"knows of, with --cluster {LOCAL}",
                expected=f"{self._needs} for a task",
                fix="leave out --cluster, --gpus-per-task and --cpus-per-task",
            )
        self._progress.note(WAITING.format(wanted=self._needs))

    def results(self, tasks: Iterable[Task], receive: Tell) -> Iterator[tuple[Task, Any]]:
        """Every task with its result, in the order in which they are done; see ``Pool``."""
        coming, back = iter(tasks), deque[Task]()
        while True:
            while len(self._running) < self._most():
                task = back.popleft() if back else next(coming, None)
                if task is None:
                    break
                self._submit(task)
            if not self._running:
                return
            ready, _ = self._ray.wait(
                list(self._running), num_returns=1, timeout=PAUSE, fetch_local=False
            )
            for generator in ready:
                kind, content = self._received(generator)
                if kind == MESSAGE:
                    receive(content)
                    continue
                task = self._running.pop(generator)
                if kind == work.REFUSED:
                    raise content
                if kind == DONE:
                    yield task, self._with_own(task, content)
                elif (outcome := self._failed(task, kind, content)) is not None:
                    yield task, outcome
                else:
                    back.append(task)

    def end(self) -> None:
        """Cancel all tasks, also those that run."""
        for generator in self._running:
            with suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.cancel(generator, force=True)
        self._running.clear()

    def _most(self) -> int:
        """Tasks that are given to Ray at a time: some wait, by which a cluster sees to grow."""
        return 2 * self._needs.slots(self._ray.cluster_resources()) + 2

    def _submit(self, task: Task) -> None:
        following = None if task.following is None else placed(task.following)
        elsewhere = replace(task, checkpoint=placed(task.checkpoint), following=following)
        self._running[self._work.remote(self._commission, elsewhere)] = task

    def _received(self, generator: Any) -> tuple[str, Any]:
        """The kind and content of the next thing that a task says, or how it was lost."""
        errors = self._ray.exceptions
        try:
            kind, content = self._ray.get(next(generator))
        except errors.NodeDiedError as error:
            return "machine", f"its machine was lost: {first_line(error)}"
        except errors.OutOfMemoryError:
            return "worker", "the memory of its machine was not enough, and Ray ended its worker"
        except errors.LocalRayletDiedError as error:
            raise self._lost(error) from error
        except (errors.RayError, StopIteration) as error:
            return "worker", f"its worker ended early ({type(error).__name__})"
        return kind, content

    def _failed(self, task: Task, kind: str, why: Any) -> Outcome | None:
        """The outcome of a checkpoint that failed once too often; None where it is tried again.

        Raises:
            InputError: it is no fault of the checkpoint, and happened twice.
        """
        kind = "failure" if kind == FAILED else kind
        name = task.checkpoint.name
        self._failures[name, kind] += 1
        if self._failures[name, kind] < LIMITS[kind]:
            said = first_line(why) if isinstance(why, InputError) else why
            self._progress.note(f"Warning: {name} is measured again: {said}")
            return None
        if isinstance(why, InputError):
            raise why
        problem = CheckpointError(
            "the checkpoint could not be measured in the cluster",
            found=f"{name}, {LIMITS[kind]} times: {why}",
            expected="a worker that lives until it has measured it",
            fix=f"the same command again, or --checkpoints {name} without --cluster",
        )
        return Outcome(task.checkpoint, problem=problem)

    def _lost(self, error: Exception) -> InputError:
        return InputError(
            "the connection to the cluster is lost",
            found=first_line(error),
            expected="a Ray that lives as long as the run; finished units are kept",
            fix="the same command again, once the cluster is back",
        )

    def _with_own(self, task: Task, result: Any) -> Any:
        """A result with the checkpoint as this process knows it."""
        return replace(result, checkpoint=task.checkpoint)


def _look(commission: bytes) -> InputError | None:
    """What is wrong with this machine, as a value: Ray wraps what is raised."""
    try:
        work.look(commission)
    except InputError as error:
        return error
    return None


def _last_line(error: Exception) -> str:
    """What an error of Ray's says last: the exception itself, below where it came from."""
    return [*filter(str.strip, str(error).splitlines())][-1].strip()
