"""B-splines: the plain reference, grids, and the kernels behind one door (`ops.kan_stack`)."""

from hepkan.splines.basis import bspline_basis, bspline_derivative, kan_layer_reference
from hepkan.splines.ops import available, kan_layer

__all__ = ["available", "bspline_basis", "bspline_derivative", "kan_layer", "kan_layer_reference"]
