"""What a trained KAN has learned: activations, importance, pruning, formulae.

Whatever needs SymPy or SciPy is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hepkan.interpret.attribution import Attribution, Scores, attribute
from hepkan.interpret.bands import edge_bands
from hepkan.interpret.curves import EdgeCurves, LayerCurves, edge_curves, output_shares
from hepkan.interpret.interactions import Interactions, interactions
from hepkan.interpret.pruning import PruningCurve, Stage, knee, prune, pruning_curve, pruning_steps
from hepkan.interpret.ratios import Ratio, likelihood_ratios
from hepkan.interpret.sparsify import sparsify
from hepkan.interpret.surgery import DeadNetworkError, compact, remove_edges, remove_inputs
from hepkan.interpret.trace import Trace, trace
from hepkan.lazy import lazily

if TYPE_CHECKING:
    from hepkan.interpret.discovery import discover
    from hepkan.interpret.extraction import as_formula, symbolic
    from hepkan.interpret.formula import Formula
    from hepkan.interpret.primitives import PRIMITIVES, Primitive
    from hepkan.interpret.selection import Selection, select_inputs

_NAMES = {
    "discover": "discovery",
    "as_formula": "extraction",
    "symbolic": "extraction",
    "Formula": "formula",
    "PRIMITIVES": "primitives",
    "Primitive": "primitives",
    "Selection": "selection",
    "select_inputs": "selection",
}

__all__ = [
    "PRIMITIVES",
    "Attribution",
    "DeadNetworkError",
    "EdgeCurves",
    "Formula",
    "Interactions",
    "LayerCurves",
    "Primitive",
    "PruningCurve",
    "Ratio",
    "Scores",
    "Selection",
    "Stage",
    "Trace",
    "as_formula",
    "attribute",
    "compact",
    "discover",
    "edge_bands",
    "edge_curves",
    "interactions",
    "knee",
    "likelihood_ratios",
    "output_shares",
    "prune",
    "pruning_curve",
    "pruning_steps",
    "remove_edges",
    "remove_inputs",
    "select_inputs",
    "sparsify",
    "symbolic",
    "trace",
]


__getattr__ = lazily(__name__, _NAMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
