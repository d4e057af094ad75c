"""The shape of the code base: layers, module names, shims, what the base install may import, and what files may say.

docs/architecture.md describes the same rules in words.
"""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A module may import modules of its own unit and of lower layers; those side by side never import each other.
LAYERS: dict[str, int] = {
    "megatron_sft": 0,
    "megatron_sft.errors": 0,
    "megatron_sft.metrics": 0,
    "megatron_sft.files": 0,
    "megatron_sft.cli": 0,
    "megatron_sft.backends": 0,
    "megatron_sft._native": 0,
    "megatron_sft.data": 1,
    "megatron_sft.model": 1,
    "megatron_sft.recipes": 1,
    "megatron_sft.drawing": 1,
    "megatron_sft.stages": 1,
    "megatron_sft.train": 2,
    "megatron_sft.convert": 2,
    "megatron_sft.generation": 2,
    "megatron_sft.planning": 2,
    "megatron_sft.pretrain_sft": 3,
    "megatron_sft.report": 3,
    "megatron_sft.traces": 3,
    "megatron_sft.dataset_recipes": 3,
    "megatron_sft.studies": 3,
    "megatron_sft.workbench": 4,
}
# What the evaluator may share with the rest: messages, options, engine, chat template and verifiers.
ALLOWED_IN_EVALS = (
    "megatron_sft.errors",
    "megatron_sft.files",
    "megatron_sft.metrics",
    "megatron_sft.cli",
    "megatron_sft.backends",
)
PACKAGES_OF_BASE_INSTALL = ("numpy", "tyro", "tokenizers", "math_verify")
SKIPPED_FOLDERS = {".git", "target", "runs", "build", "dist", "__pycache__", "node_modules"}
# What fuzzing leaves in `rust/fuzz`, which git ignores too.
SKIPPED_FOLDERS |= {"corpus", "artifacts", "coverage"}


def project_files() -> Iterator[Path]:
    """Every file of the project, without what is built, installed or cached."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [f for f in folders if f not in SKIPPED_FOLDERS and not (f.startswith(".") and f != ".ci")]
        yield from (Path(folder) / file for file in files)


def modules(package: str) -> dict[str, Path]:
    """Dotted names of the Python files below a top-level folder."""
    found = {}
    for path in (ROOT / package).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, also inside functions and for types only."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def layer_of(name: str) -> tuple[str, int] | None:
    """The unit that a dotted name belongs to, and its layer; None for names outside the project."""
    parts = name.split(".")
    units = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next(((unit, LAYERS[unit]) for unit in units if unit in LAYERS), None)


def test_every_module_has_a_layer() -> None:
    found = modules("megatron_sft")
    assert len(found) > 20
    unplaced = [name for name in found if name != "megatron_sft" and layer_of(name) == ("megatron_sft", 0)]
    assert unplaced == [], "add them to LAYERS and to docs/architecture.md"


def test_imports_point_downwards() -> None:
    wrong, num_checked = [], 0
    for name, path in modules("megatron_sft").items():
        here = layer_of(name)
        assert here is not None
        for imported in imports_of(path):
            there = layer_of(imported)
            if there is None or there[0] == here[0]:
                continue
            num_checked += 1
            if there[1] >= here[1] and there[1] != 0:
                wrong.append(f"{name} (layer {here[1]}) imports {imported} (layer {there[1]})")
    assert num_checked > 20
    assert wrong == []


def test_nothing_imports_tools_or_evals() -> None:
    for name, path in modules("megatron_sft").items():
        tops = {imported.split(".")[0] for imported in imports_of(path)}
        assert not tops & {"tools", "evals", "tests"}, name


def test_evals_share_only_engine_chat_template_and_messages() -> None:
    shared = (*ALLOWED_IN_EVALS, "megatron_sft.data.", "megatron_sft.generation.")
    imports = [(name, imported) for name, path in modules("evals").items() for imported in imports_of(path)]
    ours = [pair for pair in imports if pair[1].startswith("megatron_sft")]
    assert [f"{name} imports {imported}" for name, imported in ours if not imported.startswith(shared)] == []


def test_data_layer_never_imports_torch() -> None:
    for name, path in modules("megatron_sft").items():
        if name.startswith("megatron_sft.data"):
            tops = {imported.split(".")[0] for imported in imports_of(path)}
            assert not tops & {"torch", "transformers", "megatron", "vllm"}, name


def test_no_module_bears_the_name_of_another() -> None:
    # torchrun megatron_sft/pretrain_sft.py puts megatron_sft/ first on sys.path: a file there would hide the other.
    dependencies = {name.lower() for name in importlib.metadata.packages_distributions()}
    taken = (set(sys.stdlib_module_names) | dependencies) - {"megatron_sft", "evals", "tools", "tests"}
    assert {"logging", "numpy"} <= taken
    ours = [*(ROOT / "megatron_sft").iterdir(), *(ROOT / "tools").iterdir(), *(ROOT / "evals").iterdir()]
    names = {path.name.partition(".")[0] for path in ours if path.suffix in ("", ".py", ".pyi")} - {"__init__"}
    # tools/ is never on sys.path as a folder of modules: its python wrapper is not importable.
    assert len(names) > 10
    assert names & taken == set()


def test_base_install_does_not_need_torch() -> None:
    packages = ("megatron_sft.data.", "megatron_sft.planning.", "megatron_sft.studies.analysis.")
    allowed = [name for name in modules("megatron_sft") if name.startswith(packages)]
    program = """
import importlib, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "megatron", "vllm", "matplotlib", "jinja2", "safetensors"}:
            raise ModuleNotFoundError(f"{name} is not part of the base install", name=name)
sys.meta_path.insert(0, Blocker())
for name in sys.argv[1:]:
    importlib.import_module(name)
assert "torch" not in sys.modules
print(len(sys.argv) - 1)
"""
    names = [*allowed, "megatron_sft.cli", "megatron_sft.files", "megatron_sft.metrics", "megatron_sft.backends"]
    command = [sys.executable, "-c", program, *names]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == len(names) > 8


@pytest.mark.parametrize("name", ["megatron_sft.workbench.setup_env", "megatron_sft.errors"])
def test_set_up_needs_the_standard_library_only(name: str) -> None:
    imported = imports_of(modules("megatron_sft")[name])
    tops = {top.split(".")[0] for top in imported} - {"megatron_sft"}
    assert tops <= set(sys.stdlib_module_names)


SHIMS = sorted(path for path in (ROOT / "tools").iterdir() if path.suffix == "")
SHELL_TOOLS = {"python", "find_python", "setup_env", "run_tests", "quickstart"}


@pytest.mark.parametrize("path", SHIMS, ids=lambda path: path.name)
def test_tools_are_shims(path: Path) -> None:
    assert os.access(path, os.X_OK)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#!/bin/sh\n")
    assert subprocess.run(["sh", "-n", path]).returncode == 0
    if path.name not in SHELL_TOOLS:
        match = re.fullmatch(r'#!/bin/sh\nexec "\$\(dirname "\$0"\)/python" -m ([a-z_.]+) "\$@"\n', text)
        assert match is not None
        module = ROOT / match[1].replace(".", "/")
        assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()


def test_files_name_no_path_of_a_machine() -> None:
    # Spelt in pieces so that this file does not find itself.
    machine_paths = re.compile("/(?:" + "|".join(["wo" + "rk/", "ho" + "me/[a-z]", "ro" + "ot/", "Us" + "ers/"]) + ")")
    wrong, num_checked = [], 0
    for path in project_files():
        if path.suffix in (".so", ".png", ".lock", ".bin", ".idx", ".gz", ".parquet"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if machine_paths.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
        num_checked += 1
    assert num_checked > 50
    assert wrong == []


def functions_of(path: Path) -> Iterator[tuple[str, int]]:
    """Name and number of lines of every function in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("package", ["megatron_sft", "evals"])
def test_files_and_functions_stay_small(package: str) -> None:
    paths = modules(package)
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in paths.items()}
    assert {name: length for name, length in lengths.items() if length > 420} == {}
    functions = [(f"{name}.{function}", length) for name in paths for function, length in functions_of(paths[name])]
    assert [(name, length) for name, length in functions if length > 70] == []
