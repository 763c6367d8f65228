"""Weighted measures of a classifier or a regression, with errors from a bootstrap over groups of events.

Classes are normalised separately, so efficiencies and the AUC do not depend on relative yields. Negative
weights count as they are, as in an analysis: estimates stay unbiased, while curves may leave [0, 1] and fall.
"""

from hepkan.metrics.agreement import Calibration, calibration, effective_size, ks_weighted
from hepkan.metrics.conditional import crps, evaluate_conditional, pit, pit_histogram
from hepkan.metrics.ranking import Ranking, auc, rejection, roc_curve
from hepkan.metrics.regression import bootstrap_regression, evaluate_regression
from hepkan.metrics.repetition import bootstrap, compare, evaluate, repeat
from hepkan.metrics.significance import ams, asimov_z, best_asimov_z

__all__ = [
    "Calibration",
    "Ranking",
    "ams",
    "asimov_z",
    "auc",
    "best_asimov_z",
    "bootstrap",
    "bootstrap_regression",
    "calibration",
    "compare",
    "crps",
    "effective_size",
    "evaluate",
    "evaluate_conditional",
    "evaluate_regression",
    "ks_weighted",
    "pit",
    "pit_histogram",
    "rejection",
    "repeat",
    "roc_curve",
]
