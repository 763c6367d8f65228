"""What a trained KAN has learned: activations, importance, pruning, formulae."""

from hepkan.interpret.attribution import Attribution, Scores, attribute
from hepkan.interpret.bands import edge_bands
from hepkan.interpret.curves import EdgeCurves, LayerCurves, edge_curves, output_shares
from hepkan.interpret.discovery import discover
from hepkan.interpret.extraction import as_formula, symbolic
from hepkan.interpret.formula import Formula
from hepkan.interpret.interactions import Interactions, interactions
from hepkan.interpret.primitives import PRIMITIVES, Primitive
from hepkan.interpret.pruning import PruningCurve, Stage, knee, prune, pruning_curve, pruning_steps
from hepkan.interpret.ratios import Ratio, likelihood_ratios
from hepkan.interpret.selection import Selection, select_inputs
from hepkan.interpret.sparsify import sparsify
from hepkan.interpret.surgery import DeadNetworkError, compact, remove_edges, remove_inputs
from hepkan.interpret.trace import Trace, trace

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
