"""The look of all plots: mplhep conventions, a colour-blind safe palette, the same bytes every time.

`drawn_as("CMS")` gives what is drawn inside it the letters, ticks and legends of an experiment, from mplhep. Colours
stay: every model has its own. Names such as "CMS Preliminary" are not added: they are the collaboration's to give.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib
import mplhep
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator

from hepkan.errors import unknown
from hepkan.report.words import MODELS

P = ParamSpec("P")
R = TypeVar("R")

# "Accessible Color Sequences for Data Visualization" (Petroff, 2021), arXiv:2107.02270
PALETTE = ("#3f90da", "#bd1f01", "#ffa90e", "#832db6", "#a96b59", "#94a4a2", "#e76300", "#717581", "#b9ac70")
SIGNAL, BACKGROUND = PALETTE[0], PALETTE[1]
INK, FAINT = "#1a1a1a", "#8a8f98"
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))

# Ticks and label places as in mplhep; fonts that come with matplotlib, so that every machine draws the same.
_FROM_MPLHEP = (
    *(
        "xtick.direction",
        "ytick.direction",
        "xtick.top",
        "ytick.right",
        "legend.frameon",
        "savefig.transparent",
    ),
    *("xtick.minor.visible", "ytick.minor.visible", "xaxis.labellocation", "yaxis.labellocation"),
)
STYLE: Any = {
    **{key: mplhep.style.ROOT[key] for key in _FROM_MPLHEP},
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "axes.unicode_minus": True,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.linewidth": 0.9,
    "lines.linewidth": 1.6,
    "xtick.major.size": 5.0,
    "ytick.major.size": 5.0,
    "xtick.minor.size": 2.5,
    "ytick.minor.size": 2.5,
    "axes.formatter.limits": (-4, 5),
    "axes.titley": 1.0,
    "svg.fonttype": "path",
    "svg.hashsalt": "hepkan",
    "figure.facecolor": "white",
}


LOOKS = ("plain", "CMS", "ATLAS")
"""Names for `drawn_as`."""
_FROM_EXPERIMENT = (
    *("font.family", "font.sans-serif", "mathtext.fontset", "mathtext.rm", "mathtext.bf", "mathtext.sf", "mathtext.it"),
    *("mathtext.tt", "mathtext.cal", "mathtext.default", "axes.unicode_minus", "axes.formatter.use_mathtext"),
    *("legend.handlelength", "legend.labelspacing", *_FROM_MPLHEP),
)
_look: ContextVar[str] = ContextVar("look", default="plain")


@contextmanager
def drawn_as(look: str) -> Iterator[None]:
    """Draw in the style of `plain`, `CMS` or `ATLAS`.

    Raises:
        UsageError: another name.
    """
    names = {name.lower(): name for name in LOOKS}
    if look.lower() not in names:
        raise unknown("style of plots", look, LOOKS)
    before = _look.set(names[look.lower()])
    try:
        yield
    finally:
        _look.reset(before)


def look() -> str:
    """Return the name of the look that is chosen."""
    return _look.get()


def settings() -> Any:
    """Return matplotlib's settings of the look that is chosen."""
    if look() == "plain":
        return dict(STYLE)
    whole = getattr(mplhep.style, look())
    return STYLE | {key: whole[key] for key in _FROM_EXPERIMENT if key in whole}


SMALL = {
    **dict.fromkeys(("xtick.minor.visible", "ytick.minor.visible", "xtick.top", "ytick.right"), False),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 3.5),
}
"""Small panels have fewer ticks."""


def styled(font: float = 11.0, small: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that draws in the package's style, leaving matplotlib's own settings untouched."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def inner(*args: P.args, **kwargs: P.kwargs) -> R:
            size = {"font.size": font, "legend.fontsize": 0.88 * font}
            with matplotlib.rc_context(settings() | (SMALL if small else {}) | size):
                return function(*args, **kwargs)

        return inner

    return decorate


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG: the same bytes every time, and no more of them than needed."""
    buffer = io.BytesIO()
    blank = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context(settings()):
        figure.savefig(buffer, format="svg", metadata=blank)
    text = buffer.getvalue().decode()
    text = re.sub(r"<!--.*?-->|<!DOCTYPE[^>]*>|<defs>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r'(?<= d=")[^"]*', _round_path, text)
    text = re.sub(r'<g id="[a-zA-Z]+_\d+">', "<g>", text)
    return re.sub(r">\s+<", ">\n<", text).encode()


def _round_path(match: re.Match[str]) -> str:
    """Round the numbers of a path."""
    short = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), match[0])
    return re.sub(r"(?<=[A-Za-z]) | (?=[A-Za-z])", "", " ".join(short.split()))


def colour(model: str, place: int = 0) -> str:
    """Return a model's colour; the unknown take theirs by place."""
    kind = model.partition(" ")[0]
    if kind == "cut":
        return FAINT
    return PALETTE[_place(kind, len(MODELS) + place) % len(PALETTE)]


def line(model: str, place: int = 0) -> Any:
    """Return a model's line style, so that colour is not the only difference."""
    return LINES[_place(model.partition(" ")[0], place) % len(LINES)]


def _place(kind: str, otherwise: int) -> int:
    """Return the place of a known kind; linear and logistic regression never meet and share theirs."""
    known = list(MODELS)
    kind = "logistic" if kind == "linear" else kind
    return known.index(kind) if kind in known else otherwise


@lru_cache(maxsize=512)
def axis_label(label: str, unit: str, name: str) -> str:
    """Return a label with its unit in brackets; the plain name where the label is no mathtext."""
    units = {"GeV^0.5": r"$\sqrt{\mathrm{GeV}}$"}
    text = label or name
    try:
        # As text is drawn, so that matplotlib keeps what it has read here.
        text_to_path.get_text_width_height_descent(text, FontProperties(), ismath=True)
    except ValueError:
        text = name.replace("$", "")
    return f"{text} [{units.get(unit, unit)}]" if unit else text


def panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with a grid of panels of a size in inches."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows))
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    left, right, bottom, top = 0.72 / width, 1 - 0.1 / width, 0.46 / height, 1 - 0.26 / height
    figure.subplots_adjust(
        left=left / columns,
        right=1 - (1 - right) / columns,
        bottom=bottom / rows,
        top=1 - (1 - top) / rows,
        wspace=(left + 1 - right) / (right - left),
        hspace=(bottom + 1 - top) / (top - bottom),
    )
    return figure, axes


def legend_above(axes: Axes, columns: int) -> None:
    """Put the legend over the panel, where it hides no data."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=columns,
        fontsize=7.5,
        handlelength=1.5,
        handletextpad=0.4,
        columnspacing=0.9,
        borderaxespad=0.0,
        borderpad=0.2,
    )


def round_ticks(count: int = 5) -> MaxNLocator:
    """Return ticks at 1, 2, 2.5 or 5 times a power of ten."""
    return MaxNLocator(count, steps=[1, 2, 2.5, 5, 10])
