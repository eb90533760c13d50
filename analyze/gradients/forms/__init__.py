"""Per-example gradients in the forms that rules make, and their sums and squared norms.

``form`` says what a form is and has the plainest one, ``reduction`` adds up and squares;
``outer_products`` (norms by ``grams``, sums by what is ``unfolded``) and ``scattered_rows`` are
the forms of single calls; ``placement`` takes them to the parameter, ``combination`` adds several
up; ``squares`` makes the sums of squares, ``doubts`` makes those again that float32 may have got
wrong, and ``gathered`` reduces small gradients together.
"""

from analyze.gradients.data.segments import Segments, rows
from analyze.gradients.forms.combination import Sum, combined
from analyze.gradients.forms.form import Explicit, Form
from analyze.gradients.forms.gathered import Gathered
from analyze.gradients.forms.grams import Grams
from analyze.gradients.forms.outer_products import OuterProducts
from analyze.gradients.forms.placement import Geometry, Placed, PulledBack
from analyze.gradients.forms.reduction import Make, Reduction, Summary
from analyze.gradients.forms.scattered_rows import ScatteredRows
from analyze.gradients.forms.squares import squared_norms
from analyze.gradients.forms.unfolded import Unfolded, Walk

__all__ = [
    "Explicit",
    "Form",
    "Gathered",
    "Geometry",
    "Grams",
    "Make",
    "OuterProducts",
    "Placed",
    "PulledBack",
    "Reduction",
    "ScatteredRows",
    "Segments",
    "Sum",
    "Summary",
    "Unfolded",
    "Walk",
    "combined",
    "rows",
    "squared_norms",
]
