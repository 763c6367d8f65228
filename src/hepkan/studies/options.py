"""From the options of a command to a card: files, overrides such as `model.grid=10`, chosen models, `--quick`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from hepkan.data.files import anchored
from hepkan.errors import UsageError
from hepkan.studies.card import Card, Quick, build_card, validate
from hepkan.tasks import TASKS, get_task


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats: `1e-3` is a number, not a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_card(
    name: str,
    *,
    overrides: Iterable[str] = (),
    models: Sequence[str] = (),
    quick: bool = False,
    seeds: int | None = None,
    data: str | Path | None = None,
    test: str | Path | None = None,
) -> Card:
    """Return the card of a built-in task or of a YAML file, with the options of a command applied.

    Arguments:
        name: A task's name, or a path that ends in .yaml or .yml.
        overrides: Texts such as `model.grid=10`; they go before everything else.
        models: The kinds to run, all of the card's by default. `model.*` means the card's main model if it is
            among them, otherwise the first of them.
        quick: Apply the card's `quick` section.
        seeds: Number of seeds.
        data: A sample file instead of the card's.
        test: A sample file whose events are the test part; the other one then gives training and validation.

    Raises:
        UsageError: unknown task, unreadable YAML, unknown key or wrong value.
    """
    raw = read_raw(name)
    _choose_main(raw, models)
    if quick:
        _apply_quick(raw)
    if data is not None:
        raw["data"] = [{"name": Path(data).stem, "files": [str(data)]}]
    if test is not None:
        raw["test"] = str(test)
    if seeds is not None:
        raw["seeds"] = seeds
    for path, value in map(parse_override, overrides):
        set_value(raw, path, value)
    known = raw.get("models", {})
    if models and isinstance(known, dict):
        raw["models"] = {kind: known.get(kind, {}) for kind in models}
    return build_card(raw)


def read_raw(name: str) -> dict[str, Any]:
    """Return the unvalidated content of a task's card or of a card file."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"There is no card {name!r}. Give a task ({', '.join(TASKS)}) or a YAML file.")
        return anchor(parse_yaml(_text(path), name), path.parent)
    if Path(name).suffix or "/" in name:
        raise UsageError(f"A card ends in .yaml, however: {name!r}. Built-in tasks: {', '.join(TASKS)}.")
    return parse_yaml(get_task(name).card_text(), name)


def _text(path: Path) -> str:
    """Return the text of a card."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"A card must be text in UTF-8, however {path} is not ({error.reason}).") from error


def anchor(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Let relative paths of files that do not exist here be relative to the card's folder."""
    for section in ("data", "test"):
        sources = raw.get(section)
        for source in sources if isinstance(sources, list) else ():
            files = source.get("files") if isinstance(source, dict) else None
            if isinstance(files, list):
                source["files"] = [anchored(one, folder) if isinstance(one, str) else one for one in files]
    if isinstance(raw.get("test"), str):
        raw["test"] = anchored(raw["test"], folder)
    return raw


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """Parse a mapping, or say where the text goes wrong."""
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"The card {name} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"The card {name} must be a mapping of settings, however: {type(content).__name__}.")
    return content


def parse_override(text: str) -> tuple[list[str], Any]:
    """Split `model.grid=10` into its path and its YAML value."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip() or not all(path.strip().split(".")):
        raise UsageError(f"A setting is written key=value, as in model.grid=10, however: {text!r}.")
    try:
        return path.strip().split("."), yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"The value of {path} is not valid YAML, however: {value!r}.") from error


def parse_values(text: str) -> tuple[str, list[Any]]:
    """Split `model.hidden=5,10,[30,30]` into the path and the list of values."""
    path, _, values = text.partition("=")
    parts, parsed = parse_override(f"{path}=[{values}]")
    if not parsed:
        raise UsageError(f"Values to vary are written key=a,b,c, however: {text!r}.")
    return ".".join(parts), list(parsed)


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


def _apply_quick(raw: dict[str, Any]) -> None:
    """Merge the section `quick` into the card, so that the card stays the complete truth about a run."""
    quick = validate(Quick, raw.pop("quick", {}), "quick").model_dump(exclude_none=True)
    for key, value in quick.items():
        if isinstance(value, dict):
            for inner, content in value.items():
                old = raw.setdefault(key, {}).get(inner)
                both = isinstance(old, dict) and isinstance(content, dict)
                raw[key][inner] = {**old, **content} if both else content
        else:
            raw[key] = value


def set_value(raw: dict[str, Any], path: list[str], value: Any) -> None:
    """Set one value in nested mappings."""
    place = raw
    for i, key in enumerate(path[:-1]):
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            parent = ".".join(path[: i + 1])
            raise UsageError(f"{parent} has no settings below it, however: {'.'.join(path)}.")
    place[path[-1]] = value
