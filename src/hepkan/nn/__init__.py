"""Layers and networks; raw physical features in, logits or physical targets out."""

from hepkan.nn.layers import KANLayer
from hepkan.nn.networks import KAN, MLP, NETWORKS, Network
from hepkan.nn.regrid import refine, update_grid

__all__ = ["KAN", "MLP", "NETWORKS", "KANLayer", "Network", "refine", "update_grid"]
