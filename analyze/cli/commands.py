"""The command line: parse, call one function, print. Torch is imported by the commands only."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from analyze.cli.options import Group, finding_options, fitting_options, json_option, shared
from analyze.cli.probes import probes

EXIT_SKIPPED = 4


class BatchSize(click.ParamType):
    """``auto`` or a positive number."""

    name = "auto|N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """The number, or ``auto``."""
        if value == "auto":
            return "auto"
        try:
            size = int(value)
        except ValueError:
            size = 0
        if size < 1:
            self.fail(f"{value!r} is neither auto nor a positive number", param, ctx)
        return size


class Columns(click.ParamType):
    """Names, separated by commas."""

    name = "COLUMN,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The names as a tuple."""
        if isinstance(value, tuple):
            return value
        return tuple(name.strip() for name in value.split(",") if name.strip())


run_argument = click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
results_argument = click.argument("results", type=click.Path(path_type=Path), metavar="OUT.h5")
group_option = click.option(
    "--group-by", "by", type=click.Choice(["layer", "block", "parameter"]), default=None,
    help="Rows for layers, blocks of layers or parameters; nothing is measured again.",
)  # fmt: skip
measuring_options = shared(
    click.option("--model", metavar="SPEC", help="Such as torchvision:resnet18?num_classes=10."),
    click.option("--probes", type=click.Path(path_type=Path), help="The probe file."),
    click.option("--loss", metavar="SPEC", help="Such as cross_entropy?label_smoothing=0.1."),
    click.option(
        "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:i]|mps",
        help="Where to compute.",
    ),
    click.option(
        "--batch-size", type=BatchSize(), default="auto", show_default=True,
        help="Examples at a time.",
    ),
    click.option(
        "--precision", type=click.Choice(["float32", "float64"]), default="float32",
        show_default=True, help="Of weights and activations; sums are float64.",
    ),
    click.option(
        "--batch-norm", type=click.Choice(["recomputed", "saved"]), default="recomputed",
        show_default=True, help="Statistics from the probes, or as saved in the checkpoint.",
    ),
    click.option(
        "--folds", type=click.IntRange(min=1), default=10, show_default=True,
        help="Random blocks of each subset, for standard errors.",
    ),
    click.option(
        "--layers", multiple=True, metavar="GLOB", help="Measure only these layers; repeatable."
    ),
    click.option(
        "--parameters", multiple=True, metavar="GLOB", help="Measure only these parameters."
    ),
    click.option(
        "--cells", type=Columns(), default=(), metavar="COLUMN,...",
        help="Columns of the probe file to sum by: what can be told apart after the run.",
    ),
    click.option(
        "--max-probes", type=click.IntRange(min=1), metavar="N", help="Measure only N probes."
    ),
    click.option(
        "--examples", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True,
        help="Keep every example's norms; auto up to 256 MiB.",
    ),
    click.option(
        "--checkpoints", metavar="GLOB|SLICE", help="Which ones: '*epoch*', or a slice like ::2."
    ),
    finding_options,
    fitting_options,
)  # fmt: skip


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gradient-coherence", prog_name="analyze")
def main() -> None:
    """When, in which layer and for which examples the gradients of a network agree.

    Point it at a directory of checkpoints: analyze run RUN, then analyze report OUT.h5.
    """


main.add_command(probes)


@main.command()
@run_argument
@finding_options
@json_option
def scan(run: Path, as_json: bool, **reading: Any) -> None:
    """Show what is there: which files are checkpoints, which are not, and why.

    Example: analyze scan sample_checkpoints/half_noise
    """
    from analyze.checkpoints.options import ReadingOptions
    from analyze.checkpoints.scan import scan as scan_run
    from analyze.cli.tables import print_table

    found = scan_run(run, ReadingOptions(**reading))
    rows = found.as_rows()
    if as_json:
        left_out = [{"file": one.name, "why": one.why} for one in found.left_out]
        content = {"checkpoints": rows, "left_out": left_out, "warnings": found.warnings}
        click.echo(json.dumps(content, indent=2))
        return
    columns = [c for c in rows[0] if c != "problem" and (
        c in ("step", "epoch") or any(row[c] not in (None, "") for row in rows)
    )]  # fmt: skip
    print_table(
        f"{found.as_headline()} in {run}",
        columns,
        [[row[c] for c in columns] for row in rows],
        numbers=("step", "epoch", "epochs_completed", "tokens", "tensors"),
    )
    if reasons := found.as_reasons():
        click.echo()
        print_table("Left out", ["file", "why"], reasons)
    for warning in found.warnings:
        click.echo(f"Warning: {warning}")
    for one in found.checkpoints:
        if one.problem is not None:
            click.echo(f"{one.name}: {one.problem.what}: {one.problem.found}")
            click.echo(f"  to fix: {one.problem.fix}")


@main.command()
@run_argument
@measuring_options
@json_option
def check(run: Path, as_json: bool, **options: Any) -> None:
    """Do everything short of the run: fit, plan, proof, sizes and time.

    A pilot tells the smallest coherence of each layer that the probes can tell from chance.

    Exits with 4 when the run would skip some checkpoints.

    Example: analyze check sample_checkpoints/half_noise
    """
    from analyze.cli.tables import print_table
    from analyze.runs.check import check as check_run
    from analyze.runs.progress import duration
    from analyze.text import size_text

    found = check_run(run, _options(**options))
    if as_json:
        content = {"report": found.report, "parameters": found.parameters}
        content["methods"] = found.methods
        content["layers"] = [asdict(row) for row in found.layers]
        click.echo(json.dumps(content | {"warnings": found.warnings, "skipped": found.skipped}))
        sys.exit(EXIT_SKIPPED if found.skipped else 0)
    columns = ["parameter", "size", "method", "verdict", "error"]
    print_table(
        "Plan and proof",
        columns,
        [[row[c] for c in columns] for row in found.parameters],
        numbers=("size", "error"),
    )
    click.echo()
    columns = ["method", "parameters", "values", "time"]
    print_table(
        "Methods, and their share of the time of a batch",
        columns,
        [[*[row[c] for c in columns[:-1]], f"{row['time']:.0%}"] for row in found.methods],
        numbers=columns[1:],
    )
    limits = ["layer", "parameters", "d_eff", "m-coherence"]
    limits += [
        f"alpha, {name}" for name in (found.layers[0].alpha_unbiased if found.layers else ())
    ]
    click.echo()
    print_table(
        "Smallest coherence that these probes tell from chance",
        limits,
        [
            [row.layer, row.parameters, row.effective_dimension, row.m_coherence,
             *row.alpha_unbiased.values()]
            for row in found.layers
        ],
        numbers=limits[1:],
    )  # fmt: skip
    report = dict(found.report)
    for key in ("gram_seconds", "preparation_seconds", "seconds"):
        report[key] = duration(float(str(report[key])))
    for key in ("cell_sum_bytes", "gram_bytes", "file_bytes"):
        report[key] = size_text(float(str(report[key])))
    click.echo()
    print_table("The run", ["", " "], [[k.replace("_", " "), v] for k, v in report.items()])
    for name, reason in found.skipped.items():
        click.echo(f"Would skip {name}: {reason}")
    for warning in found.warnings:
        click.echo(f"Warning: {warning}")
    if found.skipped:
        sys.exit(EXIT_SKIPPED)


@main.command()
@run_argument
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="OUT.h5",
    help="The results file; by default the run's name with .h5, here.",
)  # fmt: skip
@measuring_options
@click.option(
    "--on-error", type=click.Choice(["skip", "fail"]), default="skip", show_default=True,
    help="A checkpoint that cannot be measured is skipped, or stops the run.",
)  # fmt: skip
@click.option(
    "--restart", is_flag=True, help="Throw away what an earlier run on this output has measured."
)
@click.option(
    "--follow", is_flag=True,
    help="Go on with new checkpoints as the training writes them, until Ctrl-C.",
)  # fmt: skip
@click.option(
    "--patience", type=click.FloatRange(min=0, min_open=True), metavar="MINUTES",
    help="With --follow: end when nothing new came for so long.",
)  # fmt: skip
def run(
    run: Path,
    output: Path | None,
    on_error: str,
    restart: bool,
    patience: float | None,
    **options: Any,
) -> None:
    """Measure every checkpoint of a run and write the results file.

    The same command again goes on where an earlier one stopped.

    Exits with 4 when some checkpoints were skipped; the file has the others.

    Example: analyze run sample_checkpoints/half_noise --output half_noise.h5
    """
    if patience is not None and not options["follow"]:
        raise click.UsageError("--patience goes with --follow")
    from analyze.results.rows import skipped
    from analyze.runs.pipeline import run as run_job
    from analyze.runs.progress import for_stderr
    from analyze.runs.units.interruption import Interrupted

    try:
        tree = run_job(
            run,
            output=output,
            on_error=on_error,
            restart=restart,
            patience=patience,
            progress=for_stderr(),
            **options,
        )
    except Interrupted as interruption:
        click.echo(str(interruption), err=True)
        sys.exit(128 + interruption.signal)
    click.echo(f"Wrote {output or Path(f'{run.resolve().name}.h5')}")
    if left_out := skipped(tree):
        total = tree.sizes["checkpoint"]
        click.echo(f"{len(left_out)} of {total} checkpoints were skipped", err=True)
        sys.exit(EXIT_SKIPPED)


@main.command()
@results_argument
@click.option("--layers", is_flag=True, help="Every layer at one checkpoint.")
@click.option(
    "--checkpoint", metavar="NAME|GLOB",
    help="With --layers: which one, or ones; by default the last.",
)  # fmt: skip
@click.option("--layer", multiple=True, metavar="GLOB", help="Only these layers; repeatable.")
@click.option("--subset", multiple=True, metavar="GLOB", help="Only these subsets; repeatable.")
@click.option(
    "--checkpoints", multiple=True, metavar="GLOB", help="Of the network: only these checkpoints."
)
@click.option(
    "--sort", metavar="COLUMN",
    help="By a column of --json: numbers from the largest, text by alphabet.",
)  # fmt: skip
@group_option
@click.option("--verify", is_flag=True, help="Only check that the numbers agree with each other.")
@json_option
@click.option("--csv", "as_comma", is_flag=True, help="Print comma-separated values.")
def show(
    results: Path, by: str | None, verify: bool, as_json: bool, as_comma: bool, **chosen: Any
) -> None:
    """Print the numbers as a table: m-coherence with its standard error, and warnings by letter.

    With --sort a line stands where the first of its subsets does.

    Example: analyze show half_noise.h5 --layers --sort m_coherence
    """
    from analyze.results.file import open_results
    from analyze.results.rows import as_csv, legend, skipped, verify_results
    from analyze.statistics.derived import OLDER
    from analyze.statistics.grouping import group_by
    from analyze.statistics.warnings import warnings_of_the_run

    layers = chosen.pop("layers") or by is not None or bool(chosen["layer"])
    if chosen["checkpoint"] is not None and not layers:
        raise click.UsageError("--checkpoint goes with --layers")
    if chosen["checkpoints"] and layers:
        raise click.UsageError("--checkpoints goes without --layers; --checkpoint goes with it")
    if as_json and as_comma:
        raise click.UsageError("--json or --csv, not both")
    if verify:
        verify_results(open_results(results), str(results))
        click.echo(f"{results}: all identities hold")
        _warn_of_no_seal(results)
        return
    tree = group_by(open_results(results), by or "layer")
    rows = _chosen_rows(tree, layers, **chosen)
    if as_json or as_comma:
        click.echo(json.dumps(rows, indent=2) if as_json else as_csv(rows), nl=as_json)
        return
    _print_rows(rows, layers)
    for meaning in legend(rows):
        click.echo(f"Warning {meaning}")
    for name, status in skipped(tree).items():
        click.echo(f"Skipped {name}: {status}")
    for warning in warnings_of_the_run(tree):
        if warning.startswith(OLDER):
            click.echo(f"Warning: {warning}", err=True)
    _warn_of_no_seal(results)


def _warn_of_no_seal(results: Path) -> None:
    """That nobody can tell whether the numbers are those that were written."""
    from analyze.results.seal import UNSEALED, seal_of

    if seal_of(results) == UNSEALED:
        click.echo("Warning: no seal: of an older version, or another program changed it", err=True)


def _chosen_rows(
    tree: Any,
    layers: bool,
    checkpoint: str | None,
    layer: tuple[str, ...],
    subset: tuple[str, ...],
    checkpoints: tuple[str, ...],
    sort: str | None,
) -> list[dict[str, object]]:
    """The rows that show prints, in their order."""
    from analyze.results import rows as show

    rows = show.layer_rows(tree, checkpoint) if layers else show.network_rows(tree)
    patterns = {"layer": layer, "subset": subset, "checkpoint": checkpoints}
    for column, wanted in patterns.items():
        rows = show.select(rows, column, wanted) if wanted else rows
    return rows if sort is None else show.sort(rows, sort)


def _print_rows(rows: list[dict[str, object]], layers: bool) -> None:
    """A line for each layer or checkpoint, a column for each subset."""
    from analyze.cli.tables import print_table
    from analyze.results.rows import PER_TOKEN, marks
    from analyze.text import with_error

    at = list(dict.fromkeys(str(row["checkpoint"]) for row in rows))
    keys = ["layer", "layer_type", "parameters"] if layers else ["checkpoint", "step", "epoch"]
    keys = ["checkpoint", *keys] if layers and len(at) > 1 else keys
    counts = {str(row["subset"]): row["probes"] for row in rows}
    table: dict[tuple[object, ...], dict[str, str]] = {}
    for row in rows:
        value = with_error(row["m_coherence"], row["m_coherence_stderr"])
        line = table.setdefault(tuple(row[k] for k in keys), {})
        line[str(row["subset"])] = f"{value} {marks(row)}".rstrip()
    columns = [*keys, *(f"{name} (m={count})" for name, count in counts.items())]
    title = f"m-coherence at {', '.join(at)}" if layers else "m-coherence of the network"
    lines = [[*key, *(line.get(name) for name in counts)] for key, line in table.items()]
    print_table(title, columns, lines, columns[1:])
    if not layers and any(PER_TOKEN in row for row in rows):
        _print_losses(rows, keys)


def _print_losses(rows: list[dict[str, object]], keys: list[str]) -> None:
    """Losses per token, as trainers print them, beside those of whole probes."""
    from analyze.cli.tables import print_table
    from analyze.results.rows import PER_TOKEN

    table: dict[tuple[object, ...], dict[str, object]] = {}
    for row in rows:
        line = table.setdefault(tuple(row[k] for k in keys), {})
        line |= {
            f"{row['subset']} (token)": row[PER_TOKEN],
            f"{row['subset']} (probe)": row["loss"],
        }
    own = list(dict.fromkeys(column for line in table.values() for column in line))
    lines = [[*key, *(line.get(column) for column in own)] for key, line in table.items()]
    columns = [*keys, *own]
    print_table("mean loss per token and per probe, nats", columns, lines, columns[1:])


@main.command()
@results_argument
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="DIR",
    help="Where the page goes; by default the results file's name with _report, here.",
)  # fmt: skip
@click.option(
    "--x", type=click.Choice(["step", "epoch", "loss"]),
    help="What the figures show training along; by default steps where they are known.",
)  # fmt: skip
@group_option
def report(results: Path, output: Path | None, by: str | None, x: str | None) -> None:
    """Write a page with figures: DIR/index.html and DIR/figures.

    Example: analyze report half_noise.h5 --output half_noise_report
    """
    from analyze.reports import write_report
    from analyze.results.file import open_results
    from analyze.statistics.grouping import group_by

    tree = group_by(open_results(results), by or "layer")
    page = write_report(tree, output or Path(f"{results.stem}_report"), x)
    click.echo(f"Wrote {page}")


@main.command()
@click.argument(
    "results", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="A.h5 B.h5 ..."
)
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("comparison"), show_default=True,
    metavar="DIR", help="Where the page, the figures and comparison.h5 go.",
)  # fmt: skip
@click.option(
    "--align", type=click.Choice(["step", "epoch", "loss"]), default="step", show_default=True,
    help="What runs are matched by; only at equal training loss values are interpolated.",
)  # fmt: skip
@click.option(
    "--rename", multiple=True, metavar="OLD=NEW", help="Layers by another name; repeatable."
)
@click.option(
    "--different-probes", is_flag=True, help="Compare runs that were measured on other inputs."
)
@click.option(
    "--group", "groups", multiple=True, metavar="NAME=A.h5,B.h5",
    help="Runs that are seeds of one configuration: their mean and its band; repeatable.",
)  # fmt: skip
@click.option(
    "--ratio", "ratios", multiple=True, metavar="'B / A'",
    help="A figure of this pair too, besides those with the first run; repeatable.",
)  # fmt: skip
@group_option
def compare(
    results: tuple[Path, ...],
    output: Path,
    by: str | None,
    groups: tuple[str, ...],
    ratios: tuple[str, ...],
    **options: Any,
) -> None:
    """Compare runs: ratios of m-coherence, their errors, and which of them are significant.

    Writes DIR/index.html, DIR/figures and DIR/comparison.h5; the runs are named by their files.

    Example: analyze compare half_noise.h5 real_labels.h5 --output comparison
    """
    from analyze.cli.tables import print_table
    from analyze.comparison import compare as compare_runs
    from analyze.comparison.groups import group_map
    from analyze.comparison.rows import event_tables, remarks, setting_rows
    from analyze.comparison.writing import write_comparison

    members = group_map(groups, [path.stem for path in results])
    paths = [str(path) for path in results]
    tree = compare_runs(paths, by=by or "layer", groups=members, **options)
    written = write_comparison(tree, output, ratios)
    for title, columns, rows in event_tables(tree):
        print_table(title, columns, rows, columns[2:])
        click.echo()
    title, columns, rows = setting_rows(tree)
    if rows:
        print_table(title, columns, rows)
        click.echo()
    for remark in remarks(tree):
        click.echo(remark)
    click.echo(f"Wrote {written.with_name('index.html')} and {written}")


def _options(
    model: str | None,
    probes: Path | None,
    loss: str | None,
    checkpoints: str | None,
    max_probes: int | None,
    examples: str,
    **others: Any,
) -> Any:
    from dataclasses import fields

    from analyze.checkpoints.options import ReadingOptions
    from analyze.gradients.measurement import Settings
    from analyze.runs.job import Options

    reading = ReadingOptions(**{f.name: others.pop(f.name) for f in fields(ReadingOptions)})
    chosen = Settings(**others)
    return Options(model, probes, loss, checkpoints, max_probes, chosen, examples, reading=reading)
