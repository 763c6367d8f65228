"""A first card for a file: what its columns look like, guessed from names and the first events, as commented YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from hepkan.data.files import JAGGED, OTHER, TEXT, EventFile, Format, open_events, places, read_chunks
from hepkan.errors import DataError
from hepkan.files import write_text
from hepkan.studies.card import Card

LOOK = 20_000
"""Events that the guesses are made from."""

MOST_FEATURES = 200
"""Inputs that a starter card lists."""

SENTINELS = (-999.0, -9999.0, -99.0, -999999.0, -1000.0, -25.0, 999.0, -1e30)
"""Numbers that often stand for a missing value."""

FORMATS = get_args(Format)

_LABEL = r"(?i)(is_?)?(label|target|class|truth|y|is_?signal|signal|type)s?(_?\d*)?"
_WEIGHT = r"(?i)(gen|event|mc|total|kaggle)?_?weights?|w|wgt|evtw(eigh)?t|genWeight"
_ID = r"(?i)(event|evt|entry)?_?(id|number|no|num)|event|evt|i"
_RUN = r"(?i)run(_?number)?|lumi.*|luminosityBlock|ls"
_TRUTH = r"(?i)^(gen|mc|lhe|htxs|true|truth|ps_?weight|generator)|weight|^hlt_|^flag_|_true|truth"
_SCHEMA = "card.schema.json"


def schema() -> dict[str, Any]:
    """Return the JSON Schema of cards, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Card.model_json_schema()}


def starter_card(name: str, tree: str | None = None, format: Format | None = None, header: bool = True) -> str:
    """Return a card for the events of a file, as YAML with comments.

    Arguments:
        name: a path, perhaps with wildcards or `file.root:tree`.
        tree, format, header: see `hepkan.data.files.Place`.

    Raises:
        UsageError, DataError, MissingExtra: the file cannot be opened, or has no column that can be an input.
    """
    found = places(name, tree, format, header)
    file = open_events(found[0])
    flat = [column for column, kind in file.columns.items() if kind not in (JAGGED, OTHER)]
    values = _look(file, flat)
    weight = _first(sorted(flat, key=lambda one: one.lower() not in ("weight", "weights")), _WEIGHT)
    label, ids = _guess_label(flat, values, header), _guess_ids(flat, values)
    used = {*label[:1], weight, *ids, *(one for one in flat if re.fullmatch(_RUN, one) or re.search(_TRUTH, one))}
    numbers = [one for one in flat if file.columns[one] != TEXT and one not in used and _varies(values.get(one))]
    jagged = [one for one, kind in file.columns.items() if kind == JAGGED]
    objects = [one for one in jagged if _is_kinematic(one) and not re.search(_TRUTH, one)]
    features = numbers[:MOST_FEATURES] + [f"{one}[0]" for one in objects[:20]]
    if not features:
        raise DataError(f"Inputs are columns of numbers, however {found[0]} has none that varies.")
    sentinels = _guess_sentinels(numbers, values)
    source: dict[str, Any] = {"name": Path(found[0].path).stem, "files": [name]}
    source |= {"tree": tree} if tree else {}
    source |= {"format": format} if format else {}
    source |= {} if header else {"header": False}
    return _text(file, source, label, weight, ids, features, sentinels, values, jagged)


def write_starter_card(text: str, path: str | Path) -> None:
    """Write a starter card, unless there is a file already.

    Raises:
        DataError: there is one.
    """
    if Path(path).exists():
        raise DataError(f"A starter card needs a new file, however {path} exists. Choose another with -o.")
    write_text(path, text)


def _look(file: EventFile, names: Sequence[str]) -> dict[str, Any]:
    """Return the first events of flat columns."""
    if not names:
        return {}
    return next(read_chunks(file, names, LOOK), {})


def _first(names: Sequence[str], pattern: str) -> str | None:
    """Return the first name that matches."""
    return next((name for name in names if re.fullmatch(pattern, name)), None)


def _guess_label(names: Sequence[str], values: Mapping[str, Any], header: bool) -> list[Any]:
    """Return the column of labels and its values, or nothing; without names it may be the first."""
    for name in names:
        first = not header and name == names[0] and values[name].dtype.kind in "iu"
        if name in values and (first or re.fullmatch(_LABEL, name)):
            unique = np.unique(values[name])
            if 2 <= len(unique) <= 20 and (unique.dtype.kind == "U" or bool((unique % 1 == 0).all())):
                return [name, unique.tolist()]
    return []


def _guess_ids(names: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Return columns that identify an event: one whose values differ, or run, lumi section and event."""
    for name in names:
        column = values.get(name)
        if column is None or not re.fullmatch(_ID, name) or column.dtype.kind not in "iu":
            continue
        if len(np.unique(column)) == len(column):
            return [name]
        runs = [one for one in names if re.fullmatch(_RUN, one)]
        if runs and len(np.unique(np.column_stack([values[one] for one in [*runs, name]]), axis=0)) == len(column):
            return [*runs, name]
    return []


def _varies(column: Any) -> bool:
    """Return whether a column has more than one value."""
    if column is None or not len(column):
        return False
    known = column[np.isfinite(column)] if column.dtype.kind == "f" else column
    return len(known) > 0 and bool((known != known[0]).any())


def _is_kinematic(name: str) -> bool:
    """Return whether a jagged column looks like a momentum, an angle or a mass."""
    return re.search(r"(?i)(_|\.)(pt|eta|phi|mass|px|py|pz|e)$", name) is not None


def _guess_sentinels(names: Sequence[str], values: Mapping[str, Any]) -> list[float]:
    """Return numbers that stand for missing values: known ones that lie apart from all others of their column."""
    found: dict[float, None] = {}
    for name in names:
        column = np.asarray(values[name], dtype=np.float64)
        for sentinel in SENTINELS:
            here = column == sentinel
            rest = column[~here & np.isfinite(column)]
            if here.sum() > 1 and len(rest) and (sentinel < rest.min() - 1 or sentinel > rest.max() + 1):
                found[sentinel] = None
    return list(found)


def _text(
    file: EventFile,
    source: dict[str, Any],
    label: list[Any],
    weight: str | None,
    ids: Sequence[str],
    features: Sequence[str],
    sentinels: Sequence[float],
    values: Mapping[str, Any],
    jagged: Sequence[str],
) -> str:
    """Return the YAML text; the order is that of an analysis."""
    undefined = (column.dtype.kind == "f" and bool(np.isnan(column).any()) for column in values.values())
    missing = bool(sentinels) or any(undefined)
    lines = [f"# yaml-language-server: $schema={_SCHEMA}  (hepkan card --schema > {_SCHEMA})"]
    lines += [f"# A first card for {file.place} ({file.rows} events): guesses, to be checked.", "task: classification"]
    lines += [f"name: {_plain(re.sub(r'[^A-Za-z0-9_]+', '_', source['name']).strip('_') or 'study')}", "data:"]
    if label:
        lines += [f"  - {_plain(source)}", f"target: {_plain(label[0])}  # labels seen: {_plain(label[1][:20])}"]
        if isinstance(label[1][0], str):
            lines.append(f"classes: {_plain(label[1])}  # in the order 0, 1, ...; the last of two is the signal")
        elif label[1] != list(range(len(label[1]))):
            target = {"name": label[0], "expr": f"{_ref(label[0])} > 0"}
            lines[-1] = f"target: [{_plain(target)}]  # labels seen: {_plain(label[1][:20])}"
    else:
        lines += ["  # No column of labels was found: give every kind of events a label, and replace OTHER."]
        lines += [f"  - {_plain({**source, 'label': 1})}"]
        lines += [f"  - {_plain({**source, 'name': 'background', 'files': ['OTHER'], 'label': 0})}"]
    lines += ["# Inputs: columns, or {name: ..., expr: formula, unit: GeV, transform: log}.", "features:"]
    lines += ["  # Left out: weights, triggers, flags, constants, and what looks like truth."]
    lines += [f"  - {_feature(file, one)}{_comment(values.get(one))}" for one in features]
    if jagged:
        lines += ["# Columns with lists of objects, for formulas such as len(x), sum(x), max(x), x[0]:"]
        lines += [f"#   {', '.join(jagged[:40])}{' ...' if len(jagged) > 40 else ''}"]
    lines += ["# selection: ['x > 30']         # conditions that an event must fulfil", f"weight: {_plain(weight)}"]
    if weight is not None and weight in values and bool((values[weight] < 0).any()):
        lines.append("negative_weights: abs           # in training; abs | drop | keep | zero. Tests keep them.")
    if missing:
        rule = {"sentinel": sentinels[0] if len(sentinels) == 1 else list(sentinels)} if sentinels else {}
        lines.append(f"missing: {_plain({**rule, 'policy': 'flag'})}  # error | impute | flag")
    if ids:
        lines.append(f"event_id: {_plain(ids[0] if len(ids) == 1 else list(ids))}")
    else:
        lines.append("event_id: null                  # no column identifies an event: the values of its inputs do")
    lines += ["folds: 5                        # cross-evaluation for `hepkan predict`", "seeds: 5"]
    lines += ["reference: mlp", "models: {kan: {}, mlp: {}, bdt: {}, logistic: {}}", "model: {kind: kan}", ""]
    return "\n".join(lines)


def _feature(file: EventFile, text: str) -> str:
    """Return an input as YAML."""
    if text in file.columns:
        return _plain(text)
    column = text.removesuffix("[0]")
    return _plain({"name": f"{re.sub(r'[^A-Za-z0-9_]', '_', column)}_0", "expr": f"{_ref(column)}[0]"})


def _ref(column: str) -> str:
    """Return a column as formulas name it."""
    plain = all(part.isidentifier() for part in column.split("."))
    return column if plain else f"col({json.dumps(column)})"


def _comment(column: Any) -> str:
    """Return the range of a column as a comment."""
    if column is None:
        return ""
    known = column[np.isfinite(column)]
    return f"  # {known.min():.4g} to {known.max():.4g}" if len(known) else ""


def _plain(value: Any) -> str:
    """Return a value as YAML on one line; JSON is YAML, and quotes only what needs it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_plain(one) for one in value) + "]"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./*-]*", value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


_WORDS = ("y", "n", "yes", "no", "true", "false", "on", "off", "null", "none", "nan", "inf")
