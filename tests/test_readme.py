"""README tells the truth: its code runs, its commands and files exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from hepkan.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}[^\n]*\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_code_runs_from_top_to_bottom(tmp_path: Path) -> None:
    code = "\n".join(blocks("python"))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"KAN: AUC 0\.9\d+ \+- 0\.0\d+", done.stdout)


def test_story_is_short() -> None:
    story, *_ = blocks("python")
    assert len(story.splitlines()) <= 30


def test_commands_and_their_options_exist() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = [line.split("#")[0].split() for block in blocks("console") for line in block.splitlines()]
    assert len(lines) >= 7
    for _, program, verb, *words in lines:
        known = {option for parameter in commands[verb].params for option in parameter.opts}
        assert program == "hepkan"
        assert {word for word in words if word.startswith("-")} <= known


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z-]+)(?:`|  )", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "validation/README.md"])
def test_links_lead_to_files(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if not (path.parent / link).exists()]
    assert missing == []
