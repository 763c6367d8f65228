"""What formulas are made of: the kinds of values, objects of jagged columns, and the functions by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hepkan.errors import UsageError

MOST_OBJECTS = 1_000_000
"""Objects of one event that brackets can count."""


def is_jagged(value: Any) -> bool:
    """Return whether a value is a jagged array, one list of objects per event."""
    return hasattr(value, "layout") and value.ndim > 1


def is_text(value: Any) -> bool:
    """Return whether a value is text."""
    return isinstance(value, str) or getattr(getattr(value, "dtype", None), "kind", "") in ("U", "O")


def is_bool(value: Any) -> bool:
    """Return whether a value holds conditions."""
    if is_jagged(value):
        return getattr(value.type.content.content, "primitive", "") == "bool"
    return isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b"


def as_operand(column: Any, name: str) -> Any:
    """Return a column for arithmetic: numbers as float64, conditions and text as they are.

    Raises:
        UsageError: lists of lists, or records.
    """
    if is_jagged(column):
        if column.ndim > 2 or not hasattr(column.type.content.content, "primitive"):
            raise UsageError(f"A column must hold numbers or lists of numbers, however {name!r} is {column.type}.")
        return column if is_bool(column) else as_number(column)
    return column if is_text(column) or is_bool(column) else np.asarray(column, dtype=np.float64)


def as_number(value: Any) -> Any:
    """Return numbers as float64; conditions count as 0 and 1."""
    if is_text(value) or isinstance(value, tuple):
        raise UsageError("Arithmetic needs numbers, however it meets text.")
    if is_jagged(value):
        import awkward as ak

        return ak.values_astype(value, np.float64)
    return np.asarray(value, dtype=np.float64)[()]


def as_condition(value: Any) -> Any:
    """Return conditions; numbers count as true unless they are 0 or undefined."""
    if is_bool(value):
        return value
    number = as_number(value)
    return np.logical_and(number != 0, number == number)


def as_whole(value: Any) -> Any:
    """Return whole numbers as int64, for tests of bits; undefined is 0.

    Raises:
        UsageError: a number is not whole.
    """
    number = as_number(value)
    number = where(number == number, number, np.float64(0.0))
    if bool(np.any(flat(number) % 1 != 0)):
        raise UsageError(
            "& and | need two conditions or two whole numbers, however a number is not whole: put parentheses around "
            "every comparison, as in (a > 1) & (b < 2)."
        )
    if is_jagged(number):
        import awkward as ak

        return ak.values_astype(number, np.int64)
    return np.asarray(number).astype(np.int64)


def flat(value: Any) -> Any:
    """Return all numbers of a value in one array."""
    if is_jagged(value):
        import awkward as ak

        return ak.to_numpy(ak.flatten(value, axis=None))
    return np.asarray(value)


def where(condition: Any, yes: Any, no: Any) -> Any:
    """Return `yes` where the condition holds, `no` elsewhere."""
    chosen = as_condition(condition)
    if is_text(yes) != is_text(no):
        raise UsageError("where needs two numbers or two texts.")
    if any(is_jagged(one) for one in (chosen, yes, no)):
        import awkward as ak

        return ak.where(*ak.broadcast_arrays(chosen, yes, no))
    return np.where(chosen, yes, no)[()]


def defined(values: Any) -> Any:
    """Return a flat array `(n,)` of float64 or bool in which missing became NaN."""
    import awkward as ak

    return ak.to_numpy(ak.fill_none(ak.values_astype(values, np.float64), np.nan), allow_missing=False)


def part(objects: Any, start: int | None, stop: int | None) -> Any:
    """Return some of the objects of each event, by their order."""
    _small(start or 0, stop or 0)
    return _jagged(objects, "[...]")[:, start:stop]


def pick(objects: Any, index: Any) -> Any:
    """Return the object of each event with a number `(n,)`, NaN where it does not exist; or those of a condition."""
    import awkward as ak

    events = _jagged(objects, "[...]")
    if isinstance(index, int):
        _small(index)
        ordered = events if index >= 0 else events[:, ::-1]
        return defined(ak.firsts(ordered[:, index if index >= 0 else -1 - index :]))
    if is_jagged(index):
        if not is_bool(index):
            raise UsageError("Brackets with a list need conditions, as in Jet_pt[Jet_eta < 2], however: numbers.")
        return events[index]
    number = np.broadcast_to(np.asarray(index, dtype=np.float64), (len(events),))
    count = ak.to_numpy(ak.num(events, axis=1))
    exists = (number >= -count) & (number < count)
    row = np.where(exists, number, 0.0).astype(np.int64)
    row = np.where(row < 0, row + count, row)
    padded = ak.pad_none(events, 1, axis=1)
    return np.where(exists, defined(ak.firsts(padded[ak.from_regular(ak.unflatten(row, 1))])), np.nan)


def _small(*numbers: int) -> None:
    """Refuse numbers of objects that no event has."""
    for number in numbers:
        if abs(number) > MOST_OBJECTS:
            raise UsageError(f"The number of an object must be below {MOST_OBJECTS}, however: {number}.")


def _jagged(value: Any, place: str) -> Any:
    """Return a jagged array, or say that it is none."""
    if not is_jagged(value):
        raise UsageError(f"{place} needs a list of objects for every event, however it has one value for every event.")
    return value


def _reduce(name: str) -> Callable[[Any], Any]:
    """Return a function from the objects of an event to a number; of no objects `sum` is 0, `max` is undefined."""

    def function(objects: Any) -> Any:
        import awkward as ak

        events = _jagged(objects, name)
        if name in ("any", "all"):
            return ak.to_numpy(getattr(ak, name)(as_condition(events), axis=1))
        if name == "len":
            return ak.to_numpy(ak.num(events, axis=1)).astype(np.float64)
        return defined(getattr(ak, name)(as_number(events), axis=1))

    return function


def _extreme(name: str) -> Callable[..., Any]:
    """Return `max` or `min`: of the objects of an event, or of two values."""
    of_objects = _reduce(name)
    of_two = {"max": np.maximum, "min": np.minimum}[name]

    def function(*values: Any) -> Any:
        return of_objects(*values) if len(values) == 1 else of_two(*map(as_number, values))

    return function


def delta_phi(one: Any, two: Any) -> Any:
    """Return the angle between two azimuths, folded to [0, pi]."""
    return abs(np.mod(as_number(one) - as_number(two) + np.pi, 2 * np.pi) - np.pi)


def delta_r(eta1: Any, phi1: Any, eta2: Any, phi2: Any) -> Any:
    """Return the distance in pseudorapidity and azimuth."""
    return np.hypot(as_number(eta1) - as_number(eta2), delta_phi(phi1, phi2))


@dataclass(frozen=True)
class Function:
    """A function of formulas: what it does and how many arguments it takes."""

    function: Callable[..., Any]
    arguments: tuple[int, ...] = (1,)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of numbers."""
    return lambda *values: function(*map(as_number, values))


_OF_ONE = "sqrt cbrt exp log log10 log2 log1p expm1 sin cos tan sinh cosh tanh arcsin arccos arctan arcsinh arccosh"
_OF_ONE += " arctanh floor ceil rint sign deg2rad rad2deg square"
_OF_TWO = "arctan2 hypot minimum maximum fmin fmax power"

FUNCTIONS: dict[str, Function] = {
    **{name: Function(_plain(getattr(np, name))) for name in _OF_ONE.split()},
    **{name: Function(_plain(getattr(np, name)), (2,)) for name in _OF_TWO.split()},
    **{name: Function(_reduce(name)) for name in ("len", "sum", "mean", "any", "all", "argmax", "argmin")},
    "num": Function(_reduce("len")),
    "max": Function(_extreme("max"), (1, 2)),
    "min": Function(_extreme("min"), (1, 2)),
    "abs": Function(_plain(np.abs)),
    "isfinite": Function(_plain(np.isfinite)),
    "isnan": Function(_plain(np.isnan)),
    "clip": Function(_plain(lambda x, low, high: np.minimum(np.maximum(x, low), high)), (3,)),
    "where": Function(where, (3,)),
    "delta_phi": Function(delta_phi, (2,)),
    "delta_r": Function(delta_r, (4,)),
}
"""The functions of formulas by name; NumPy's unless they are about objects of an event."""
