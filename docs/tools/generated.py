"""Parts of pages that are made from the code or from results while the site is built.

A page asks for one by `<!-- generate NAME ARGUMENTS -->`; see `hooks.py`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
OURS = "hepkan"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; bars in cells would end them."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def observables(which: str) -> str:
    """The 43 observables of `multijet`, or the 32 inputs of `top_dm`."""
    from hepkan.physics.observables import OBSERVABLES
    from hepkan.physics.top_dm import INPUTS

    records = {"multijet": OBSERVABLES, "top_dm": INPUTS}[which].values()
    rows = [(f"`{one.name}`", one.label, _unit(one.unit), one.definition) for one in records]
    return table(["", "name", "symbol", "unit", "definition"], [(n, *row) for n, row in enumerate(rows, 1)])


def _unit(unit: str) -> str:
    return "√GeV" if unit == "GeV^0.5" else unit


def thresholds(which: str) -> str:
    """The selection of a task."""
    import dataclasses

    from hepkan.physics.recipes import RECIPES

    rows = ((f"`{name}`", value) for name, value in dataclasses.asdict(RECIPES[which].selection).items())
    return table(["threshold", "value"], rows)


def processes() -> str:
    """The simulated processes with their cross-sections and references."""
    from hepkan.physics.processes import process_cards

    rows = []
    for one in process_cards().values():
        section = one.cross_section
        value = f"{section.value_pb:g}" if section.value_pb is not None else "the generator's"
        factor = f", times {section.k_factor:g}" if section.k_factor != 1 else ""
        rows.append([f"`{one.name}`", one.title, one.region, value + factor, section.order, section.reference])
    return table(["name", "process", "lepton", "pb", "order", "reference"], rows)


def models() -> str:
    """Every kind of model."""
    from hepkan.baselines import MODELS

    rows = ((f"`{name}`", kind.title, ", ".join(kind.tasks)) for name, kind in MODELS.items())
    return table(["`--model`", "what it is", "tasks"], rows)


def backends() -> str:
    """Every kernel of the spline layer, in the order of preference."""
    from hepkan.splines.ops import KERNELS

    rows = [[f"`{name}`", inspect.getdoc(module).splitlines()[0]] for name, module in KERNELS.items()]  # type: ignore[union-attr]
    rows.append(["`torch`", "plain PyTorch: the reference; every degree and type, twice differentiable"])
    return table(["backend", "what it is"], rows)


def primitives() -> str:
    """The functions that formulae are made of."""
    from hepkan.interpret import PRIMITIVES

    rows = []
    for one in PRIMITIVES.values():
        low, high = one.domain
        rows.append([f"`{one.name}`", f"${one.latex.format('u')}$", f"({low:g}, {high:g})", one.complexity])
    return table(["name", "function", "domain", "complexity"], rows).replace("inf", "∞")


def cli() -> str:
    """Every command with its arguments and options, from the command line's own description."""
    import typer

    from hepkan.cli import app

    parts = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        parameters = [one for one in command.params if one.name not in ("help", "debug")]
        words = [_shown(one) for one in parameters if one.param_type_name == "argument"]
        usage = " ".join(["hepkan", name, *words, "[OPTIONS]"])
        parts.append(f"## hepkan {name}\n\n{inspect.cleandoc(command.help or '')}\n\nUsage: `{usage}`\n")
        parts.append(table(["argument or option", "meaning", "default"], map(_parameter, parameters)) + "\n")
    return "\n".join(parts)


def _shown(argument: Any) -> str:
    """Return how an argument is written; a bar would end the cell of a table."""
    return str(argument.metavar or argument.name.upper()).replace("|", " or ")


def _parameter(one: Any) -> list[str]:
    """Return a line about an argument or option of the command line."""
    option = one.param_type_name == "option"
    names = ", ".join(f"`{name}`" for name in ([*one.opts, *one.secondary_opts] if option else [_shown(one)]))
    default = "required" if one.required else "" if one.default in (None, False, (), "") else f"`{one.default}`"
    return [names + (" (may be repeated)" if option and one.multiple else ""), one.help or "", default]


def api(module: str, *chosen: str) -> str:
    """References to all public names of a module, or to those chosen."""
    found = importlib.import_module(module)
    names = chosen or getattr(found, "__all__", None) or _own(found)
    return "\n\n".join(f"::: {_home(module, name)}" for name in names if not name.startswith("__"))


def _own(module: Any) -> list[str]:
    """Return the public functions and classes that a module defines itself."""
    kinds = (inspect.isfunction, inspect.isclass)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and any(kind(value) for kind in kinds) and value.__module__ == module.__name__
    ]


def _home(module: str, name: str) -> str:
    """Return where an object is defined, for which `mkdocstrings` looks."""
    value = getattr(importlib.import_module(module), name)
    home = getattr(value, "__module__", None)
    if isinstance(home, str) and home.startswith(OURS) and hasattr(value, "__qualname__"):
        return f"{home}.{value.__qualname__}"
    return _constant(module, name)


def _constant(module: str, name: str) -> str:
    """Return the module that assigns a constant which another one passes on."""
    source = Path(inspect.getfile(importlib.import_module(module)))
    for path in sorted(source.parent.rglob("*.py")) if source.name == "__init__.py" else [source]:
        text = path.read_text(encoding="utf-8")
        if f"\n{name} = " in text or f"\n{name}: " in text:
            parts = path.relative_to(source.parent).with_suffix("").parts
            inside = [part for part in parts if part != "__init__"] if source.name == "__init__.py" else []
            return ".".join([module, *inside, name])
    raise ValueError(f"{module}.{name} is not found.")


def index() -> str:
    """Every public name of the package with its first line, and where its reference is."""
    import hepkan

    rows = []
    for name in sorted(hepkan.__all__, key=str.lower):
        if name.startswith("__"):
            continue
        home = _home("hepkan", name) if name not in ("MODELS", "TASKS") else {
            "MODELS": "hepkan.baselines.MODELS", "TASKS": "hepkan.tasks.TASKS"}[name]
        value = getattr(hepkan, name)
        first = (inspect.getdoc(value) or "").splitlines()[0] if hasattr(value, "__qualname__") else _SAID[name]
        rows.append([f"[`hepkan.{name}`][{home}]", first])
    return table(["name", "what it is"], rows)


_SAID = {"MODELS": "Every kind of model by name.", "TASKS": "The built-in tasks by name."}


def targets() -> str:
    """Which goals for speed were reached, from the last run of `benchmarks/peers.py`."""
    text = (RESULTS / "peers.md").read_text(encoding="utf-8")
    return text.partition("## Targets\n\n")[2].partition("\n\n## ")[0]


def interpretation() -> str:
    """Results about formulae and pruned networks: every page of results that has no section of its own."""
    parts = []
    for path in sorted(RESULTS.glob("*.md")):
        if path.name.removesuffix(".md") not in OWN_SECTION:
            text = path.read_text(encoding="utf-8").strip()
            parts.append("\n".join(f"##{line}" if line.startswith("#") else line for line in text.splitlines()))
    return "\n\n".join(parts)


OWN_SECTION = ("peers", "peers_2_threads", "exports", "own_data")
"""Pages of results that benchmarks.md includes by name, or leaves out."""


_ALL: tuple[Callable[..., str], ...] = (observables, thresholds, processes, models, backends, primitives, cli, api)
PARTS = {one.__name__: one for one in (*_ALL, index, targets, interpretation)}
