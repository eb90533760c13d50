"""Which of a form's algorithms is the fastest here, by timing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from analyze.gradients.device.timing import fastest
from analyze.gradients.forms import Form, Segments, Summary


@dataclass
class AlgorithmChoice:
    """Times a form's algorithms once for each kind of call, and keeps the fastest."""

    chosen: dict[str, str]

    def summarise(self, form: Form, segments: Segments) -> Summary:
        """The form's summary, by the fastest of its algorithms."""
        return form.summarise(self.of(form, segments), segments, self.summarise)

    def of(self, form: Form, segments: Segments) -> str:
        """The fastest of the form's algorithms."""
        algorithms = form.algorithms
        if len(algorithms) == 1:
            return algorithms[0]
        key = form.key
        if key not in self.chosen:
            ways = {a: partial(form.summarise, a, segments, self.summarise) for a in algorithms}
            self.chosen.setdefault(key, fastest(ways))  # another thread may have been faster
        return self.chosen[key]
