"""What the explorer page knows: a network in numbers that a browser computes with, events, and what edges may be."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hepkan.errors import DataError, UsageError
from hepkan.metrics import auc
from hepkan.report import words
from hepkan.report.edges import output_labels
from hepkan.report.mathtext import html_label
from hepkan.report.reading import Feature, Run

if TYPE_CHECKING:
    from hepkan.interpret.curves import EdgeCurves
    from hepkan.nn import KAN

Floats = NDArray[np.float64]

EVENTS = 5000
"""Events embedded in a page, at most."""
SAMPLE_BYTES = 1_600_000
"""Room for their numbers, before base64."""
EXPLAINED = 60
"""Edges with a band and candidates: the most important ones."""
CANDIDATES = 3
FITTED = 2000
"""Events that candidates are fitted to."""
TWINS = ("sigmoid", "cos", "arccos")
"""Functions left out: others of the table are the same but for a shift and a factor."""
BAND_POINTS = 41


@dataclass(frozen=True)
class Explored:
    """The network of a page and the events embedded with it.

    Attributes:
        model: the network in float64.
        path: its file.
        X: raw features, `(n, features)`, float32.
        target: labels `(n,)` or targets `(n, targets)`.
        weight: of the events, `(n,)`; negative ones stay negative.
        process: of each event.
    """

    model: KAN
    path: Path
    X: NDArray[np.float32]
    target: NDArray[Any]
    weight: Floats
    process: NDArray[Any]

    @property
    def classification(self) -> bool:
        """Whether the network tells classes apart."""
        return self.model.link != "identity"


def explored(
    run: Run, pruned: bool = False, events: int = EVENTS, processes: NDArray[Any] | None = None
) -> Explored:
    """Return the KAN of a run, or its pruned one, and some of the run's test events.

    Arguments:
        run: the run folder.
        pruned: whether to take the network of `hepkan prune`.
        events: at most so many.
        processes: of the events of `inputs.parquet`, read from there by default.

    Raises:
        UsageError: the run has no KAN, or none that is pruned.
        DataError: a file is damaged, or does not fit the run.
    """
    from hepkan.model_io import load
    from hepkan.nn import KAN

    path = _network_file(run, pruned)
    model = load(path)
    if not isinstance(model, KAN) or model.n_features != len(run.features):
        raise DataError(f"{path} must be a KAN of the {len(run.features)} features of its run, however it is not.")
    X = np.column_stack([run.inputs[one.name] for one in run.features]).astype(np.float32)
    target = np.asarray(run.inputs["target"])
    size = 4 * (model.widths[0] + 3) + 4 * target.reshape(len(target), -1).shape[1]
    kept = max(100, min(events, SAMPLE_BYTES // size))
    rows = np.unique(np.linspace(0, len(X) - 1, min(kept, len(X))).round().astype(np.intp))
    return Explored(
        model=copy.deepcopy(model).double().eval(),
        path=path,
        X=X[rows],
        target=target[rows] if model.link != "identity" else target[rows].astype(np.float32),
        weight=np.asarray(run.inputs["weight"], dtype=np.float64)[rows],
        process=(_process(run) if processes is None else processes)[rows],
    )


def _network_file(run: Run, pruned: bool) -> Path:
    """Return the file of the network to look at."""
    from hepkan.model_io import read_metadata

    if pruned:
        path = run.folder / "pruned" / "model.hepkan"
        if not path.is_file():
            raise UsageError(f"--pruned needs {path}, however there is none. Make it with: hepkan prune {run.folder}")
        return path
    main = run.folder / "model.hepkan"
    if main.is_file() and read_metadata(main)["class"] == "KAN":
        return main
    found = []
    for path in (path for members in run.members.values() for path in members.values()):
        metadata = read_metadata(path)
        if metadata["class"] == "KAN":
            found.append((float(metadata["extra"].get("best_value", np.inf)), str(path)))
    if not found:
        raise UsageError(
            f"The explorer shows the functions on the edges of a KAN, however {run.folder} has trained none "
            f"(models: {', '.join(run.models)}). Run one with --model kan."
        )
    return Path(min(found)[1])


def _process(run: Run) -> NDArray[Any]:
    """Return the process of each event of `inputs.parquet`, `events` where the file has none."""
    import pyarrow.parquet as pq

    path = run.folder / "inputs.parquet"
    if "process" not in pq.read_schema(path).names:
        return np.full(len(run.inputs["target"]), "events")
    return np.asarray(pq.read_table(path, columns=["process"])["process"].to_numpy(zero_copy_only=False)).astype(str)


def metric(this: Explored, prediction: Floats, scales: Sequence[float] = ()) -> tuple[str, float]:
    """Return name and value of the measure that the page shows, as the browser computes it.

    The weighted AUC of two classes, the weighted accuracy of several; in a regression the weighted mean absolute
    error of each target over its deviation, averaged over the targets.

    **Shape** prediction: `(n,)` or `(n, outputs)`.
    """
    weight = this.weight
    if this.model.link == "sigmoid":
        return "auc", float(auc(this.target, prediction, weight))
    if this.model.link == "softmax":
        right = prediction.argmax(axis=1) == this.target
        return "accuracy", float(weight @ right / weight.sum())
    residual = np.abs(prediction.reshape(len(weight), -1) - this.target.astype(np.float64).reshape(len(weight), -1))
    each = weight @ residual / weight.sum()
    return "mae", float((each / np.asarray(scales or np.ones(len(each)))).mean())


def payload(run: Run, this: Explored, explained: int = EXPLAINED) -> dict[str, Any]:
    """Return everything that the page embeds, as JSON-able data; arrays are base64 of little-endian numbers.

    Arguments:
        run: the run folder.
        this: the network and the events.
        explained: how many edges get a bootstrap band and symbolic candidates.

    Raises:
        DataError: the network is not finite or gives the same for all events.
    """
    import torch

    from hepkan.interpret import edge_curves, output_shares

    model = this.model
    with torch.no_grad():
        prediction = model.predict(torch.from_numpy(this.X.astype(np.float64)))
    if not np.isfinite(prediction).all():
        raise DataError(f"{this.path} must give numbers, however some predictions are NaN or infinite.")
    name, value = metric(this, prediction, [one.scale for one in run.targets])
    curves = edge_curves(model, this.X, _density_weight(this), points=BAND_POINTS)
    shares = output_shares(curves)
    columns = list(range(model.n_features)) if model.columns is None else list(model.columns)
    report = run.report
    settings = model.describe()
    return {
        "format": 1,
        "version": str(report.get("version", "")),
        "title": str(report.get("title") or run.card.get("title") or report["task"]),
        "question": str(report.get("question") or run.card.get("question") or ""),
        "run": run.folder.resolve().name,
        "network": str(this.path.relative_to(run.folder)),
        "sha256": hashlib.sha256(this.path.read_bytes()).hexdigest(),
        "kind": {"sigmoid": "binary", "softmax": "classes"}.get(model.link, "regression"),
        "classes": _classes(run, model),
        "degree": settings["degree"],
        "base": settings["base"],
        "widths": model.widths,
        "parameters": model.n_parameters,
        "inputs": [_named(run.features[column]) for column in columns],
        "outputs": _outputs(run, model),
        "targets": [{**_named(one), "scale": one.scale} for one in run.targets],
        "map": _input_map(model),
        "layers": _layers(model, curves, shares, this),
        "output_map": None if model.head is not None else _affine(model.output_map),
        "head": _head(model),
        "sample": _sample(this, columns),
        "metric": {"name": name, "value": value, "title": words.metric_name(name)},
        "explained": _explained(this, curves, shares, explained),
        "notes": _notes(this, curves, explained),
        "formula": _formula(run),
    }


def encoded(array: NDArray[Any], kind: str = "<f4") -> dict[str, Any]:
    """Return an array as its shape, type and base64."""
    raw = np.ascontiguousarray(array, dtype=kind).tobytes()
    return {"shape": list(np.shape(array)), "type": kind[1:], "data": base64.b64encode(raw).decode()}


def _named(one: Feature) -> dict[str, str]:
    """Return name, unit and label as HTML of an input or target."""
    return {"name": one.name, "unit": {"GeV^0.5": "√GeV"}.get(one.unit, one.unit),
            "label": str(html_label(one.label, one.name))}  # fmt: skip


def _classes(run: Run, model: KAN) -> list[str]:
    if model.link == "sigmoid":
        return list(run.classes)
    if model.link == "softmax":
        named = len(run.classes) == model.widths[-1]
        return list(run.classes) if named else [f"class {place}" for place in range(model.widths[-1])]
    return []


def _outputs(run: Run, model: KAN) -> list[str]:
    """Return labels of the nodes at the right, as HTML."""
    if model.link == "sigmoid":
        return [str(html_label(run.classes[1], run.classes[1]))]
    if model.link == "softmax":
        return _classes(run, model)
    if model.head is None and len(run.targets) == model.widths[-1]:
        return [str(html_label(one.label, one.name, one.unit)) for one in run.targets]
    from hepkan.report.edges import Data

    nothing = np.zeros(0)
    data = Data(run.features, nothing, nothing, nothing, (), run.targets)
    return [str(html_label(label, label)) for label in output_labels(model, data)]


def _input_map(model: KAN) -> dict[str, Any]:
    """Return what turns raw features into network coordinates."""
    from hepkan.nn.transforms import QuantileNormal, Standard

    one = model.input_map
    if isinstance(one, QuantileNormal):
        x, z = encoded(_numbers(one.x_nodes), "<f8"), encoded(_numbers(one.z_nodes), "<f8")
        return {"kind": "quantile", "x": x, "z": z}
    if isinstance(one, Standard):
        return {"kind": "standard", "mean": _numbers(one.mean).tolist(), "scale": _numbers(one.scale).tolist()}
    return {"kind": "none"}


def _affine(affine: Any) -> dict[str, list[float]]:
    return {"mean": _numbers(affine.mean).tolist(), "scale": _numbers(affine.scale).tolist()}


def _head(model: KAN) -> dict[str, Any] | None:
    """Return the numbers of a head that puts outputs on mass shells."""
    if model.head is None:
        return None
    head = model.head
    return {"name": head.name, "mass": head.mediator_mass, "mass_scale": float(head.mass_scale), **_affine(head.affine)}


def _layers(model: KAN, curves: EdgeCurves, shares: Sequence[Floats], this: Explored) -> list[dict[str, Any]]:
    """Return the numbers of the layers, with the mean of every edge over the embedded events."""
    import torch

    from hepkan.interpret.judging import layers_of
    from hepkan.interpret.trace import edge_moments

    x = torch.from_numpy(this.X.astype(np.float64))
    moments = edge_moments(model, x, torch.from_numpy(np.abs(this.weight)))
    found = []
    for layer, seen, share, (mean, deviation) in zip(layers_of(model), curves.layers, shares, moments, strict=True):
        knots, coef, base, bias = layer.numbers()
        found.append(
            {
                "inputs": layer.in_features,
                "sums": coef.shape[2],
                "products": layer.products,
                "knots": encoded(_numbers(knots)),
                "coef": encoded(_numbers(coef)),
                "base": None if base is None else encoded(_numbers(base)),
                "bias": None if bias is None else encoded(_numbers(bias)),
                "mask": encoded(seen.mask, "<u1"),
                "mean": encoded(mean, "<f8"),
                "std": encoded(deviation),
                "share": encoded(np.where(seen.mask, share, 0.0), "<f8"),
                "range": [[float(line[0]), float(line[-1])] for line in seen.x],
            }
        )
    return found


def _sample(this: Explored, columns: Sequence[int]) -> dict[str, Any]:
    """Return the embedded events."""
    names, codes = np.unique(this.process, return_inverse=True)
    met = None if this.model.head is None else this.model.head.met
    return {
        "n": len(this.X),
        "x": encoded(this.X[:, list(columns)]),
        "target": encoded(this.target, "<f4" if this.target.dtype.kind == "f" else "<u1"),
        "weight": encoded(this.weight, "<f8"),
        "process": encoded(codes, "<u2"),
        "processes": [str(one) for one in names],
        "met": None if met is None else encoded(this.X[:, met]),
    }


def _explained(this: Explored, curves: EdgeCurves, shares: Sequence[Floats], most: int) -> dict[str, Any]:
    """Return bands and candidates of the most important edges, by `layer-input-sum`."""
    import torch

    from hepkan.interpret.judging import layers_of
    from hepkan.interpret.trace import layer_inputs

    x = torch.from_numpy(this.X[:: max(1, len(this.X) // FITTED)].astype(np.float64))
    seen = layer_inputs(this.model, x)
    bands = _bands(this, curves)
    chosen: dict[int, list[tuple[int, int]]] = {}
    for place, i, o in important(curves, shares)[:most]:
        chosen.setdefault(place, []).append((i, o))
    found = {}
    for place, edges in chosen.items():
        with torch.no_grad():
            values = layers_of(this.model)[place].edge_functions(seen[place]).numpy()
        points = (this.model.select(x) if place == 0 else seen[place]).numpy()
        for i, o in edges:
            entry: dict[str, Any] = {"candidates": _candidates(points[:, i], values[:, i, o])}
            if bands is not None:
                entry["band"] = encoded(bands[place][i, :, o])
            found[f"{place}-{i}-{o}"] = entry
    return found


def important(curves: EdgeCurves, shares: Sequence[Floats]) -> list[tuple[int, int, int]]:
    """Return layer, input and sum of all edges by their share relative to the largest of their layer."""
    every = [
        (float(share[i, o] / (share.max() or 1.0)), place, int(i), int(o))
        for place, (layer, share) in enumerate(zip(curves.layers, shares, strict=True))
        for i, o in zip(*np.nonzero(layer.mask), strict=True)
    ]
    every.sort(key=lambda one: (-one[0], *one[1:]))
    return [(place, i, o) for _, place, i, o in every]


def _bands(this: Explored, curves: EdgeCurves) -> tuple[Floats, ...] | None:
    """Return the bootstrap errors of all edges, none behind a head, where the outputs have no targets."""
    from hepkan.interpret import edge_bands

    if this.model.head is not None:
        return None
    return edge_bands(this.model, curves, this.X, this.target, np.abs(this.weight), loss=_band_loss(this))


def _band_loss(this: Explored) -> str:
    """Return a loss with a curvature: that of the absolute error has none."""
    return "cross_entropy" if this.classification else "huber"


def _candidates(x: Floats, y: Floats) -> list[dict[str, Any]]:
    """Return the best functions for the values of an edge; none where it is constant or takes a few values only."""
    from hepkan.interpret.candidates import candidates
    from hepkan.interpret.expression import to_list
    from hepkan.interpret.primitives import PRIMITIVES

    if len(np.unique(x)) < 5 or np.ptp(y) <= 1e-12 * max(1.0, float(np.abs(y).max())):
        return []
    table = [one for one in PRIMITIVES.values() if one.name not in TWINS]
    found = candidates(x, y, primitives=table, keep=CANDIDATES)
    return [
        {"name": one.name, "r2": one.r2, "complexity": one.complexity, "body": to_list([one.body])} for one in found
    ]


def _density_weight(this: Explored) -> Floats:
    """Return weights of equal total in both classes, so that the rarer one is seen."""
    from hepkan.report import statistics

    if this.classification:
        return statistics.balanced(this.target, this.weight)
    return np.abs(this.weight)


def _notes(this: Explored, curves: EdgeCurves, explained: int) -> list[str]:
    """Return what the page must say about its numbers."""
    edges = int(sum(layer.mask.sum() for layer in curves.layers))
    notes = [
        f"{len(this.X)} test events of the run are embedded; every number on this page is computed from them, by the "
        "network's own splines in double precision."
    ]
    if edges > explained:
        notes.append(
            f"Bootstrap bands and symbolic candidates are there for the {explained} most important of {edges} edges."
        )
    if this.model.head is not None:
        notes.append("There are no bootstrap bands: behind this network's head single outputs have no targets.")
    elif not this.classification:
        notes.append("Bootstrap bands are those of Huber's loss; the absolute error has no curvature.")
    return notes


def _formula(run: Run) -> Mapping[str, Any] | None:
    """Return the formula that `hepkan symbolic` has found in this run, None where there is none."""
    path = run.folder / "symbolic" / "formula.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    shown = ("kind", "arguments", "column", "coefficients", "bias", "primitive")
    nodes = [
        {key: node[key] for key in shown if key in node and (key != "coefficients" or node["kind"] == "Sum")}
        for node in content["nodes"]
    ]
    labels = [str(html_label(one.label, one.name)) for one in run.features]
    return {"nodes": nodes, "outputs": content["outputs"], "labels": labels, "link": content["link"]}


def _numbers(tensor: Any) -> Floats:
    return np.asarray(tensor.detach().cpu().double().numpy(), dtype=np.float64)

