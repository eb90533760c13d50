"""The probe set: fixed examples, their targets, subsets and ids; in memory and as a frozen file."""

from analyze.probes.cells import Cells
from analyze.probes.file import read_probes, write_probes
from analyze.probes.probe_set import ProbeSet

__all__ = ["Cells", "ProbeSet", "read_probes", "write_probes"]
