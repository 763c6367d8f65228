"""Kolmogorov-Arnold networks for collider physics."""

__version__ = "0.1.0"
