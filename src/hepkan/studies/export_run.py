"""What `hepkan export` does: the network or formula of a run as a file for other people's software.

Nothing is written that differs from the network on the run's own test events. A killed export leaves no file, or the
complete one, and the same command again gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hepkan.errors import DataError, UsageError, unknown
from hepkan.studies.card import Card, build_card
from hepkan.studies.folders import check_writable, read_report
from hepkan.studies.interpret_run import FOLDER as PRUNED
from hepkan.studies.recipe import rules
from hepkan.studies.symbolic_run import FOLDER as SYMBOLIC

if TYPE_CHECKING:
    from hepkan.export import Export
    from hepkan.nn import Network

TARGETS: Mapping[str, tuple[str, ...]] = {
    "onnx": (".onnx",),
    "cpp": (".hpp", ".h"),
    "torch": (".pt", ".pth"),
    "formula": (".txt", ".define", ".tex", ".py", ".sympy"),
}
"""What can be written, and the endings of files that say so."""
EVENTS_FILE, MODEL, FORMULA = "inputs.parquet", "model.hepkan", "formula.json"
FILES = (MODEL, "model.txt", "model.pykan", "model.flow", "predictor.json")
"""What `TrainedModel.save` writes, whatever the kind of model."""
UP = 3
"""From a member or a pruned network so many folders up at most lie the events of its run."""


@dataclass(frozen=True)
class Place:
    """Where the model is and what is known about it.

    Attributes:
        folder: of the model file.
        run: the run folder it belongs to, None when there is none around it.
        fold: whose events it has never seen, None for the model of the run.
    """

    folder: Path
    run: Path | None
    fold: int | None


def export_run(
    source: str | Path,
    output: str | Path,
    *,
    to: str | None = None,
    style: str | None = None,
    fold: int | None = None,
    link: bool = True,
    fidelity: float | None = None,
) -> dict[str, Any]:
    """Write the model of a run, or its formula, for other software; returns what was written and how it was checked.

    The result has `path`, `to`, `model`, `inputs` (name, unit, and what replaces a missing value), `events` compared,
    `real_events` of the run among them, `difference` and `tolerance`; a formula besides `style` and `fidelity`.

    Arguments:
        source: a run folder, the folder of a pruned network, formula or member, or a model file.
        output: the file.
        to: `onnx`, `cpp`, `torch` or `formula`; by the output's ending when not given.
        style: of a formula, see `hepkan.export.formula`; by the output's ending when not given.
        fold: with cross-evaluation, the model that never saw the events of this fold, instead of the model of the run.
        link: whether predictions come out, otherwise logits.
        fidelity: the least that a formula must follow the network by; `hepkan.export.formula` says how it is measured.

    Raises:
        UsageError: the source is none, the kind of model or the target cannot be exported, there is no formula.
        DataError: the run is not complete or damaged, the file would differ from the network, or cannot be written.
        MissingExtra: ONNX is asked for and the extra `export` is not installed.
    """
    path = Path(output)
    target = _target(path, to)
    if target != "formula" and (style is not None or fidelity is not None):
        raise UsageError(f"Style and fidelity are for formulae, however the export is to {target}.")
    if target == "formula" and (not link or fold is not None):
        raise UsageError("Formulae have their link in them and no folds, however logits or a fold are asked for.")
    place = _place(Path(source), fold)
    if target == "formula":
        return _formula(place, path, style, fidelity)
    model, kind = _network(place, target)
    X, facts = _events(place, model.n_features), _facts(place, target, kind, model)
    check_writable(path.parent)
    done = _writer(target)(model, path, X, link=link)
    return facts | _checked(done, X)


def _target(path: Path, to: str | None) -> str:
    """Return what is to be written."""
    if to is not None:
        if to not in TARGETS:
            raise unknown("target of an export", to, TARGETS)
        return to
    found = [target for target, endings in TARGETS.items() if path.suffix in endings]
    if not found:
        raise UsageError(f"What to export must be given, however {path.name} says nothing; use --to onnx, say.")
    return found[0]


def _place(source: Path, fold: int | None) -> Place:
    """Return where the model or formula is."""
    if not source.exists():
        raise UsageError(f"A run folder or model file is required, however {source} does not exist.")
    folder = source.resolve()
    if source.is_file():
        if source.name not in (MODEL, FORMULA) and source.suffix != ".hepkan":
            raise UsageError(f"A run folder or a .hepkan file is required, however {source} is neither.")
        return Place(folder, _run_of(folder.parent), None)
    run = _run_of(folder)
    if run == folder:
        read_report(folder)
        if fold is not None:
            return Place(_fold(folder, fold), run, fold)
    elif fold is not None:
        raise UsageError(f"Folds are parts of a run, however {source} is none.")
    elif run is None and not any((folder / name).is_file() for name in (*FILES, FORMULA)):
        read_report(source)  # says what is missing
    return Place(folder, run, None)


def _fold(run: Path, fold: int) -> Path:
    """Return the folder of the model that never saw a fold."""
    card = _card(run)
    folds = (card.folds or 0) if card.own else 0
    if 0 <= fold < folds:
        return run / "members" / f"{card.main}-fold{fold}"
    if not folds:
        raise UsageError(f"A fold is asked for, however {run} was made without cross-evaluation. Leave it out.")
    raise UsageError(f"The fold must be one of the run's {folds}, 0 to {folds - 1}, however: {fold}.")


def _card(run: Path) -> Card:
    """Return the card of a run."""
    from hepkan.studies.options import parse_yaml

    file = run / "card.yaml"
    try:
        return build_card(parse_yaml(file.read_text(encoding="utf-8"), str(file)))
    except OSError as error:
        raise DataError(f"{file} must be readable, however: {error}; run the study again.") from error


def _run_of(folder: Path) -> Path | None:
    """Return the run folder that a folder is or lies in."""
    around = (folder, *folder.parents)[:UP]
    return next((one for one in around if (one / "study.json").is_file()), None)


def _network(place: Place, target: str) -> tuple[Network, str]:
    """Return the network of a place and its kind.

    Raises:
        UsageError: the model is no network.
    """
    from hepkan.baselines import MODELS, load_model
    from hepkan.model_io import load
    from hepkan.nn import KAN, MLP

    if place.folder.is_file() or (place.folder / MODEL).is_file():
        file = place.folder if place.folder.is_file() else place.folder / MODEL
        network = load(file)
        return network, type(network).__name__
    model = load_model(place.folder)
    if type(model.predictor) not in (KAN, MLP):
        title = MODELS[model.kind].title if model.kind in MODELS else model.kind
        able = "kan, gam, mlp, logistic, linear"
        others = sorted(one.parent.name for one in place.folder.glob(f"members/*/{MODEL}"))
        besides = f" The run has networks too: hepkan export {place.folder / 'members' / others[0]}." if others else ""
        raise UsageError(
            f"An export to {target} needs a network of this package ({able}), however the model of {place.folder} is "
            f"a {title}. Score events with hepkan predict, or train one of these.{besides}"
        )
    assert isinstance(model.predictor, KAN | MLP)
    return model.predictor, model.kind


def _events(place: Place, features: int) -> NDArray[np.float32] | None:
    """Return real test events of the run as the network takes them, None when there are none around.

    Raises:
        DataError: the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if place.run is None or not (place.run / EVENTS_FILE).is_file():
        return None
    path = place.run / EVENTS_FILE
    names = [one["name"] for one in read_report(place.run).get("features", [])]
    try:
        table = pq.read_table(path, columns=names)
        X = np.column_stack([table[name].to_numpy() for name in names]).astype(np.float32)
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise DataError(f"{path} must be readable, however it is damaged ({error}); run the study again.") from error
    if X.shape[1] != features:
        raise DataError(
            f"The model must take the {X.shape[1]} features of its run {place.run}, however it takes {features}."
        )
    return X


def _writer(target: str) -> Callable[..., Any]:
    """Return what writes a network."""
    from hepkan import export

    writers: dict[str, Callable[..., Any]] = {"onnx": export.onnx, "cpp": export.cpp, "torch": export.torchscript}
    return writers[target]


def _facts(place: Place, target: str, kind: str, model: Network) -> dict[str, Any]:
    """Return what is going to be written."""
    return {
        "to": target,
        "model": kind,
        "network": str(place.folder if place.folder.is_file() else place.folder / MODEL),
        "outputs": model.widths[-1],
        "link": model.link,
        "fold": place.fold,
        "folds": _folds(place.run),
        "inputs": _inputs(place, model.feature_names or [f"x{i}" for i in range(model.n_features)]),
    }


def _checked(done: Export, X: NDArray[np.float32] | None) -> dict[str, Any]:
    """Return what was written and how it was checked."""
    return {
        "path": str(done.path),
        "events": done.events,
        "real_events": 0 if X is None else len(X),
        "difference": done.difference,
        "tolerance": done.tolerance,
    }


def _inputs(place: Place, names: list[str]) -> list[dict[str, Any]]:
    """Return the inputs in their order, with units and what replaces a missing value."""
    units: dict[str, str] = {}
    fills: dict[str, float] = {}
    flagged: set[str] = set()
    if place.run is not None:
        units = {one["name"]: one.get("unit") or "" for one in read_report(place.run).get("features", [])}
        fills, flagged = _replacements(place.run, place.fold)
    return [
        {"place": n, "name": name, "unit": units.get(name, ""), "missing": fills.get(name), "flag": name in flagged}
        for n, name in enumerate(names)
    ]


def _replacements(run: Path, fold: int | None) -> tuple[dict[str, float], set[str]]:
    """Return what replaces missing values of features that may have them, and the inputs that say so."""
    from hepkan.studies.record import INPUTS_FILE

    card, path = _card(run), run / INPUTS_FILE
    if not path.is_file():
        return {}, set()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        learned = content["fills"]["split" if fold is None else str(fold)]
        pairs = zip(card.feature_names, rules(card), strict=True)
        fills = {name: float(learned[name]) for name, rule in pairs if rule.policy != "error"}
        return fills, {f"{name}_missing" for name in content["flagged"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); run the study again.") from error


def _folds(run: Path | None) -> int | None:
    """Return the number of folds of a run with cross-evaluation."""
    if run is None:
        return None
    card = _card(run)
    return card.folds if card.own else None


def _formula(place: Place, path: Path, style: str | None, fidelity: float | None) -> dict[str, Any]:
    """Write the formula of a place."""
    from hepkan import export
    from hepkan.export.formula_text import FIDELITY
    from hepkan.interpret.formula import Formula

    file = _formula_file(place)
    formula = Formula.load(file)
    network, name = _followed(file, place)
    X, inputs = _events(place, formula.n_features), _inputs(place, list(formula.used))
    check_writable(path.parent)
    done = export.formula(
        formula,
        path,
        X,
        style=style,
        network=None if network is None or X is None else network.predict,
        fidelity=FIDELITY if fidelity is None else fidelity,
    )
    return {
        "to": "formula",
        "style": done.style,
        "model": "formula",
        "network": name,
        "outputs": len(formula.roots),
        "link": formula.link,
        "inputs": [{**one, "place": formula.names.index(one["name"])} for one in inputs],
        "fidelity": done.fidelity,
        **_checked(done, X),
    }


def _formula_file(place: Place) -> Path:
    """Return the file of the formula.

    Raises:
        UsageError: there is none.
    """
    if place.folder.name == FORMULA:
        return place.folder
    folder = place.folder.parent if place.folder.is_file() else place.folder
    folder = folder.parent if folder.name == PRUNED else folder
    for file in (folder / FORMULA, folder / SYMBOLIC / FORMULA):
        if file.is_file():
            return file
    raise UsageError(
        f"An export to formula needs a formula, however {folder} has none. Find one first: hepkan symbolic {folder}"
    )


def _followed(file: Path, place: Place) -> tuple[Network | None, str | None]:
    """Return the network that the formula was made of, and its name in the run; None where it is not known."""
    from hepkan.model_io import load

    report = file.parent / "report.json"
    if place.run is None or not report.is_file():
        return None, None
    try:
        name = str(json.loads(report.read_text(encoding="utf-8"))["network"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{report} is damaged ({error}); give hepkan symbolic again.") from error
    if not (place.run / name).is_file():
        return None, None
    return load(place.run / name), name
