"""Atomic writing: complete or absent, never half."""

from pathlib import Path

import pytest

from hepkan.errors import MissingExtra, require, unknown
from hepkan.files import atomic_file, atomic_folder, write_text


def test_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_folder_is_replaced_whole(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with atomic_folder(tmp_path / "run") as folder:
            (folder / content).write_text(content)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_unknown_name_suggests_the_closest() -> None:
    assert "Did you mean 'multijet'?" in str(unknown("task", "multijets", ["multijet", "top_dm"]))


def test_missing_extra_names_the_pip_line() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'hepkan\[generate\]'"):
        require("no_such_module_here", "generate", "Event generation")
