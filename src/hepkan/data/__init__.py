"""`Table`: features, targets, weights, ids and groups of events; splits and folds by group."""

from hepkan.data.table import Policy, Table, concatenate

__all__ = ["Policy", "Table", "concatenate"]
