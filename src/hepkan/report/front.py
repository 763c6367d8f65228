"""The loss of formulae against their complexity, with the spline network as the reference."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from hepkan.errors import UsageError
from hepkan.interpret.formula import Row
from hepkan.report.style import FAINT, PALETTE, legend_above, styled

FLOOR = 1e-24
"""Losses below it are drawn there: they are zero to rounding."""


@styled()
def complexity_front(rows: Sequence[Row], loss_name: str = "mse") -> Figure:
    """Draw the rows of `Formula.table`, the first being the spline network.

    Arguments:
        rows: of a formula.
        loss_name: what the losses are.

    Raises:
        UsageError: there are no rows.
    """
    if not rows:
        raise UsageError("A front needs the table of a formula, however it is empty. Take one of hepkan.symbolic.")
    reference, *others = rows
    figure = Figure(figsize=(5.2, 3.8))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.16, right=0.97, bottom=0.15, top=0.9)
    axes.axhline(max(reference.loss, FLOOR), color=FAINT, linestyle="--", zorder=1)
    axes.plot(
        [reference.complexity], [max(reference.loss, FLOOR)], "s", color=FAINT, label="spline network", zorder=2
    )  # fmt: skip
    for whole, marker, words in ((True, "o", "formula"), (False, "D", "formula with splines")):
        part = [row for row in others if (row.splines == 0) == whole]
        if part:
            x, y = [row.complexity for row in part], [max(row.loss, FLOOR) for row in part]
            axes.plot(x, y, marker, color=PALETTE[0 if whole else 2], label=words, zorder=3)
    ordered = sorted(others, key=lambda row: row.complexity)
    heights = [max(row.loss, FLOOR) for row in ordered]
    axes.step([row.complexity for row in ordered], heights, where="post", color=FAINT, linewidth=0.8, zorder=1)
    losses = [max(row.loss, FLOOR) for row in rows]
    if max(losses) > 20.0 * min(losses):
        axes.set_yscale("log")
    axes.set_xlabel("complexity")
    axes.set_ylabel("loss" if loss_name == "" else loss_name.replace("_", " "))
    legend_above(axes, 3)
    return figure
