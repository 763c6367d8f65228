"""Formulae of docstrings, written as for Sphinx, in the form of the pages."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_BLOCK = re.compile(r"^([ ]*)\.\. math::(.*\n(?:\1[ ]+.*\n|[ ]*\n(?=\1[ ]+))*)", re.MULTILINE)


def with_dollars(text: str) -> str:
    """Return `.. math::` blocks and `:math:` roles between dollar signs."""

    def block(found: re.Match[str]) -> str:
        body = textwrap.dedent(found[2]).strip()
        return textwrap.indent(f"\n$$\n{' '.join(body.split())}\n$$\n", found[1])

    return re.sub(r":math:`([^`]+)`", r"$\1$", _BLOCK.sub(block, text + "\n"))


class Formulae(griffe.Extension):
    """Rewrites the docstring of every object."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Called for every object once it is complete."""
        if obj.docstring is not None:
            obj.docstring.value = with_dollars(obj.docstring.value)
