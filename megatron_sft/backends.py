"""Which optional packages are there: found without importing them, and refused by name when one is the wrong one."""

import importlib
import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from megatron_sft.errors import EnvironmentProblem

APEX_REMEDY = (
    "NVIDIA Apex is not on PyPI: run 'pip uninstall apex', and if you need it, build it from source "
    "(https://github.com/NVIDIA/apex); without it the trainer uses torch's own optimizer"
)


def transformer_engine_version() -> str | None:
    """The version of NVIDIA Transformer Engine, or None when it is not installed.

    Raises:
        EnvironmentProblem: when its core library is there without the torch extension, which is built from source.
    """
    if not package_folders("transformer_engine"):
        return None
    if importlib.util.find_spec("transformer_engine_torch") is None:
        raise EnvironmentProblem(
            "transformer_engine is installed without its torch extension: on the GPU machine run "
            "'pip install --no-build-isolation transformer-engine[pytorch]', or uninstall transformer-engine"
        )
    return installed_version("transformer-engine") or "unknown"


def apex_version() -> str | None:
    """The version of NVIDIA Apex, or None when it is not installed.

    Raises:
        EnvironmentProblem: when PyPI's package of the same name, a web toolkit, is in its place.
    """
    folders = package_folders("apex")
    if not folders:
        return None
    # Every NVIDIA Apex has these two packages, whichever of its extensions were built.
    if not any((folder / "optimizers").is_dir() and (folder / "multi_tensor_apply").is_dir() for folder in folders):
        found = installed_version("apex")
        named = f"apex {found}" if found else "a package named apex"
        raise EnvironmentProblem(f"{named} in {folders[0]} is not NVIDIA Apex. {APEX_REMEDY}")
    return installed_version("apex") or "unknown"


def require_extra(extra: str, *modules: str) -> None:
    """Check that modules of an optional dependency group can be found.

    Raises:
        EnvironmentProblem: naming the missing modules and the group to install.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise EnvironmentProblem(
            f"not installed: {', '.join(missing)}: run tools/setup_env, or: pip install 'megatron-sft[{extra}]'"
        )


def import_reasoning_gym() -> ModuleType:
    """Import reasoning-gym, also where pycosat is missing.

    pycosat has no wheels and needs Python's headers to build; of reasoning-gym's hundred tasks one logic puzzle solves
    with it, but importing the package imports it. That puzzle then fails where it uses the solver.

    Raises:
        ImportError: when reasoning-gym itself is not installed.
    """
    if "reasoning_gym" in sys.modules or importlib.util.find_spec("pycosat") is not None:
        return importlib.import_module("reasoning_gym")
    # Only for the import: sympy takes pycosat for a working solver wherever it finds it.
    sys.modules["pycosat"] = ModuleType("pycosat", "Stands in for the solver while reasoning-gym is imported.")
    try:
        return importlib.import_module("reasoning_gym")
    finally:
        del sys.modules["pycosat"]


def package_folders(name: str) -> list[Path]:
    """The folders of a top-level package, empty when there is none (or only a module or an empty leftover folder)."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None or spec.submodule_search_locations is None:
        return []
    return [Path(folder) for folder in spec.submodule_search_locations]


def installed_version(distribution: str) -> str | None:
    """The version that the package's metadata states, or None without metadata."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
