"""The card: every setting of a study in one validated YAML document.

A card is plain data. Unknown keys are errors that name their path and suggest the closest known one, overrides
(`model.grid=10`) are parsed as YAML scalars, and a finished run's `card.yaml` is again a card that can be run.
"""

from __future__ import annotations

import hashlib
import json
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hepkan.errors import DataError, UsageError, unknown
from hepkan.tasks import TASKS, get_task


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats: `1e-3` is a number, not a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys forbidden."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Section):
    """Files of one kind of events. Without `label` the file's own label column is used (hepkan samples)."""

    name: str
    files: list[str] = Field(min_length=1)
    tree: str | None = None
    label: int | None = None


class Feature(Section):
    """One input column."""

    name: str
    unit: str = ""
    label: str = ""
    transform: Literal["identity", "log"] = "identity"


class Missing(Section):
    """What stands for a missing value and what to do about it."""

    sentinel: float | None = None
    policy: Literal["error", "impute", "flag"] = "error"


class Split(Section):
    """Fractions of the events by hash of their group; the test part is the same for every seed."""

    train: float = Field(0.60, gt=0)
    validation: float = Field(0.15, gt=0)
    test: float = Field(0.25, gt=0)
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

    seeds: int = Field(1, ge=1)
    rows: int | None = Field(None, ge=100)
    models: dict[str, dict[str, Any]] = {}


class Card(Section):
    """One study: data, inputs, target, models and how they are judged."""

    task: Literal["classification", "regression"] = "classification"
    name: str = "study"
    title: str = ""
    question: str = ""
    data: list[Source] = Field(min_length=1)
    features: list[Feature] = Field(min_length=1)
    target: list[str] = []
    weight: str | None = "weight"
    negative_weights: Literal["abs", "drop", "keep", "zero"] = "abs"
    missing: Missing = Missing()
    event_id: str = "id"
    folds: int = Field(5, ge=2)
    mix: dict[str, float] = {}
    rows: int | None = Field(None, ge=100)
    split: Split = Split()
    seeds: int = Field(5, ge=1)
    model: ModelSection = ModelSection()
    models: dict[str, dict[str, Any]] = {}
    train: dict[str, Any] = {}
    reference: str = "mlp"
    cuts: list[str] = []
    efficiencies: list[float] = [0.5, 0.7, 0.9]
    luminosity_fb: float = Field(138.0, gt=0)
    bootstrap: int = Field(200, ge=2)
    quick: Quick = Quick()
    versions: dict[str, str] = {}

    @field_validator("features", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
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
    def kinds(self) -> list[str]:
        """Model kinds in the card's order; the main one is always among them."""
        names = list(self.models)
        return names if self.model.kind in names else [self.model.kind, *names]

    @property
    def feature_names(self) -> list[str]:
        """Names of the inputs."""
        return [feature.name for feature in self.features]

    def settings(self, kind: str, quick: bool = False) -> dict[str, Any]:
        """Return the complete settings of one kind: `train`, then `models`, then `quick`, then `model`."""
        merged = {**self.train, **self.models.get(kind, {})}
        if quick:
            merged |= self.quick.models.get(kind, {})
        if kind == self.model.kind:
            merged |= self.model.model_extra or {}
        return merged

    def identity(self) -> str:
        """Return a short hash of everything that decides the result."""
        content = self.model_dump(mode="json", exclude={"versions", "title", "question"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def load_card(name: str, overrides: Iterable[str] = (), models: Sequence[str] = ()) -> Card:
    """Return the card of a built-in task or of a YAML file, with `--set`-like overrides applied.

    Arguments:
        name: A task's name, or a path that ends in .yaml or .yml.
        overrides: Texts such as `model.grid=10`.
        models: The kinds that will run; `model.*` then means the card's main model if it is among them,
            otherwise the first of them.

    Raises:
        UsageError: unknown task, unreadable YAML, unknown key or wrong value.
    """
    raw = read_raw(name)
    _choose_main(raw, models)
    for path, value in map(parse_override, overrides):
        _set(raw, path, value)
    return build_card(raw)


def read_raw(name: str) -> dict[str, Any]:
    """Return the unvalidated content of a task's card or of a card file."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"There is no card {name!r}. Give a task ({', '.join(TASKS)}) or a YAML file.")
        return parse_yaml(path.read_text(encoding="utf-8"), name)
    if Path(name).suffix or "/" in name:
        raise UsageError(f"A card ends in .yaml, however: {name!r}. Built-in tasks: {', '.join(TASKS)}.")
    return parse_yaml(get_task(name).card_text(), name)


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """Parse a mapping, or say where the text goes wrong."""
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 -- a SafeLoader
    except yaml.YAMLError as error:
        raise UsageError(f"The card {name} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"The card {name} must be a mapping of settings, however it is: {type(content).__name__}.")
    return content


def parse_override(text: str) -> tuple[list[str], Any]:
    """Split `model.grid=10` into its path and its YAML value."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip() or not all(path.strip().split(".")):
        raise UsageError(f"A setting is written key=value, as in model.grid=10, however: {text!r}.")
    try:
        return path.strip().split("."), yaml.load(value, Loader=_Loader)  # noqa: S506 -- a SafeLoader
    except yaml.YAMLError as error:
        raise UsageError(f"The value of {path} is not valid YAML, however: {value!r}.") from error


def parse_values(text: str) -> tuple[str, list[Any]]:
    """Split `model.hidden=5,10,[30,30]` into the path and the list of values."""
    path, _, values = text.partition("=")
    parts, parsed = parse_override(f"{path}=[{values}]")
    if not parsed:
        raise UsageError(f"Values to vary are written key=a,b,c, however: {text!r}.")
    return ".".join(parts), list(parsed)


def build_card(raw: Mapping[str, Any]) -> Card:
    """Validate; the first problem becomes one sentence that names the setting."""
    try:
        return Card.model_validate(raw)
    except ValidationError as error:
        raise _explain(error) from error


def dump_card(card: Card) -> str:
    """Return the card as YAML in the schema's order."""
    return yaml.safe_dump(card.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def _choose_main(raw: dict[str, Any], models: Sequence[str]) -> None:
    """Let `model.*` speak of a model that will run; the former main model keeps its settings in `models`."""
    main = raw.get("model", {})
    if not models or not isinstance(main, dict) or main.get("kind", "kan") in models:
        return
    kind = main.get("kind", "kan")
    rest = {key: value for key, value in main.items() if key != "kind"}
    if rest:
        known = raw.setdefault("models", {})
        known[kind] = {**known.get(kind, {}), **rest}
    raw["model"] = {"kind": models[0]}


def _set(raw: dict[str, Any], path: list[str], value: Any) -> None:
    """Set one value in nested mappings."""
    place = raw
    for i, key in enumerate(path[:-1]):
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise UsageError(f"{'.'.join(path[: i + 1])} has no settings below it, however: {'.'.join(path)}.")
    place[path[-1]] = value


def _explain(error: ValidationError) -> UsageError:
    """Turn pydantic's first error into ours."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if not isinstance(part, int)]
    name = ".".join(path) or "card"
    if first["type"] == "extra_forbidden":
        parent = path[:-1]
        siblings = [known for known in known_paths() if known.split(".")[:-1] == parent]
        return unknown("setting", name, siblings)
    if first["type"] == "missing":
        return UsageError(f"The card needs the setting {name!r}.")
    message = str(first["msg"]).removeprefix("Value error, ")
    return UsageError(f"Setting {name}: {message[:1].lower() + message[1:]} (seen: {first['input']!r}).")


def known_paths(section: type[BaseModel] = Card, prefix: str = "") -> list[str]:
    """Return every setting's dotted path."""
    paths: list[str] = []
    for name, field in section.model_fields.items():
        paths.append(prefix + name)
        for inner in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                paths += known_paths(inner, f"{prefix}{name}.")
    return paths


def check_settings(card: Card, kinds: Sequence[str], known: Mapping[str, Iterable[str]]) -> None:
    """Check the chosen kinds and every setting of a model against the settings that the kinds know.

    Raises:
        UsageError: unknown kind or setting.
    """
    for kind in [*kinds, *card.models, *card.quick.models, card.model.kind]:
        if kind not in known:
            raise unknown("model", kind, known)
    places = [(f"models.{kind}", kind, card.models.get(kind, {})) for kind in card.models]
    places += [(f"quick.models.{kind}", kind, settings) for kind, settings in card.quick.models.items()]
    places += [("model", card.model.kind, card.model.model_extra or {})]
    for prefix, kind, settings in places:
        for key in settings:
            if key not in set(known[kind]):
                raise unknown("setting", f"{prefix}.{key}", [f"{prefix}.{name}" for name in known[kind]])


def check_readable(card: Card) -> None:
    """Refuse, in words, the cards that this version cannot run."""
    if card.task != "classification":
        raise UsageError(f"Only classification can be run by this version, however: task: {card.task}.")
    for source in card.data:
        if source.label is not None or source.tree is not None or len(card.data) != 1 or len(source.files) != 1:
            raise UsageError(
                "This version runs samples made by `hepkan generate` (one file with its own labels), "
                f"however the card lists: {source.name}."
            )
    if not card.feature_names:
        raise DataError("The card has no features.")
