"""The card: every setting of a study in one validated YAML document.

A card is plain data. Unknown keys are errors that name their path and suggest the closest known one. A finished
run's `card.yaml` is again a card that can be run.
"""

from __future__ import annotations

import hashlib
import json
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hepkan.errors import UsageError, unknown
from hepkan.tasks import TASKS


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys forbidden."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=Section)


class Reader(Section):
    """What turns the collections of a ROOT file into the 43 observables: its kind, and thresholds of the selection."""

    kind: Literal["cms_tutorial", "nanoaod"] = Field(description="Layout of the file's collections.")
    thresholds: dict[str, float] = Field(default={}, description="Changes of the selection; btag_min is one more.")


class Source(Section):
    """Files of one kind of events. Without `label` the column named by `target` has the label."""

    name: str = Field(min_length=1, description="Name of the process.")
    files: list[str] = Field(min_length=1, description="Paths, wildcards, or file.root:tree.")
    tree: str | None = Field(default=None, description="Tree (ROOT) or group (HDF5) where the files have several.")
    label: int | None = Field(default=None, ge=0, description="Class of these events: 0, 1, ...")
    format: Literal["parquet", "root", "hdf5", "csv"] | None = Field(default=None, description="By the suffix.")
    header: bool = Field(default=True, description="CSV: the first line names the columns; otherwise x0, x1, ...")
    scale: float = Field(default=1.0, allow_inf_nan=False, description="Factor on the weights.")
    selection: list[str] = Field(default=[], description="Conditions on these events, besides those of the card.")
    reader: Reader | None = Field(default=None, description="Makes the 43 observables from collections.")


class Missing(Section):
    """What stands for a missing value, besides NaN and infinity, and what to do about it."""

    sentinel: float | list[float] | None = Field(default=None, description="Numbers that mean: undefined.")
    policy: Literal["error", "impute", "flag"] = Field(
        default="error",
        description="error: refuse; impute: the median of training events; flag: the same, and an input says so.",
    )

    @property
    def sentinels(self) -> tuple[float, ...]:
        """The numbers that mean: undefined."""
        value = self.sentinel
        return () if value is None else tuple(value) if isinstance(value, list) else (value,)


class Feature(Section):
    """One input, or one target of a regression."""

    name: str = Field(min_length=1)
    expr: str | None = Field(default=None, description="Formula of columns; by default the column of that name.")
    unit: str = ""
    label: str = Field(default="", description="How plots write it, in mathtext.")
    transform: Literal["identity", "log"] = "identity"
    missing: Missing | None = Field(default=None, description="Instead of the card's.")

    @property
    def formula(self) -> str:
        """The formula, or the name of the column."""
        return self.expr if self.expr is not None else self.name


class Split(Section):
    """Fractions of the events by hash of their group; the test part is the same for every seed."""

    train: float = Field(default=0.60, gt=0)
    validation: float = Field(default=0.15, gt=0)
    test: float = Field(default=0.25, gt=0)
    seed: int = 0

    @model_validator(mode="after")
    def _sum(self) -> Split:
        total = self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"the fractions must add up to 1, however they add up to {total:g}")
        return self


class ModelSection(Section):
    """The main model: its kind, and settings that go before those of `models`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str = "kan"


class Quick(Section):
    """What `--quick` changes: a look at everything in under two minutes, not a result."""

    seeds: int = Field(default=1, ge=1)
    rows: int | None = Field(default=None, ge=100)
    bootstrap: int = Field(default=100, ge=2)
    train: dict[str, Any] = {}
    models: dict[str, dict[str, Any]] = {}


class Card(Section):
    """One study: data, inputs, target, models and how they are judged."""

    task: Literal["classification", "regression"] = "classification"
    name: str = "study"
    title: str = ""
    question: str = ""
    data: list[Source] = Field(min_length=1)
    test: str | list[Source] | None = Field(default=None, description="Events that are the test part.")
    features: list[Feature] = Field(min_length=1)
    target: list[Feature] = Field(default=[], description="Regression: targets. Classification: a column of labels.")
    classes: list[str] = Field(default=[], description="Names of the classes 0, 1, ..., or the texts that label them.")
    selection: list[str] = Field(default=[], description="Conditions that an event must fulfil.")
    weight: str | None = Field(default="weight", description="Column or formula; null for unit weights.")
    negative_weights: Literal["abs", "drop", "keep", "zero"] = "abs"
    class_balance: bool = Field(
        default=True,
        description="Classification: training weights of every class are scaled to the same sum; tests keep theirs.",
    )
    missing: Missing = Missing()
    event_id: str | list[str] | None = Field(
        default="id", description="Columns that identify an event; null: the values of its inputs do."
    )
    duplicate_ids: Literal["error", "group"] = Field(
        default="error", description="group: events of one id belong together and share a side of every split."
    )
    spectators: list[Feature] = Field(default=[], description="Columns or formulas carried along to the scores.")
    folds: int | None = Field(default=5, ge=2, description="Parts of the cross-evaluation, by id; null for none.")
    mix: dict[str, float] = {}
    rows: int | None = Field(default=None, ge=100)
    split: Split = Split()
    seeds: int = Field(default=5, ge=1)
    model: ModelSection = ModelSection()
    models: dict[str, dict[str, Any]] = {}
    train: dict[str, Any] = {}
    reference: str = "mlp"
    cuts: list[str] = []
    efficiencies: list[float] = [0.5, 0.7, 0.9]
    luminosity_fb: float = Field(default=138.0, gt=0)
    bootstrap: int = Field(default=200, ge=2)
    quick: Quick = Quick()
    versions: dict[str, str] = {}

    @field_validator("features", "target", "spectators", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [{"name": value}]
        if not isinstance(value, list):
            return value
        return [{"name": item} if isinstance(item, str) else item for item in value]

    @field_validator("mix")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        for name, scale in value.items():
            if not (0 <= scale < float("inf")):
                raise ValueError(f"a scale factor must be finite and not negative, however {name} = {scale}")
        return value

    @property
    def own(self) -> bool:
        """Whether the events are the user's own files and not a sample of a built-in task."""
        return self.name not in TASKS and (bool(self.target) or any(one.label is not None for one in self.data))

    @property
    def ids(self) -> list[str]:
        """The columns that identify an event; none when the inputs do."""
        if self.event_id is None:
            return []
        return [self.event_id] if isinstance(self.event_id, str) else list(self.event_id)

    @property
    def tests(self) -> list[Source]:
        """The sources of the test part; a path stands for a file like those of the first source."""
        if isinstance(self.test, str):
            return [self.data[0].model_copy(update={"files": [self.test]})]
        return self.test or []

    @property
    def kinds(self) -> list[str]:
        """Model kinds in the card's order; the main one is always among them."""
        names = list(self.models)
        return names if self.model.kind in names else [self.model.kind, *names]

    @property
    def main(self) -> str:
        """The model that the study is about."""
        return self.model.kind

    @property
    def feature_names(self) -> list[str]:
        """Names of the inputs."""
        return [feature.name for feature in self.features]

    @property
    def target_names(self) -> list[str]:
        """Names of the targets of a regression."""
        return [target.name for target in self.target]

    def settings(self, kind: str, known: Iterable[str]) -> dict[str, Any]:
        """Return the settings of one kind: `train`, then `models`, then `model`.

        `train` is the loop of the networks; trees, which have no optimizer, do not see it.
        """
        names = set(known)
        merged = {key: value for key, value in self.train.items() if key in names and "optimizer" in names}
        merged |= self.models.get(kind, {})
        if kind == self.model.kind:
            merged |= self.model.model_extra or {}
        if isinstance(merged.get("hidden"), int):
            merged["hidden"] = [merged["hidden"]]
        return merged

    def identity(self) -> str:
        """Return a short hash of everything that decides the result."""
        content = self.model_dump(mode="json", exclude={"versions", "title", "question"})
        if self.class_balance:  # as before there was the choice
            del content["class_balance"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def build_card(raw: Mapping[str, Any]) -> Card:
    """Validate; the first problem becomes one sentence that names the setting."""
    return validate(Card, raw)


def validate(section: type[S], raw: Any, place: str = "") -> S:
    """Validate one section, which lies at `place` of the card."""
    try:
        return section.model_validate(raw)
    except ValidationError as error:
        raise _explain(error, section, place) from error


def dump_card(card: Card) -> str:
    """Return the card as YAML in the schema's order."""
    return yaml.safe_dump(card.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def _explain(error: ValidationError, section: type[BaseModel], place: str) -> UsageError:
    """Turn pydantic's first error into ours."""
    first = error.errors()[0]
    path = ([place] if place else []) + [str(part) for part in first["loc"] if not isinstance(part, int)]
    name = ".".join(path) or "card"
    if first["type"] == "extra_forbidden":
        paths = known_paths(section, f"{place}." if place else "")
        siblings = [known for known in paths if known.split(".")[:-1] == path[:-1]]
        return unknown("setting", name, siblings)
    if first["type"] == "missing":
        return UsageError(f"The card needs the setting {name!r}.")
    message = str(first["msg"]).removeprefix("Value error, ")
    return UsageError(f"Setting {name}: {message[:1].lower() + message[1:]} (seen: {first['input']!r}).")


def known_paths(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Return every setting's dotted path."""
    paths: list[str] = []
    for name, field in section.model_fields.items():
        paths.append(prefix + name)
        for inner in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                paths += known_paths(inner, f"{prefix}{name}.")
    return paths


def check_settings(card: Card, known: Mapping[str, Iterable[str]]) -> None:
    """Check every model kind and setting of the card against the settings that the kinds know.

    Raises:
        UsageError: unknown kind or setting.
    """
    places = [("models", kind, settings) for kind, settings in card.models.items()]
    places += [("quick.models", kind, settings) for kind, settings in card.quick.models.items()]
    places += [("model", card.model.kind, card.model.model_extra or {})]
    for section, kind, settings in places:
        if kind not in known:
            raise unknown("model", kind, known)
        prefix = section if section == "model" else f"{section}.{kind}"
        _check_keys(prefix, settings, known[kind])
    everything = {name for names in known.values() for name in names}
    _check_keys("train", card.train, everything)
    _check_keys("quick.train", card.quick.train, everything)


def _check_keys(prefix: str, settings: Iterable[str], known: Iterable[str]) -> None:
    """Raise for the first setting that is not known."""
    names = set(known)
    for key in settings:
        if key not in names:
            raise unknown("setting", f"{prefix}.{key}", [f"{prefix}.{name}" for name in names])


def check_runnable(card: Card) -> None:
    """Refuse, in words, what the schema allows and this version cannot run.

    Raises:
        UsageError: a target where there is none to choose, events without their own labels, or treatment of missing
            values.
    """
    if card.own:
        check_own(card)
        return
    only = card.data[0]
    if len(card.data) > 1 or len(only.files) > 1 or only.label is not None or only.tree is not None:
        raise UsageError(
            f"The task {card.name} runs one sample file made by `hepkan generate`, with its own labels, however the "
            f"card lists: {', '.join(source.name for source in card.data)}. Use --data FILE; your own files need a "
            "card of another name, with a label for every source or a target."
        )
    fresh = Card.model_validate({"data": [only], "features": card.features})
    if card.negative_weights == "keep":
        raise UsageError("Training here needs weights that are not negative: negative_weights abs, drop or zero.")
    names: tuple[str, ...] = ("missing", "weight", "event_id", "folds")
    names += ("classes", "selection", "duplicate_ids", "spectators")
    unsupported = [name for name in names if getattr(card, name) != getattr(fresh, name)]
    unsupported += [f"features.{item.name}.transform" for item in card.features if item.transform != "identity"]
    if unsupported:
        raise UsageError(f"This version cannot change {unsupported[0]} of a sample; leave it out of the card.")


def check_own(card: Card) -> None:
    """Refuse a card of own files whose parts do not fit together.

    Raises:
        UsageError: labels and targets contradict each other, names occur twice, or something is for built-in tasks.
    """
    sources = [*card.data, *card.tests]
    if card.task == "regression":
        if not card.target:
            raise UsageError("A regression needs its targets, however the card has no `target`.")
        if card.classes or not card.class_balance:
            seen = "names some" if card.classes else "has class_balance: false"
            raise UsageError(f"Classes are for classification, however the card of a regression {seen}.")
        labelled = [source.name for source in sources if source.label is not None]
        if labelled:
            raise UsageError(f"A regression has targets and no labels, however {labelled[0]} has a label.")
    else:
        _check_labels(card, sources)
    for section, names in (
        ("features", card.feature_names),
        ("target", card.target_names),
        ("spectators", [one.name for one in card.spectators]),
        ("data", [source.name for source in card.data]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"Names in {section} must differ, however {twice[0]!r} occurs twice.")
    if card.cuts and card.task == "regression":
        raise UsageError(f"Cuts are compared with classifiers only, however the card has cuts: {card.cuts}.")
    if card.negative_weights == "keep" and "bdt" in card.kinds:
        raise UsageError("Trees need weights that are not negative: negative_weights abs, drop or zero, or no bdt.")
    if card.mix:
        raise UsageError("mix is for the samples of built-in tasks; give every source a `scale` instead.")


def _check_labels(card: Card, sources: list[Source]) -> None:
    """Refuse labels that are not 0, 1, ..., or given in two ways."""
    labels = {source.label for source in card.data}
    if card.target:
        if len(card.target) > 1:
            raise UsageError(f"A classification has one column of labels, however: target {card.target_names}.")
        if labels != {None}:
            raise UsageError("Labels come from the sources or from `target`, however the card has both.")
        return
    if isinstance(card.test, str):
        raise UsageError("`test` must list sources with labels, as `data` does, however it is a path.")
    for source in sources:
        if source.label is None:
            raise UsageError(f"Every source needs a label, however {source.name} has none (or name a `target`).")
    numbers = sorted(label for label in labels if label is not None)
    if numbers != list(range(len(numbers))) or len(numbers) < 2:
        raise UsageError(f"Labels of the sources must be 0, 1, ..., at least two of them, however: {numbers}.")
    if card.classes and len(card.classes) != len(numbers):
        raise UsageError(f"classes must name {len(numbers)} classes, however: {card.classes}.")
