"""The package as a whole: what importing it costs, where its public names live, and which way its parts depend."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import napari_affmae

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "napari_affmae"
KERNELS = ROOT / "kernels" / "affmae_kernels"
GRAPHICAL = {"napari", "qtpy", "superqt", "pyqtgraph", "magicgui", "PyQt6", "PySide6", "vispy"}

# what each part of the package may import from the rest of it
ALLOWED = {
    "model": {"model"},
    "data": {"data"},
    "engine": {"engine", "model", "data"},
    "bench": {"bench", "engine", "model"},
    "cli": {"cli", "engine", "model", "data", "bench", "widgets.demo"},
    "widgets": {"widgets", "engine", "model", "data"},
}
LEAVES = {
    "__version__",
    "card",
    "config",
    "control",
    "curve_ends",
    "errors",
    "events",
    "model_config",
    "model_header",
    "model_places",
    "model_report",
    "palette",
    "report_text",
    "settings",
    "whole_file",
    "words",
    "zoo",
}


def run(code: str) -> None:
    """Run code in a fresh interpreter that finds the packages."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT / "kernels")))}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_import_loads_neither_torch_nor_qt():
    run(
        "import sys, napari_affmae\n"
        "napari_affmae.ModelConfig.preset('tiny')\n"
        f"heavy = {{'torch', 'triton', *{sorted(GRAPHICAL)!r}}} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )


@pytest.mark.parametrize("name", napari_affmae.__all__)
def test_public_name_resolves(name):
    assert getattr(napari_affmae, name).__name__ == name
    assert name in dir(napari_affmae)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        napari_affmae.nonsense  # noqa: B018


def test_installed_version_is_that_of_the_source():
    try:
        installed = importlib.metadata.version("napari-affmae")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("runs from the source without being installed")
    assert installed == napari_affmae.__version__


def test_napari_and_qt_are_never_hard_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {requirement.split(">")[0].split(";")[0].split("[")[0].strip().lower() for requirement in project["dependencies"]}
    assert not names & {"napari", "pyqt5", "pyqt6", "pyside2", "pyside6"}
    assert {"torch", "triton", "triton-windows"} <= names


@pytest.mark.skipif(sys.platform == "win32", reason="a checkout on Windows may hold a text file instead of the link")
def test_manifest_at_the_top_is_the_one_in_the_package():
    assert (ROOT / "napari.yaml").resolve() == (PACKAGE / "napari.yaml").resolve()


def test_kernels_stand_alone():
    code = "import sys, affmae_kernels; assert not {'napari_affmae', 'napari', 'qtpy'} & set(sys.modules)"
    run(code)
    for path in KERNELS.rglob("*.py"):
        tops = {module.split(".")[0] for module in imports(path, "affmae_kernels", KERNELS)}
        assert "napari_affmae" not in tops, path
        assert not tops & GRAPHICAL, path


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_dependencies_point_one_way(part):
    for path in (PACKAGE / part).rglob("*.py"):
        for module in imports(path, "napari_affmae", PACKAGE):
            top, _, rest = module.partition(".")
            if top == "napari_affmae":
                home = rest.split(".")[0]
                allowed = home in LEAVES | ALLOWED[part] or any(rest.startswith(a) for a in ALLOWED[part] if "." in a)
                assert allowed, f"{path.relative_to(ROOT)} imports {module}"
            assert part == "widgets" or top not in GRAPHICAL, f"{path.relative_to(ROOT)} imports {module}"


def test_leaves_import_leaves_only():
    for name in LEAVES - {"__version__"}:
        for module in imports(PACKAGE / f"{name}.py", "napari_affmae", PACKAGE):
            top, _, rest = module.partition(".")
            assert top not in GRAPHICAL | {"torch", "affmae_kernels"}, f"{name} imports {module}"
            assert top != "napari_affmae" or rest.split(".")[0] in LEAVES, f"{name} imports {module}"


def test_torch_comes_after_the_triton_guard():
    """Wherever torch is imported, the package around it, or the module itself, has imported affmae_kernels before."""
    guarded = {part for part in ALLOWED if imports_kernels_first(PACKAGE / part / "__init__.py")}
    for path in PACKAGE.rglob("*.py"):
        if any(module.split(".")[0] == "torch" for module in imports(path, "napari_affmae", PACKAGE, top_level_only=True)):
            part = path.relative_to(PACKAGE).parts[0]
            assert part in guarded or imports_kernels_first(path), f"{path.relative_to(ROOT)} may import torch before the guard"


def imports_kernels_first(path: Path) -> bool:
    """Whether a module imports affmae_kernels, and torch not before it."""
    for module in imports(path, "napari_affmae", PACKAGE, top_level_only=True):
        if module.split(".")[0] in {"torch", "safetensors", "lightning_fabric"}:
            return False
        if module.split(".")[0] == "affmae_kernels":
            return True
    return False


def imports(path: Path, package: str, folder: Path, top_level_only: bool = False) -> Iterator[str]:
    """Yield the absolute names of the modules that a file imports, those for type checkers left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = (package, *path.relative_to(folder).parts[:-1])
    for node in _top_level(tree.body) if top_level_only else _executed(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = parts[: len(parts) - node.level + 1]
                names = [node.module] if node.module else [alias.name for alias in node.names]
                yield from (".".join((*base, name)) for name in names)
            else:
                yield node.module or ""


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield what a module does when it is imported, what it does within a context too."""
    for node in body:
        if isinstance(node, ast.With):
            yield from _top_level(node.body)
        else:
            yield node


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree without entering ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _executed(node)
