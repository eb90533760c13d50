"""``analyze probes build`` and ``show``; their help imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from analyze.cli.options import OUTPUT_FILE, PATH, Group, json_option
from analyze.errors import within_a_screen
from analyze.keywords import built

HEADS = {"lowest": "lowest_target", "highest": "highest_target"}  # of the table of subsets


class Numbers(click.ParamType):
    """Numbers with commas between them: one for each channel."""

    name = "M,M,M"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Parse the numbers."""
        try:
            return value if isinstance(value, tuple) else tuple(map(float, value.split(",")))
        except ValueError:
            self.fail(f"{value!r} are no numbers with commas between them", param, ctx)


@click.group(cls=Group)
def probes() -> None:
    """Freeze the examples to look at, and show what was frozen."""


@probes.command()
@click.argument("output", type=OUTPUT_FILE, metavar="OUT.safetensors")
@click.option(
    "--data",
    required=True,
    metavar="SPEC",
    help="torchvision:NAME?root=DIR, folder:DIR, huggingface:DIR, FILE.npz, FILE.py:FUNCTION.",
)
@click.option(
    "--noise",
    multiple=True,
    metavar="KIND:FILE",
    help="Which labels are wrong: mask, indices, true_labels, noisy_labels, cifar_n or cleanlab; "
    "@COLUMN for a column of the data.",
)
@click.option("--held-out", metavar="SPEC", help="Data that training did not see.")
@click.option(
    "--subset-by",
    metavar="COLUMN",
    help="What makes a subset: class, true_class, noise or a column of the data.",
)
@click.option(
    "--per-subset", type=click.IntRange(min=1), metavar="N", help="As many examples of each subset."
)
@click.option("--balance", is_flag=True, help="As many of each class within a subset.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draw."
)
@click.option(
    "--resize", type=click.IntRange(min=1), metavar="PIXELS", help="Shorter side of an image."
)
@click.option(
    "--crop", type=click.IntRange(min=1), metavar="PIXELS", help="Side of the square in its middle."
)
@click.option("--mean", type=Numbers(), help="Per channel, taken off after division by 255.")
@click.option("--std", type=Numbers(), help="Per channel.")
@click.option(
    "--transform", "function", metavar="FILE.py:FUNCTION",
    help="Your evaluation transform instead of these.",
)  # fmt: skip
@click.option(
    "--on-error", type=click.Choice(["fail", "skip"]), default="fail", show_default=True,
    help="What to do about a picture that cannot be read.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the probe file that is there.")
def build(output: Path, overwrite: bool, **recipe: Any) -> None:
    """Freeze a probe set from your own data, with evaluation transforms.

    Example: analyze probes build probes.safetensors --data 'torchvision:CIFAR10?root=data'
    --noise noisy_labels:labels.npy --per-subset 1000 --mean 0.49,0.48,0.45 --std 0.25,0.24,0.26
    """
    click.echo("Reading the data", err=True)  # before imports that take seconds
    from analyze.probes.freezing.recipe import Recipe, freeze

    frozen = freeze(built(Recipe, recipe), output, overwrite=overwrite)
    for fact in frozen.facts:
        click.echo(within_a_screen(fact))
    _print(frozen.probes)
    click.echo(f"Wrote {output}")


@probes.command()
@click.argument("file", type=PATH, metavar="FILE")
@click.option(
    "--sheet", type=OUTPUT_FILE, metavar="OUT.png",
    help="The contact sheet; by default the probe file's name with .png, here.",
)  # fmt: skip
@json_option
def show(file: Path, sheet: Path | None, as_json: bool) -> None:
    """Print what a probe file holds and write a contact sheet of examples.

    Example: analyze probes show sample_checkpoints/half_noise_probes.safetensors
    """
    from analyze.figures.contact_sheet import has_images, write_sheet
    from analyze.probes import read_probes
    from analyze.probes.facts import facts, subset_rows

    probe_set = read_probes(file)
    if as_json:
        click.echo(
            json.dumps({"subsets": subset_rows(probe_set), "facts": facts(probe_set)}, indent=2)
        )
    else:
        _print(probe_set)
    if sheet is None and not has_images(probe_set):
        click.echo("No contact sheet: the inputs are no images", err=True)
        return
    path = write_sheet(probe_set, sheet or Path(f"{file.stem}.png"))
    click.echo(f"Wrote {path}", err=as_json)


def _print(probe_set: Any) -> None:
    """Print a table of the subsets and one of the facts about the whole set."""
    from analyze.cli.tables import print_rows, print_table
    from analyze.probes.facts import facts, subset_rows

    rows = [{HEADS.get(key, key): v for key, v in row.items()} for row in subset_rows(probe_set)]
    for row in rows:
        row["held_out"] = "yes" if row["held_out"] else ""
    print_rows("Subsets", [*rows[0]], rows, ("probes", *HEADS.values(), "classes"))
    click.echo()
    print_table("The probe set", ["", " "], [[k, v] for k, v in facts(probe_set).items()])
