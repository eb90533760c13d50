"""The contact sheet: some examples of each subset, as the model gets them, with their labels."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analyze.errors import InputError
from analyze.figures.names import figure_text
from analyze.figures.style import MARK, style
from analyze.files.targets import check_target
from analyze.files.whole import drop_parts, write_whole
from analyze.probes import ProbeSet

COLUMNS = 10
SUBSETS = 12  # rows of a sheet at most
CHANNELS = (1, 3)


def has_images(probes: ProbeSet) -> bool:
    """Whether the inputs are images: one input ``[N, 1 or 3, H, W]`` or ``[N, H, W]``."""
    return images(probes) is not None


def draw(probes: ProbeSet) -> Figure:
    """A row for each subset with its examples of the smallest ids, and below each its target.

    Raises:
        InputError: the inputs are no images.
    """
    shown = images(probes)
    if shown is None:
        shapes = [f"{k or 'inputs'} {list(v.shape[1:])}" for k, v in probes.inputs.items()]
        raise InputError(
            "there is nothing to draw",
            found=", ".join(shapes),
            expected="images [1 or 3, H, W] or [H, W]",
            fix="leave --sheet out",
        )
    names = probes.subset_names[:SUBSETS]
    figure = Figure(figsize=(COLUMNS * 0.8, len(names) * 1.15 + 0.2), layout="constrained")
    axes = figure.subplots(len(names), COLUMNS, squeeze=False)
    for code, (name, line) in enumerate(zip(names, axes, strict=True)):
        rows = np.flatnonzero(probes.subset == code)
        rows = rows[np.argsort(probes.id[rows], kind="stable")][:COLUMNS]
        for axis in line:
            axis.set_axis_off()
        line[0].set_title(figure_text(name, 40), loc="left", fontsize=8)
        for axis, row in zip(line, rows, strict=False):
            _draw_example(axis, shown[row], _label(probes, int(row)))
    return figure


def write_sheet(probes: ProbeSet, path: Path) -> Path:
    """Draw the sheet into a PNG file, over none but an older sheet; its path.

    Raises:
        InputError: the inputs are no images, the file cannot be written, or is another's.
    """
    try:
        check_target(path)
        if path.suffix.lower() != ".png":
            raise OSError(errno.EINVAL, "a name that does not end in .png")
        if path.exists() and MARK.encode() not in path.read_bytes():
            raise FileExistsError(errno.EEXIST, "a file that this program has not drawn")
        drop_parts(path)
        write_whole(path, _drawn(probes))
    except OSError as error:
        raise InputError(
            "the contact sheet cannot be written",
            found=f"{path}: {error.strerror or error}",
            expected="a new file or an older sheet, in a directory that can be written to",
            fix="--sheet OUT.png",
        ) from error
    return path


def _drawn(probes: ProbeSet) -> bytes:
    """The sheet as the bytes of a PNG file."""
    buffer = io.BytesIO()
    with style():
        metadata = {"Software": MARK}
        draw(probes).savefig(buffer, format="png", dpi=150, metadata=metadata)
    return buffer.getvalue()


def _draw_example(axis: Axes, image: np.ndarray, label: str) -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    lines = [figure_text(line, 20) for line in label.split("\n")]
    axis.text(0.5, -0.05, "\n".join(lines), transform=axis.transAxes, fontsize=5,
              ha="center", va="top")  # fmt: skip


def images(probes: ProbeSet, rows: np.ndarray | None = None) -> np.ndarray | None:
    """``[N, H, W]`` or ``[N, H, W, 3]`` between 0 and 1, of some rows; None for other inputs.

    Bytes are shown as they are; real numbers, normalised to any range, share one scale.
    """
    if len(probes.inputs) != 1:
        return None
    (values,) = probes.inputs.values()
    chosen = values if rows is None else values[rows]
    if values.ndim == 4 and values.shape[1] in CHANNELS:
        chosen = np.moveaxis(chosen, 1, -1)
        chosen = chosen[..., 0] if chosen.shape[-1] == 1 else chosen
    elif values.ndim != 3 or min(values.shape[1:]) < 4:
        return None
    if values.dtype == np.uint8:
        return chosen / 255
    if values.dtype.kind != "f":
        return None
    lowest, highest = float(values.min()), float(values.max())
    return (chosen - lowest) / (highest - lowest or 1.0)


def _label(probes: ProbeSet, row: int) -> str:
    """The target's name, and in a second line the true class where it differs."""
    target = probes.targets[row]
    if target.ndim:
        return ""
    true = _named(probes, "true_class", row)
    names = probes.columns["true_class"].names if true else ()
    label = names[int(target)] if 0 <= target < len(names) else f"{target:g}"
    label = _named(probes, "class", row) or label
    label, true = label.replace("\n", " "), true.replace("\n", " ")
    return label if true in ("", label) else f"{label}\n({true})"


def _named(probes: ProbeSet, column: str, row: int) -> str:
    labels = probes.columns.get(column)
    return "" if labels is None else labels.names[labels.codes[row]]
