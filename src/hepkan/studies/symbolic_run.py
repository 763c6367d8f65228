"""What `hepkan symbolic` does with a run folder: a formula, fitted to training events and judged on test events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import hepkan
from hepkan.errors import UsageError
from hepkan.files import atomic_folder, write_text
from hepkan.metrics import compare, evaluate
from hepkan.studies.by_hand import formula_by_hand
from hepkan.studies.interpret_run import FOLDER as PRUNED
from hepkan.studies.interpret_run import RunNetwork, read_network

if TYPE_CHECKING:
    from hepkan.interpret.formula import Formula
    from hepkan.nn import KAN

FOLDER = "symbolic"
MOST_EDGES = 200
"""Of a network that is turned into a formula; every one of them is tried with every primitive."""


@dataclass(frozen=True)
class SymbolicRun:
    """Where the formula is, itself, and its report."""

    folder: Path
    formula: Formula
    report: dict[str, Any]


def symbolic_run(
    folder: str | Path,
    *,
    tolerance: float = 0.01,
    events: int = 4000,
    edits: str | Path | None = None,
    output: str | Path | None = None,
) -> SymbolicRun:
    """Turn the KAN of a run into a formula; the pruned one where `hepkan prune` has written it.

    Writes formula.json (see `Formula.load`), formula.tex, formula.py, formula_root.txt, report.json, front.svg.

    Arguments:
        folder: the run folder.
        tolerance: as in `hepkan.symbolic`.
        events: training events used.
        edits: file of the explorer with functions for edges; the formula is then the network with these edits.
        output: where to write, `symbolic` in the run folder by default.

    Raises:
        UsageError: the folder is no run, has no KAN, its KAN has a head or more than `MOST_EDGES` edges.
        DataError: the run is not complete, damaged, or its sample has changed.
        OSError: the folder cannot be written.
    """
    run = read_network(folder)
    formula, model, path = (
        _searched(folder, run, tolerance, events) if edits is None else formula_by_hand(folder, run, edits)
    )
    report = {
        "version": hepkan.__version__,
        "run": str(Path(folder)),
        "network": str(path.relative_to(folder)),
        "formula": str(formula),
        "complexity": formula.complexity,
        "splines": formula.n_splines,
        "inputs": list(formula.used),
        "front": [vars(row) for row in formula.table],
        "test": judged(run, formula, model),
    }
    target_folder = Path(folder) / FOLDER if output is None else Path(output)
    _write(target_folder, formula, report)
    return SymbolicRun(target_folder, formula, report)


def _searched(folder: str | Path, run: RunNetwork, tolerance: float, events: int) -> tuple[Formula, KAN, Path]:
    """Return a formula fitted to training events, the network it is made of, and its file."""
    from hepkan.interpret import symbolic
    from hepkan.interpret.judging import layers_of
    from hepkan.interpret.trace import edges_of
    from hepkan.model_io import load
    from hepkan.nn import KAN

    pruned = Path(folder) / PRUNED / "model.hepkan"
    model = load(pruned) if pruned.is_file() else run.model
    assert isinstance(model, KAN)
    edges = sum(int(edges_of(layer).sum()) for layer in layers_of(model))
    if edges > MOST_EDGES:
        raise UsageError(
            f"A formula to read comes from at most {MOST_EDGES} edges, however this network has {edges} and the search "
            f"would take hours. Prune it first: hepkan prune {folder} --edges 30"
        )
    kept, weight = run.train.for_training(run.card.negative_weights)
    name = None if run.train.classification else "mse"
    formula = symbolic(
        model,
        kept.X,
        np.asarray(kept.y),
        weight,
        names=list(run.train.names),
        loss=name,
        tolerance=tolerance,
        max_events=events,
    )
    return formula, model, pruned if pruned.is_file() else run.path


def judged(run: RunNetwork, formula: Formula, model: KAN) -> dict[str, Any]:
    """Return metrics on test events of the run's network, the network that was turned into a formula, and the formula.

    `difference` is that of the formula to the run's network, with its error by bootstrap.
    """
    test = run.test
    scores = {"run": run.model.predict(test.X), "network": model.predict(test.X), "formula": formula.predict(test.X)}
    undefined = int((~np.isfinite(scores["formula"])).reshape(len(test), -1).any(axis=1).sum())
    content: dict[str, Any] = {"events": len(test), "undefined": undefined}
    if undefined:
        return content
    if test.classification and run.model.widths[-1] == 1:
        settings: dict[str, Any] = {"n_boot": run.card.bootstrap}
        content["auc"] = {
            name: evaluate(test.y, score, test.weight, test.group, **settings)["auc"] for name, score in scores.items()
        }
        both = (test.y, scores["formula"], scores["run"], test.weight, test.group)
        content["auc"]["difference"] = compare(*both, **settings)["auc"]
    elif not test.classification:
        weight = test.weight / test.weight.sum()
        truth = np.asarray(test.y, dtype=np.float64).reshape(len(test), -1)
        content["mse"] = {
            name: float(weight @ np.square(score.reshape(len(test), -1) - truth).mean(axis=1))
            for name, score in scores.items()
        }
    return content


def summary_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the result in a few lines."""
    test = report["test"]
    lines = [report["formula"] if len(report["formula"]) < 2000 else report["formula"][:2000] + " ..."]
    inputs = ", ".join(report["inputs"])
    lines.append(f"Complexity {report['complexity']}, {report['splines']} splines, inputs: {inputs}")
    if test["undefined"]:
        lines.append(f"The formula is not defined for {test['undefined']} of {test['events']} test events.")
    if "auc" in test:
        value, error = test["auc"]["difference"]
        pair = (test["auc"]["run"][0], test["auc"]["formula"][0])
        lines.append(f"Test auc: {pair[0]:.4f} -> {pair[1]:.4f} ({value:+.4f} +- {error:.4f})")
    if "mse" in test:
        lines.append(f"Test mse: {test['mse']['run']:.6g} -> {test['mse']['formula']:.6g}")
    return lines


def _write(target: Path, formula: Formula, report: Mapping[str, Any]) -> None:
    """Write the folder under a temporary name, then put it in its place."""
    from hepkan.report.front import complexity_front
    from hepkan.report.style import svg

    if target.is_file():
        raise UsageError(f"The output must be a folder, however {target} is a file. Choose another with -o.")
    lines = [formula.latex(output) for output in range(len(formula.roots))]
    with atomic_folder(target) as folder:
        formula.save(folder / "formula.json")
        write_text(folder / "formula.tex", "\n".join(lines) + "\n")
        write_text(folder / "formula.py", formula.numpy())
        if formula.link != "softmax":
            roots = [formula.root(output) for output in range(len(formula.roots))]
            write_text(folder / "formula_root.txt", "\n".join(roots) + "\n")
        write_text(folder / "report.json", json.dumps(report, indent=1) + "\n")
        if formula.table:
            (folder / "front.svg").write_bytes(svg(complexity_front(formula.table, formula.loss_name)))
