"""Networks for other people's software: ONNX, TorchScript, a C++ header without dependencies; and formulae as text.

Every file is compared with the network before it is written; when it differs, nothing is written.
"""

from hepkan.export.cpp_header import cpp
from hepkan.export.formula_text import FormulaExport, formula
from hepkan.export.onnx_graph import onnx
from hepkan.export.traced import torchscript
from hepkan.export.verification import Export

__all__ = ["Export", "FormulaExport", "cpp", "formula", "onnx", "torchscript"]
