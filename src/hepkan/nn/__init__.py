"""Layers and networks; raw physical features in, logits or physical targets out."""

from hepkan.nn.layers import KANLayer
from hepkan.nn.networks import KAN, MLP, NETWORKS, Network, refine

__all__ = ["KAN", "MLP", "NETWORKS", "KANLayer", "Network", "refine"]
