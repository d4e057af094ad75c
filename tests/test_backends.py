"""Optional packages: absent, right, half-installed, and the wrong package of the same name."""

import importlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from megatron_sft.backends import apex_version, require_extra, transformer_engine_version
from megatron_sft.errors import EnvironmentProblem

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that wins over the installed ones; importing its packages fails the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("apex", "transformer_engine", "transformer_engine_torch"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def add_package(site: Path, name: str, *subpackages: str) -> None:
    for folder in (site / name, *(site / name / subpackage for subpackage in subpackages)):
        folder.mkdir()
        (folder / "__init__.py").write_text("raise AssertionError('looking for a backend imported it')\n")


def add_metadata(site: Path, name: str, version: str) -> None:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_web_toolkit_named_apex_is_refused_with_the_remedy(site: Path) -> None:
    add_package(site, "apex", "views", "models")
    add_metadata(site, "apex", "0.9.10.dev0")
    with pytest.raises(
        EnvironmentProblem, match=r"(?s)apex 0\.9\.10\.dev0 in .* is not NVIDIA Apex.*pip uninstall apex"
    ):
        apex_version()


def test_nvidia_apex_is_found(site: Path) -> None:
    add_package(site, "apex", "optimizers", "multi_tensor_apply")
    add_metadata(site, "apex", "0.1")
    assert apex_version() == "0.1"


def test_apex_without_metadata_has_an_unknown_version(site: Path) -> None:
    add_package(site, "apex", "optimizers", "multi_tensor_apply")
    assert apex_version() == "unknown"


def test_folder_without_package_is_no_backend(site: Path) -> None:
    (site / "apex").mkdir()
    assert apex_version() is None


def test_transformer_engine_needs_its_torch_extension(site: Path) -> None:
    add_package(site, "transformer_engine", "common")
    add_metadata(site, "transformer-engine", "2.9.0")
    with pytest.raises(EnvironmentProblem, match="without its torch extension"):
        transformer_engine_version()
    (site / "transformer_engine_torch.py").touch()
    importlib.invalidate_caches()
    assert transformer_engine_version() == "2.9.0"


def test_missing_extra_names_modules_and_remedy() -> None:
    require_extra("dev", "json", "pytest")
    with pytest.raises(
        EnvironmentProblem, match=r"not installed: no_such_module: .*pip install 'megatron-sft\[eval\]'"
    ):
        require_extra("eval", "json", "no_such_module")


def test_reasoning_gym_is_imported_without_its_solver() -> None:
    if find_spec("reasoning_gym") is None:
        pytest.skip("reasoning-gym is not installed: it comes with the eval extra")
    program = """
import sys
sys.modules["pycosat"] = None  # as if it were not installed
from megatron_sft.backends import import_reasoning_gym
gym = import_reasoning_gym()
print(gym.create_dataset("gcd", size=1, seed=1)[0]["answer"], "pycosat" in sys.modules)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    answer, is_left_behind = result.stdout.split()
    assert int(answer) > 0
    assert is_left_behind == "False"
