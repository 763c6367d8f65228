"""Networks for other people's software: ONNX, and a C++ header without dependencies.

Every file is compared with the network before it is written; when it differs, nothing is written.
"""

from hepkan.export.cpp_header import cpp
from hepkan.export.onnx_graph import onnx
from hepkan.export.verification import Export

__all__ = ["Export", "cpp", "onnx"]
