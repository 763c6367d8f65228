"""What a run's network looks like, and what `hepkan prune` and `hepkan symbolic` made of it: sections of its page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hepkan.errors import DataError
from hepkan.report.reading import Run
from hepkan.report.sections import Picture, Plot, Section, draw
from hepkan.report.words import count, signed_error, title, with_error

if TYPE_CHECKING:
    from hepkan.nn import KAN

PICTURES = {
    "diagram": "The pruned network: inputs at the left, outputs at the right, every edge with its function.",
    "curve": "Validation loss against the number of parts left, with the network that was taken.",
    "activations": "The functions on the edges of the pruned network, above the data they see.",
    "front": "Loss against complexity of formulae, with the spline network as reference.",
}
"""What the pictures in the folders show, by name."""
LONGEST = 6000
"""A formula with more letters is in its files only."""


def explained(run: Run) -> Iterator[Section]:
    """Draw the main network of a run where it is a KAN, then what has been made of it."""
    from hepkan.model_io import load
    from hepkan.nn import KAN

    path = run.folder / "model.hepkan"
    if path.is_file():
        model = load(path)
        if isinstance(model, KAN):
            yield network_section(run, model)
    if (run.folder / "pruned" / "report.json").is_file():
        yield pruned_section(run.folder / "pruned")
    if (run.folder / "symbolic" / "report.json").is_file():
        yield formula_section(run.folder / "symbolic", [one.name for one in run.targets])


def network_section(run: Run, model: KAN) -> Section:
    """The diagram of the whole network."""
    from hepkan.interpret import edge_curves
    from hepkan.report.diagram import network_diagram

    X = np.column_stack([run.inputs[one.name] for one in run.features])
    curves = edge_curves(model, X, np.abs(run.inputs["weight"]))
    labels = {one.name: one.label for one in run.features}
    outputs = [one.label for one in run.targets] or None
    if outputs is not None and len(outputs) != model.widths[-1]:
        outputs = None  # a head makes the targets of other outputs
    shape = "-".join(map(str, model.widths))
    alt = f"Network diagram of the {title(run.main)}, {shape}: lines are edges, wide where they matter."
    text = (
        f"The {title(run.main)} ({shape}) of the seed that was best on validation. Every line is an edge, "
        "as wide as its share in the variation of the output; edges below 2 % of the strongest of their layer are left "
        "out. Blue functions rise, red ones fall. The strongest edges carry their function. To take it apart by hand: "
        f"hepkan explore {run.folder.name}"
    )
    figure = partial(network_diagram, curves, labels=labels, outputs=outputs, weakest=0.02)
    return Section("network", "The network", text, [draw("network", figure, alt, here=True)])


def pruned_section(folder: Path) -> Section:
    """What `hepkan prune` left."""
    report = _report(folder)
    try:
        before, after, test = report["before"], report["after"], report["test"]
        sizes = [f"{len(one['inputs'])} inputs and {count(one['edges'])} edges" for one in (before, after)]
        parts = [f"Pruned from {sizes[0]} to {sizes[1]}. Inputs kept: {', '.join(after['inputs'])}."]
        names = {"auc": "AUC", "loss": "loss"}
        parts += [_judged(names[name], test[name]) for name in names if name in test]
    except (KeyError, TypeError) as error:
        raise _damaged(folder, error) from error
    return Section("pruned", "Pruned", " ".join(parts), _pictures(folder, ("diagram", "activations", "curve")))


def formula_section(folder: Path, outputs: list[str]) -> Section:
    """What `hepkan symbolic` found."""
    from hepkan.report.mathml import formula_markup

    report = _report(folder)
    try:
        test = report["test"]
        inputs = ", ".join(report["inputs"]) or "none"
        parts = [f"Complexity {report['complexity']}, {report['splines']} splines left, inputs: {inputs}."]
        if "auc" in test:
            auc = test["auc"]
            pair = {"before": auc["run"], "after": auc["formula"], "difference": auc["difference"]}
            parts.append(_judged("AUC", pair))
        if "mse" in test:
            parts.append(f"Mean squared error on test events: {test['mse']['run']:.4g} → {test['mse']['formula']:.4g}.")
        if test["undefined"]:
            parts.append(f"Not defined for {test['undefined']} of {test['events']} test events.")
        short = len(report["formula"]) <= LONGEST
    except (KeyError, TypeError) as error:
        raise _damaged(folder, error) from error
    markup = formula_markup(folder / "formula.json", outputs) if short else ""
    parts.append("As LaTeX, Python and ROOT text: symbolic/ in the run folder.")
    return Section("formula", "The formula", " ".join(parts), _pictures(folder, ("front",)), markup=markup)


def _judged(name: str, values: Mapping[str, Any]) -> str:
    """Return a measure before and after in words."""
    before, after, gap = values["before"], values["after"], values["difference"]
    return f"Test {name}: {with_error(*before)} → {with_error(*after)}, difference {signed_error(*gap)}."


def _pictures(folder: Path, names: tuple[str, ...]) -> list[Picture]:
    """Return the pictures of a folder that are there."""
    found: list[Picture] = []
    for name in names:
        path = folder / f"{name}.svg"
        if path.is_file():
            content = path.read_bytes()
            found.append(Plot(f"{folder.name}-{name}", content, PICTURES[name], _width(content, path)))
    return found


def _width(content: bytes, path: Path) -> int:
    """Return the natural width of a picture in CSS pixels, which matplotlib writes in points."""
    head = content[:2000].decode("utf-8", errors="replace")
    try:
        return round(float(head.split('width="', 1)[1].split('pt"', 1)[0]) * 96 / 72)
    except (IndexError, ValueError) as error:
        raise DataError(f"{path} must be a picture of hepkan's, however it has no width. Make it anew.") from error


def _report(folder: Path) -> Mapping[str, Any]:
    """Read the report of a folder."""
    try:
        content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(folder, error) from error
    if not isinstance(content, dict):
        raise _damaged(folder, "no object")
    return content


def _damaged(folder: Path, reason: object) -> DataError:
    verb = "prune" if folder.name == "pruned" else "symbolic"
    return DataError(f"{folder / 'report.json'} is damaged ({reason}). Make it anew: hepkan {verb} {folder.parent}")
