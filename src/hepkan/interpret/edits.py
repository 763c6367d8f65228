"""Edits of single edges, made by hand in the explorer and kept in a file: edges are removed or become functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hepkan.errors import DataError, UsageError
from hepkan.interpret.conversion import Edge, network_graph
from hepkan.interpret.expression import Expression, Input, Sum, from_list, ordered, substituted, transform
from hepkan.interpret.formula import Formula
from hepkan.interpret.judging import layers_of
from hepkan.interpret.shapes import follow
from hepkan.interpret.surgery import remove_edges
from hepkan.interpret.trace import edges_of
from hepkan.nn import KAN

FORMAT = 1
Place = tuple[int, int, int]
"""Layer, input and sum of an edge, counted from 0."""


@dataclass(frozen=True)
class Edits:
    """What a file of edits says.

    Attributes:
        network: file of the network in its run folder.
        sha256: digest of that file.
        removed: edges taken away, and the constants that they leave behind.
        replaced: functions in the place of edges, of the column 0; in the first layer of the raw feature.
    """

    network: str
    sha256: str
    removed: Mapping[Place, float]
    replaced: Mapping[Place, Expression]


def read_edits(path: str | Path) -> Edits:
    """Read a file of edits, JSON or YAML.

    Raises:
        DataError: the file is missing, damaged, or of a newer format.
    """
    place = Path(path)
    if not place.is_file():
        raise DataError(f"--edits needs a file that the explorer has saved, however there is no {place}.")
    try:
        content = yaml.safe_load(place.read_text(encoding="utf-8"))
        if not isinstance(content, Mapping) or content.get("format") != FORMAT:
            raise ValueError(f"no edits of format {FORMAT}")
        removed: dict[Place, float] = {}
        replaced: dict[Place, Expression] = {}
        for one in content["edges"]:
            edge = (int(one["layer"]), int(one["input"]), int(one["sum"]))
            if edge in removed or edge in replaced or ("remove" in one) == ("replace" in one):
                raise ValueError(f"edge {edge} needs one edit, remove or replace")
            if "remove" in one:
                removed[edge] = float(one["remove"])
                if not np.isfinite(removed[edge]):
                    raise ValueError(f"edge {edge} must leave a finite constant")
            else:
                replaced[edge] = _function(one["replace"])
        return Edits(str(content["network"]), str(content["sha256"]), removed, replaced)
    except (yaml.YAMLError, ValueError, KeyError, TypeError, DataError) as error:
        raise DataError(f"{place} must hold edits of the explorer, however: {error}. Save them again.") from error


def without_removed(model: KAN, edits: Edits) -> KAN:
    """Return the network without the edges that were taken away, and without what they leave dead.

    Raises:
        UsageError: the network has no such edge.
        DeadNetworkError: no path from an input to an output is left.
    """
    _demand(model, [*edits.removed, *edits.replaced])
    gone = [np.zeros_like(edges_of(layer)) for layer in layers_of(model)]
    means = [np.zeros(mask.shape) for mask in gone]
    for (layer, i, o), value in edits.removed.items():
        gone[layer][i, o], means[layer][i, o] = True, value
    return remove_edges(model, gone, means)


def edited_formula(model: KAN, edits: Edits, names: Sequence[str] | None = None) -> Formula:
    """Return the network with all edits as a formula: functions where they were put, splines elsewhere.

    It gives what the explorer gives, nothing is fitted.

    Raises:
        UsageError: the network has no such edge, or is no KAN that can be a formula.
        DataError: it is constant or has numbers that are not finite.
    """
    _demand(model, [*edits.removed, *edits.replaced])
    roots, edges = network_graph(model)
    for layer in range(len(layers_of(model))):
        here = [edge for edge in edges if edge.layer == layer]
        moved = substituted(roots, {id(edge.function): change for edge in here if (change := _change(edge, edits))})
        roots, edges = moved.roots, follow([edge for edge in edges if edge.layer > layer], moved.new)
    words = names if names is not None else model.feature_names
    known = tuple(words) if words is not None else tuple(f"x{i}" for i in range(model.n_features))
    return Formula(roots, known, model.link, (False,) * model.n_features)


def _change(edge: Edge, edits: Edits) -> Callable[[Expression], Expression] | None:
    """Return what takes the place of an edge's function, None where it stays."""
    place = (edge.layer, edge.input, edge.output)
    if place in edits.removed:
        return lambda _: Sum((), (), edits.removed[place])
    if place in edits.replaced:
        moved = transform([edits.replaced[place]], lambda old, new: edge.variable if isinstance(old, Input) else new)
        return lambda _: moved.roots[0]
    return None


def _function(content: Any) -> Expression:
    """Return a function of one variable."""
    roots = from_list(content, {})
    if len(roots) != 1 or any(isinstance(node, Input) and node.column != 0 for node in ordered(roots)):
        raise ValueError("a function of an edge has one output and one input")
    return roots[0]


def _demand(model: KAN, places: Sequence[Place]) -> None:
    """Refuse edges that a network does not have."""
    masks = [edges_of(layer) for layer in layers_of(model)]
    for layer, i, o in places:
        if not (0 <= layer < len(masks) and 0 <= i < masks[layer].shape[0] and 0 <= o < masks[layer].shape[1]
                and masks[layer][i, o]):  # fmt: skip
            raise UsageError(
                f"Edits must be of edges that the network has, however: layer {layer}, input {i}, sum {o}. "
                "Save them again from a page of this network."
            )
