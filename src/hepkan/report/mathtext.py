"""Labels of inputs and targets in the text of a page: the little mathtext they use, as HTML."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_LETTERS = (
    "alpha α, beta β, gamma γ, delta δ, eta η, theta θ, lambda λ, mu μ, nu ν, pi π, rho ρ, sigma σ, tau τ, phi φ, "
    "chi χ, psi ψ, omega ω, Delta Δ, Sigma Σ, Phi Φ, Omega Ω, ell ℓ, cos cos, sin sin, sqrt √, ast ∗, times ×"
)
SYMBOLS = {
    **dict(pair.split() for pair in _LETTERS.split(", ")),
    **dict.fromkeys(("bar", "mathrm", "text"), ""),
    ",": "\u202f", " ": " ", ";": " ",
}
TOKEN = re.compile(r"\\([a-zA-Z]+|[,; ])\s*|([_^{}])|([^\\_^{}])")
UNITS = {"GeV^0.5": "√GeV"}


def html_label(label: str, name: str, unit: str = "") -> Markup:
    """Return a label as HTML with its unit in brackets; the plain name where the label is beyond these rules."""
    parts = label.split("$")
    try:
        if len(parts) % 2 == 0:
            raise ValueError("an odd number of dollar signs")
        text = Markup().join(_formula(part) if place % 2 else escape(part) for place, part in enumerate(parts))
    except ValueError:
        text = escape(name)
    return text + Markup(" <span>[{}]</span>").format(UNITS.get(unit, unit)) if unit else text


def _formula(source: str) -> Markup:
    """Return a formula as HTML.

    Raises:
        ValueError: something in it is unknown or unbalanced.
    """
    tokens = TOKEN.findall(source)
    if "".join(match[0] for match in TOKEN.finditer(source)) != source:
        raise ValueError(source)
    text, rest = _group(tokens)
    if rest:
        raise ValueError(source)
    return text


def _group(tokens: list[tuple[str, str, str]]) -> tuple[Markup, list[tuple[str, str, str]]]:
    """Return the HTML of tokens up to a closing brace, and what follows."""
    text = Markup()
    while tokens and tokens[0][1] != "}":
        part, tokens = _item(tokens)
        text += part
    return text, tokens


def _item(tokens: list[tuple[str, str, str]]) -> tuple[Markup, list[tuple[str, str, str]]]:
    """Return the HTML of one symbol, script or group, and what follows."""
    if not tokens:
        raise ValueError("a script of nothing")
    (command, mark, letter), rest = tokens[0], tokens[1:]
    if command:
        if command not in SYMBOLS:
            raise ValueError(command)
        return Markup(SYMBOLS[command]), rest
    if mark == "{":
        text, rest = _group(rest)
        if not rest:
            raise ValueError("a brace that is not closed")
        return text, rest[1:]
    if mark in ("_", "^"):
        text, rest = _item(rest)
        tag = "sub" if mark == "_" else "sup"
        return Markup("<{0}>{1}</{0}>").format(Markup(tag), text), rest
    if mark:
        raise ValueError(mark)
    return escape("∗" if letter == "*" else letter), rest
