"""Training: one loop for every network, in memory or from a stream, in one process or several."""

from hepkan.train.distillation import distil
from hepkan.train.fitting import fit
from hepkan.train.progress import Progress
from hepkan.train.settings import Settings
from hepkan.train.training import DivergenceError, FitResult

__all__ = ["DivergenceError", "FitResult", "Progress", "Settings", "distil", "fit"]
