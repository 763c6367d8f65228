"""A search in place of a grid: Optuna's tree-structured Parzen estimator (TPE), resumable at any point.

Trials are decided in batches of fixed size. The values of a trial follow from its number, the finished trials of
earlier batches and the decided ones of its own, never from the number of workers, from time or from interruptions. All
that is decided or finished is a line of a journal (Optuna's JournalFile, so its other tools read it too).

References:
    Algorithms for Hyper-Parameter Optimization (Bergstra et al., 2011), NeurIPS 24
    Tree-Structured Parzen Estimator (Watanabe, 2023), arXiv:2304.11127
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hepkan.errors import DataError, UsageError, require
from hepkan.studies.options import parse_values

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*(?::\s*(\w+)\s*)?")
DECADE = 10.0
"""Ratio of the ends from which a range is searched in the logarithm."""
DIGITS = 4
"""Significant digits of searched numbers: more decide nothing and are tedious to type again."""


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, both included; whole ones when both are whole; uniform, or in the logarithm."""

    low: float
    high: float
    whole: bool
    log: bool

    @property
    def distribution(self) -> Any:
        """Return the same as Optuna's."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def encode(self, value: Any) -> Any:
        """Return the value as the journal holds it; None when it is not in the range."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not self.low <= value <= self.high or (self.whole and value != int(value)):
            return None
        return int(value) if self.whole else float(value)

    def decode(self, value: Any) -> Any:
        """Return a value of the journal as the card takes it, with few digits."""
        if self.whole:
            return int(value)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    @property
    def example(self) -> Any:
        """Return one of the values."""
        return self.decode(self.low)

    def __str__(self) -> str:
        """Return the text from which the range was read."""
        return f"{self.low:g}..{self.high:g}:{'log' if self.log else 'linear'}"


@dataclass(frozen=True)
class Choice:
    """Some values without an order."""

    values: tuple[Any, ...]

    @property
    def distribution(self) -> Any:
        """Return the same as Optuna's, of JSON texts."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution([json.dumps(value) for value in self.values])

    def encode(self, value: Any) -> Any:
        """Return the value as the journal holds it; None when it is not among the choices."""
        return json.dumps(value) if value in self.values else None

    def decode(self, value: Any) -> Any:
        """Return a value of the journal as the card takes it."""
        return json.loads(value)

    @property
    def example(self) -> Any:
        """Return one of the values."""
        return self.values[0]

    def __str__(self) -> str:
        """Return the text from which the choices were read."""
        return ",".join(map(json.dumps, self.values))


Space = Mapping[str, Range | Choice]


def parse_space(vary: Sequence[str]) -> dict[str, Range | Choice]:
    """Return what is searched, from texts such as `model.grid=3..50`, `x=1e-4..1e-2:linear` or `y=a,b`.

    A range of two whole numbers gives whole numbers. It is searched in the logarithm when its ends are positive and
    differ by a factor of ten or more; `:linear` and `:log` overrule that.

    Raises:
        UsageError: not of this form, or an empty range.
    """
    space: dict[str, Range | Choice] = {}
    for text in vary:
        path, _, values = text.partition("=")
        match = _RANGE.fullmatch(values)
        if match:
            space[path.strip()] = _range(text, *match.groups())
        else:
            path, choices = parse_values(text)
            space[path] = Choice(tuple(choices))
    return space


def is_range(text: str) -> bool:
    """Return whether a text to vary is a range."""
    return _RANGE.fullmatch(text.partition("=")[2]) is not None


def _range(text: str, first: str, last: str, scale: str | None) -> Range:
    """Return a checked range."""
    low, high = float(first), float(last)
    if scale not in (None, "log", "linear"):
        raise UsageError(f"A range ends in :log, :linear or nothing, however: {text!r}.")
    if not low < high or not math.isfinite(high - low):
        raise UsageError(f"A range goes from a smaller to a larger finite number, however: {text!r}.")
    if scale == "log" and low <= 0:
        raise UsageError(f"A range in the logarithm begins above zero, however: {text!r}.")
    whole = not set(first + last) & set(".eE")
    log = scale == "log" or (scale is None and low > 0 and high >= DECADE * low)
    return Range(low, high, whole, log)


class Search:
    """The trials of one search, decided and finished, in the order of their numbers from 0."""

    def __init__(self, study: Any, space: Space, seed: int, batch: int, first: Mapping[str, Any]) -> None:
        self._study, self._space, self._seed, self._batch = study, space, seed, batch
        self._first = {path: kind.encode(first.get(path)) for path, kind in space.items()}

    def batches(self, trials: int) -> Iterator[range]:
        """Give the numbers of the trials, one batch after the other."""
        for begin in range(0, trials, self._batch):
            yield range(begin, min(begin + self._batch, trials))

    def values(self, number: int) -> dict[str, Any]:
        """Return the values of a trial, by setting; those before it must have been asked for, earlier batches told."""
        trials = self._trials()
        if number == len(trials):
            from optuna.trial import TrialState, create_trial

            found = self._decide(number, trials)
            distributions = {path: kind.distribution for path, kind in self._space.items()}
            self._study.add_trial(create_trial(state=TrialState.RUNNING, params=found, distributions=distributions))
            trials = self._trials()
        return {path: kind.decode(trials[number].params[path]) for path, kind in self._space.items()}

    def tell(self, number: int, value: float | None) -> None:
        """Record the value of a trial, or its failure; a trial that is finished stays as it is."""
        from optuna.trial import TrialState

        if not self._trials()[number].state.is_finished():
            failed = value is None or not math.isfinite(value)
            self._study.tell(number, None if failed else value, TrialState.FAIL if failed else None)

    def _trials(self) -> list[Any]:
        """Return all trials of the journal."""
        trials: list[Any] = self._study.get_trials(deepcopy=False)
        return trials

    def _decide(self, number: int, trials: Sequence[Any]) -> dict[str, Any]:
        """Return the values of a new trial as the journal holds them.

        The first is the card itself where it lies in the space, so that a search shows what it gained.
        """
        import optuna

        if number == 0 and None not in self._first.values():
            return dict(self._first)
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        begin = number - number % self._batch
        for trial in trials[:number]:
            study.add_trial(self._seen(trial, finished=trial.number < begin))
        asked = study.ask({path: kind.distribution for path, kind in self._space.items()})
        return {path: kind.encode(kind.decode(asked.params[path])) for path, kind in self._space.items()}

    def _seen(self, trial: Any, finished: bool) -> Any:
        """Return a trial as the sampler may see it: those of the same batch without their results."""
        from optuna.trial import TrialState, create_trial

        known = {"params": trial.params, "distributions": trial.distributions}
        if not finished:
            return create_trial(state=TrialState.RUNNING, **known)
        value = trial.value if trial.state == TrialState.COMPLETE else math.inf  # what fails is to be avoided
        return create_trial(state=TrialState.COMPLETE, value=value, **known)


@contextmanager
def open_search(
    path: Path, name: str, space: Space, *, seed: int, batch: int, first: Mapping[str, Any]
) -> Iterator[Search]:
    """Give the search of this name in the journal at `path`, begun or new; nobody else can write meanwhile.

    Arguments:
        path: The journal; it can hold other searches too.
        name: Stands for everything that decides the results.
        space: What is searched.
        seed: Of the sampler.
        batch: Trials that are decided together.
        first: Values of the first trial, by setting.

    Raises:
        MissingExtra: Optuna is not installed.
        UsageError: another process searches in the same folder.
        DataError: the journal is damaged.
        OSError: it cannot be written.
    """
    optuna = require("optuna", "scan", "--method tpe")
    from optuna.storages.journal import JournalFileBackend

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with _alone(path.with_suffix(".lock")) as lock:
            _drop_torn_line(path)
            try:
                storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
                study = optuna.create_study(
                    storage=storage, study_name=name, sampler=optuna.samplers.RandomSampler(0), load_if_exists=True
                )
            except (ValueError, KeyError) as error:
                raise DataError(
                    f"{path} must be a journal of Optuna, however it is damaged ({error}). Delete it and give the "
                    "command again with --resume: trained members are reused."
                ) from error
            yield Search(study, space, seed, batch, first)
    finally:
        optuna.logging.set_verbosity(level)


class _Held:
    """The lock that the journal asks for at each line; it is held all along."""

    def acquire(self) -> bool:
        """Say yes."""
        return True

    def release(self) -> None:
        """Keep it."""


@contextmanager
def _alone(path: Path) -> Iterator[_Held]:
    """Hold a lock that the system releases when this process ends, killed or not."""
    import fcntl

    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"Another process searches in {path.parent}. Wait for it, or choose another folder with -o."
            ) from error
        yield _Held()


def _drop_torn_line(path: Path) -> None:
    """Cut off the end of a journal that was killed in the middle of a line."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
