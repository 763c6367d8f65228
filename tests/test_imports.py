"""The architecture as a test: imports go one way, and importing the package is light."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import hepkan
import hepkan.interpret

ROOT = Path(hepkan.__file__).parent

# A package or module may import those of lower or equal rank only; equal rank means itself.
RANK = {
    "errors": 0,
    "files": 0,
    "arrays": 0,
    "lazy": 0,
    "executors": 1,
    "data": 1,
    "splines": 1,
    "metrics": 1,
    "losses": 1,
    "nn": 2,
    "physics": 2,
    "model_io": 3,
    "tasks": 3,
    "train": 4,
    "predictors": 4,
    "regressors": 4,
    "boosting": 5,
    "flow": 5,
    "trained": 6,
    "baselines": 7,
    "estimators": 5,
    "interpret": 5,
    "export": 6,
    "report": 7,
    "studies": 8,
    "terminal": 9,
    "cli": 10,
}
PAIRS_APART = {("physics", "nn"), ("physics", "splines"), ("splines", "data"), ("nn", "physics"), ("tasks", "nn")}
HEP = {"uproot", "awkward", "fastjet", "pythia8mc", "pylhe", "mplhep", "vector"}


def part(path: Path) -> str:
    """Return the package or module below `hepkan` that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Return the dotted names that a file imports outside `if TYPE_CHECKING`."""
    names: set[str] = set()
    stack: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ["hepkan", *path.relative_to(ROOT).parts[:-1]]
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(filter(None, [base, node.module or ""]))
            names |= {f"{module}.{alias.name}" for alias in node.names}
        stack += list(ast.iter_child_nodes(node))
    return names


FILES = sorted(path for path in ROOT.rglob("*.py") if path.name not in ("__main__.py",) and path.parent != ROOT)
FILES += sorted(path for path in ROOT.glob("*.py") if path.name not in ("__init__.py", "__main__.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    here = part(path)
    assert here in RANK, f"{here} is new: give it a rank in this test and a line in ARCHITECTURE.md"
    for name in imported(path):
        pieces = name.split(".")
        if pieces[0] != "hepkan" or len(pieces) < 2 or pieces[1].startswith("__"):
            continue
        there = pieces[1]
        assert there in RANK, f"{path.name} imports the unknown module hepkan.{there}"
        assert there == here or RANK[there] < RANK[here], f"{here} must not import {there}"
        assert (here, there) not in PAIRS_APART, f"{here} must not import {there}"


@pytest.mark.parametrize("package", ["splines", "nn"])
def test_networks_need_no_hep_dependency(package: str) -> None:
    seen = set()
    for path in [path for path in FILES if part(path) in (package, "splines", "errors", "files")]:
        seen |= {name.split(".")[0] for name in imported(path)}
    assert not seen & HEP


def loaded_after(code: str) -> set[str]:
    """Return the top-level modules loaded by `code` in a fresh process."""
    script = f"import sys\n{code}\nprint(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("code", ["import hepkan; dir(hepkan)", "import hepkan.cli", "import hepkan.tasks"])
def test_import_is_light(code: str) -> None:
    loaded = loaded_after(code)
    assert "hepkan" in loaded
    assert not loaded & {"torch", "matplotlib", "uproot", "awkward", "sklearn", "lightgbm", "scipy", *HEP}


def test_networks_load_without_hep_dependency() -> None:
    loaded = loaded_after("import hepkan.splines, hepkan.nn")
    assert "torch" in loaded
    assert not loaded & {"matplotlib", "pyarrow", "sklearn", "lightgbm", *HEP}


def test_networks_and_their_curves_load_without_sympy() -> None:
    mlp = "hepkan.MLP([2, 3, 1])"
    loaded = loaded_after(f"import hepkan, hepkan.interpret, hepkan.trained; {mlp}; hepkan.interpret.edge_curves")
    assert "torch" in loaded
    assert not loaded & {"sympy", "scipy"}


@pytest.mark.parametrize("name", hepkan.interpret.__all__)
def test_name_of_interpretation_resolves_to_what_it_says(name: str) -> None:
    found = getattr(hepkan.interpret, name)
    assert found is not None and not inspect.ismodule(found)
    assert name in dir(hepkan.interpret)


@pytest.mark.parametrize("name", hepkan.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(hepkan, name) is not None
    assert name in dir(hepkan)


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(hepkan, "no_such_name")  # noqa: B009
