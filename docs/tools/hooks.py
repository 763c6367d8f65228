"""What MkDocs does to the pages of docs/ on their way to the site.

- `<!-- include FILE -->` becomes a file of the repository without its title, `<!-- include FILE#NAME -->` the part
  between its markers `<!-- NAME -->` and `<!-- /NAME -->`, and `<!-- generate NAME ... -->` what `generated.py` makes
  of the code, so that neither can drift.
- Links to files outside docs/ lead to their page where they have one, otherwise to a copy of the file in the site.
- Formulae become MathML: no script, nothing to load.
"""

from __future__ import annotations

import html
import os
import re
import sys
from pathlib import Path
from typing import Any

import latex2mathml.converter
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "tools"))
import generated  # noqa: E402

PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "benchmarks": "benchmarks.md",
    "benchmarks/README.md": "benchmarks.md",
    **{path.relative_to(ROOT).as_posix(): "benchmarks.md" for path in generated.RESULTS.glob("*.md")},
    "examples": "examples.md",
    "validation/README.md": "validation.md",
}
"""Files and folders of the repository that have a page."""
COPIES = "files"
"""Folder of the site with copies of other files."""

_COMMAND = re.compile(r"^<!-- (include|generate) (.+?) -->$", re.MULTILINE)
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_PRIMES = re.compile(r"('+)\^(\w)")
_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.DOTALL | re.MULTILINE)
_NO_RUN = re.compile(r"^(```\w+) \{ \.no-run .*\}$", re.MULTILINE)
_HEADING = re.compile(r"^(#+) ", re.MULTILINE)


def expand(text: str, page: str, copies: set[Path]) -> str:
    """Return a page with its commands carried out and its links led to pages or copies, which are noted."""
    text = _relinked(text, DOCS / page, page, copies)

    def replace(found: re.Match[str]) -> str:
        verb, words = found[1], found[2].split()
        if verb == "generate":
            return generated.PARTS[words[0]](*words[1:])
        name, _, part = words[0].partition("#")
        level = max((len(one) for one in _HEADING.findall(_unfenced(text[: found.start()]))), default=1)
        return _relinked(_included(name, part, level), ROOT / name, page, copies)

    return _COMMAND.sub(replace, text)


def _included(name: str, part: str, level: int) -> str:
    """Return a file of the repository without its title, or one part of it; headings come below `level`."""
    path = ROOT / name
    text = path.read_text(encoding="utf-8")
    if part:
        found = re.search(rf"<!-- {part} -->\n(.*?)\n<!-- /{part} -->", text, re.DOTALL)
        if found is None:
            raise ValueError(f"{name} needs the markers <!-- {part} --> and <!-- /{part} -->.")
        return found[1]
    if path.suffix != ".md":
        return f"```{path.suffix[1:]}\n{text.strip()}\n```"
    return _lowered(re.sub(r"\A# .*\n", "", text), level - 1)


def _lowered(text: str, steps: int) -> str:
    """Return text with its headings lowered; lines of fenced code stay."""
    lines, fenced = [], False
    for line in text.splitlines():
        fenced ^= line.startswith(("```", "~~~"))
        lines.append("#" * steps + line if _HEADING.match(line) and not fenced else line)
    return "\n".join(lines)


def _unfenced(text: str) -> str:
    """Return text without fenced code, whose comments look like headings."""
    return _FENCE.sub("", text)


def _relinked(text: str, source: Path, page: str, copies: set[Path]) -> str:
    """Lead the relative links of a text that stands in `source` to where they are seen from a page."""

    def replace(found: re.Match[str]) -> str:
        target = found[2]
        if re.match(r"[a-z]+:", target):
            return found[0]
        path = (source.parent / target).resolve()
        if not path.is_relative_to(ROOT) or not path.exists():
            return found[0]
        name = path.relative_to(ROOT).as_posix()
        if name in PAGES:
            goal = PAGES[name]
        elif path.is_relative_to(DOCS):
            goal = path.relative_to(DOCS).as_posix()
        elif path.is_file():
            copies.add(path)
            goal = f"{COPIES}/{name}"
        else:
            return found[0]
        return found[1] + os.path.relpath(goal, os.path.dirname(page) or ".") + found[3]

    return _LINK.sub(replace, text)


def _primes(found: re.Match[str]) -> str:
    """Return f''^2 as one superscript."""
    return "^{" + r"\prime" * len(found[1]) + " " + found[2] + "}"


def on_files(files: Any, config: Any) -> Any:
    """Add the copies of files that pages link to."""
    copies: set[Path] = set()
    for file in files.documentation_pages():
        expand(file.content_string, file.src_uri, copies)
    for path in sorted(copies):
        name = f"{COPIES}/{path.relative_to(ROOT).as_posix()}"
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Carry out the commands of a page; what its tests do with a block of code is not shown."""
    return _NO_RUN.sub(r"\1", expand(markdown, page.file.src_uri, set()))


def on_page_content(content: str, **_: Any) -> str:
    """Turn formulae into MathML, and keep numbers and their errors on one line."""

    def replace(found: re.Match[str]) -> str:
        display = found[1] == "div"
        source = _PRIMES.sub(_primes, html.unescape(found[2]).strip()[2:-2].strip())
        text = latex2mathml.converter.convert(source, display="block" if display else "inline")
        return f'<div class="formula" tabindex="0">{text}</div>' if display else text

    content = content.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
    return re.sub(r'<(div|span) class="arithmatex">(.*?)</\1>', replace, content, flags=re.DOTALL)
