"""`Table`: features, targets, weights, ids and groups of events; `ParquetStream`: more of them than memory holds."""

from hepkan.data.stream import ParquetStream
from hepkan.data.table import Policy, Table, concatenate

__all__ = ["ParquetStream", "Policy", "Table", "concatenate"]
