"""What `hepkan prune` does with a run folder: a smaller network, chosen on validation and judged on test events."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import hepkan
from hepkan.errors import DataError, UsageError
from hepkan.files import atomic_folder, write_text
from hepkan.metrics import compare, evaluate
from hepkan.studies.by_hand import by_hand
from hepkan.studies.card import Card, build_card
from hepkan.studies.folders import read_report
from hepkan.studies.members import Data, split
from hepkan.studies.options import read_raw
from hepkan.studies.record import full_weight
from hepkan.studies.run import prepare

if TYPE_CHECKING:
    from hepkan.data import Table
    from hepkan.interpret import PruningCurve, Stage
    from hepkan.nn import KAN

FOLDER = "pruned"
FINETUNE: Mapping[str, Any] = {"learning_rate": 3e-3, "weight_decay": 0.05, "average": 0.99}
"""How networks are trained again between stages, besides the number of epochs."""


@dataclass(frozen=True)
class RunNetwork:
    """The KAN of a run, with the events it was trained on and those it has not seen, weighted as in its report."""

    card: Card
    path: Path
    model: KAN
    train: Table
    validation: Table
    test: Table
    test_weight: NDArray[np.float64]


@dataclass(frozen=True)
class PrunedRun:
    """Where the results of a pruning are, and its report."""

    folder: Path
    report: dict[str, Any]


def read_network(folder: str | Path) -> RunNetwork:
    """Return the KAN of a finished run, the best of its seeds on validation, and the run's events.

    Raises:
        UsageError: the folder is no run, or has no KAN.
        DataError: the run is not complete, damaged, or its sample has changed.
    """
    from hepkan.model_io import load
    from hepkan.nn import KAN

    place = Path(folder)
    read_report(place)
    card = build_card(read_raw(str(place / "card.yaml")))
    path, seed = _kan_file(place)
    data = prepare(card)
    _check_sample(place, data)
    model = load(path)
    assert isinstance(model, KAN)
    train, validation, test = split(data, seed)
    return RunNetwork(card, path, model, train, validation, test, full_weight(data, test))


def prune_run(
    folder: str | Path,
    *,
    inputs: int | None = None,
    nodes: int | None = None,
    edges: int | None = None,
    tolerance: float | None = None,
    epochs: int = 2,
    fraction: float = 0.2,
    candidates: int = 1,
    edits: str | Path | None = None,
    output: str | Path | None = None,
    progress: Callable[[Stage], None] | None = None,
) -> PrunedRun:
    """Prune the KAN of a run; writes model.hepkan, curve.parquet, report.json, diagram.svg, curve.svg, activations.svg.

    Training events train again, validation events measure importance and choose, test events judge at the end.

    Arguments:
        folder: the run folder.
        inputs: at most so many features; nodes: hidden nodes; edges: edges; tolerance: growth of the validation loss.
            Without any, the network at the knee of the loss against edges.
        epochs: of training after each stage; 0 for none.
        fraction: of the parts that go in one stage.
        candidates: see `hepkan.prune`.
        edits: file of the explorer with edges to remove; nothing is searched or trained then.
        output: where to write, `pruned` in the run folder by default.
        progress: called with every stage.

    Raises:
        UsageError: the folder is no run or has no KAN, or an impossible number.
        DataError: the run is not complete, or its sample has changed.
        OSError: the folder cannot be written.
    """
    from hepkan.interpret import pruning_steps

    if epochs < 0:
        raise UsageError(f"epochs must not be negative, however: {epochs}.")
    run = read_network(folder)
    loss = _loss_of(run)
    parts = [_training_arrays(table, run) for table in (run.train, run.validation)]
    finetune = {**FINETUNE, "epochs": epochs} if epochs else None
    wanted: dict[str, Any] = {"inputs": inputs, "nodes": nodes, "edges": edges, "tolerance": tolerance}
    chosen: dict[str, Any] = {"fraction": fraction, "candidates": candidates, "finetune": finetune, "loss": loss}
    X, y, weight = parts[0]
    settings = {**chosen, "group": _group(run.validation, run.card), "validation": parts[1], "progress": progress}
    small, curves = (
        pruning_steps(run.model, X, y, weight, **wanted, **settings)
        if edits is None
        else (by_hand(folder, run, edits, wanted), ())
    )
    report = {
        "version": hepkan.__version__,
        "run": str(Path(folder)),
        "network": str(run.path.relative_to(folder)),
        "settings": {**wanted, **chosen},
        "before": _size(run.model),
        "after": _size(small),
        "validation": _validation(curves),
        "test": _judged(run, small, loss),
        "importance": _importance(run, small, loss),
    }
    target = Path(folder) / FOLDER if output is None else Path(output)
    _write(target, run, small, curves, report)
    return PrunedRun(target, report)


def summary_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the result in a few lines."""
    before, after, test = report["before"], report["after"], report["test"]
    sizes = [
        f"{len(one['inputs'])} inputs, {one['edges']} edges, {one['parameters']} parameters" for one in (before, after)
    ]
    lines = [f"{sizes[0]} -> {sizes[1]}", f"Inputs kept: {', '.join(after['inputs'])}"]
    for name in ("loss", "auc"):
        if name in test:
            value, error = test[name]["difference"]
            lines.append(f"Test {name}: {test[name]['before'][0]:.4f} -> {test[name]['after'][0]:.4f} "
                         f"({value:+.4f} +- {error:.4f})")  # fmt: skip
    return lines


def _kan_file(folder: Path) -> tuple[Path, int]:
    """Return the file and the seed of the run's KAN: its main model, or the best among the members."""
    from hepkan.model_io import read_metadata

    main = folder / "model.hepkan"
    files = [main] if main.is_file() else []
    files += sorted(folder.glob("members/*-seed*/model.hepkan"))
    found = []
    for path in files:
        metadata = read_metadata(path)
        if metadata["class"] == "KAN":
            extra = metadata["extra"]
            if path == main:
                return path, int(extra["seed"])
            found.append((float(extra["best_value"]), path, int(extra["seed"])))
    if not found:
        raise UsageError(f"Pruning needs the KAN of a run, however {folder} has none. Run one with --model kan.")
    _, path, seed = min(found)
    return path, seed


def _check_sample(folder: Path, data: Data) -> None:
    """Refuse a sample that is not the one of the run."""
    try:
        identity = str(json.loads((folder / "study.json").read_text(encoding="utf-8"))["identity"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder / 'study.json'} must say which sample the run had, however: {error}.") from error
    if not identity.endswith(data.sha256):
        raise DataError(f"{folder} needs the sample it was made with, however {data.path} has changed since.")


def _loss_of(run: RunNetwork) -> str:
    """Return the loss that the network was trained with."""
    from hepkan.model_io import read_metadata

    settings = read_metadata(run.path)["extra"].get("settings", {})
    return str(settings.get("loss", "cross_entropy" if run.test.classification else "mse"))


def _training_arrays(table: Table, run: RunNetwork) -> tuple[Any, Any, Any]:
    """Return features, targets and weights as training takes them; behind a head there are no targets of outputs."""
    kept, weight = table.for_training(run.card.negative_weights)
    return kept.X, kept.y if run.model.head is None else None, weight


def _group(table: Table, card: Card) -> Any:
    """Return which events belong together, of those that training takes."""
    return table.for_training(card.negative_weights)[0].group


def _size(model: KAN) -> dict[str, Any]:
    """Return names and numbers of what a network has."""
    from hepkan.interpret.judging import layers_of
    from hepkan.interpret.trace import edges_of

    edges = sum(int(edges_of(layer).sum()) for layer in layers_of(model))
    return {
        "inputs": model.input_names,
        "widths": model.widths,
        "edges": edges,
        "parameters": model.n_parameters,
    }


def _validation(curves: tuple[PruningCurve, ...]) -> dict[str, Any]:
    """Return the loss on validation events before and after."""
    if not curves:
        return {}
    return {"loss": curves[0].loss, "before": curves[0].stages[0].loss, "stages": sum(len(c.stages) for c in curves)}


def _judged(run: RunNetwork, small: KAN, loss: str) -> dict[str, Any]:
    """Return the loss of both networks on test events, of two classes the AUC too, with differences and errors."""
    from hepkan.interpret.judging import make_judge

    test = run.test
    content: dict[str, Any] = {"events": len(test)}
    _, weight = test.for_training("keep")
    target = test.y if run.model.head is None else None
    judge = make_judge(run.model, test.X, target, weight, group=test.group, loss=loss)
    before, after = judge.losses(run.model), judge.losses(small)
    content["loss"] = {
        "before": [judge.mean(before), judge.error(before)],
        "after": [judge.mean(after), judge.error(after)],
        "difference": [judge.mean(after - before), judge.error(after - before)],
    }
    if test.classification and run.model.widths[-1] == 1:
        scores = {"before": run.model.predict(test.X), "after": small.predict(test.X)}
        settings: dict[str, Any] = {"n_boot": run.card.bootstrap}
        content["auc"] = {
            name: evaluate(test.y, score, run.test_weight, test.group, **settings)["auc"]
            for name, score in scores.items()
        }
        both = (test.y, scores["after"], scores["before"], run.test_weight, test.group)
        content["auc"]["difference"] = compare(*both, **settings)["auc"]
    return content


def _importance(run: RunNetwork, small: KAN, loss: str) -> list[dict[str, Any]]:
    """Return the growth of the validation loss without each input that is left."""
    from hepkan.interpret import attribute

    X, y, weight = _training_arrays(run.validation, run)
    found = attribute(small, X, y, weight, group=_group(run.validation, run.card), loss=loss)
    return [{"input": name, "value": value, "error": error} for name, value, error in found.ranking()
            if name in small.input_names]  # fmt: skip


def _write(
    target: Path, run: RunNetwork, small: KAN, curves: tuple[PruningCurve, ...], report: Mapping[str, Any]
) -> None:
    """Write the folder under a temporary name, then put it in its place."""
    from hepkan.interpret import edge_bands, edge_curves
    from hepkan.model_io import save
    from hepkan.report.activations import activation_curves, pruning_plot
    from hepkan.report.diagram import network_diagram
    from hepkan.report.style import svg

    test, validation = run.test, run.validation
    labels, units = (dict(zip(test.names, column, strict=True)) for column in (test.labels, test.units))
    drawn = edge_curves(small, validation.X, np.abs(validation.weight))
    X, y, weight = _training_arrays(validation, run)
    loss = str(report["settings"]["loss"])
    bands = None if loss == "mae" or y is None else edge_bands(small, drawn, X, y, weight, loss=loss)
    rows = [{"part": curve.part, "stage": n, **row} for curve in curves for n, row in enumerate(curve.rows())]
    with atomic_folder(target) as folder:
        save(small, folder / "model.hepkan", {"pruned_from": report["network"], "test": report["test"]})
        pq.write_table(pa.Table.from_pylist(rows), folder / "curve.parquet")
        write_text(folder / "report.json", json.dumps(report, indent=1) + "\n")
        (folder / "diagram.svg").write_bytes(svg(network_diagram(drawn, labels=labels)))
        (folder / "activations.svg").write_bytes(svg(activation_curves(drawn, bands, labels=labels, units=units)))
        if curves:
            (folder / "curve.svg").write_bytes(svg(pruning_plot(curves[-1], _taken(curves[-1], small))))


def _taken(curve: PruningCurve, small: KAN) -> int | None:
    """Return the number of parts of the network that was taken."""
    return next((int(getattr(stage, curve.part)) for stage in curve.stages if stage.model is small), None)
