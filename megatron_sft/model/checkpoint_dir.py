"""Where checkpoints lie, which of them are complete, and how a folder becomes complete.

    SAVE/latest_checkpointed_iteration.txt    the newest complete iteration (Megatron's name for it)
    SAVE/iter_0000040/                        a distributed checkpoint (torch_dist) with these files of ours:
        hf/                                   config, generation config, tokenizer and chat template of the model
        run_state.json                        iteration, data position, fingerprints, options
        complete.json                         written last, with all sizes: without it the folder does not count

A checkpoint is written into `iter_0000040.incomplete` and renamed once everything is on disk, so a killed save leaves
only a folder that no reader looks at.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from megatron_sft.errors import CheckpointError
from megatron_sft.files import sync_directory, sync_tree, write_json, write_text

MARKER = "complete.json"
RUN_STATE = "run_state.json"
HF_ASSETS = "hf"
LATEST = "latest_checkpointed_iteration.txt"
INCOMPLETE_SUFFIX = ".incomplete"
FORMAT_VERSION = 1

_ITERATION_NAME = re.compile(r"iter_(\d{7,})")


def iteration_dir(save: Path, iteration: int) -> Path:
    """The folder of one iteration: `iter_0000040`."""
    return save / f"iter_{iteration:07d}"


def is_complete(folder: Path) -> bool:
    """Whether the folder's save went through to the marker."""
    return (folder / MARKER).is_file()


def list_complete(save: Path) -> list[int]:
    """Iterations with a complete checkpoint, ascending."""
    if not save.is_dir():
        return []
    found = ((_ITERATION_NAME.fullmatch(entry.name), entry) for entry in save.iterdir())
    return sorted(int(match[1]) for match, entry in found if match and is_complete(entry))


def list_incomplete(save: Path) -> list[Path]:
    """Folders that a killed save left behind."""
    if not save.is_dir():
        return []
    return sorted(
        entry
        for entry in save.iterdir()
        if entry.name.startswith("iter_") and entry.is_dir() and not is_complete(entry)
    )


def damage(folder: Path) -> str | None:
    """What is wrong with a folder that has its marker: a file that is gone or has another size; None for nothing.

    Costs one look at each file; what is in them is not read.
    """
    try:
        expected = json.loads((folder / MARKER).read_text(encoding="utf-8")).get("files", {})
        found = _sizes(folder)
    except (OSError, ValueError, AttributeError) as error:
        return f"{MARKER} cannot be read ({error!r})"
    for name, size in expected.items():
        if name not in found:
            return f"{name} is missing"
        if found[name] != size:
            return f"{name} has {found[name]} bytes instead of {size}"
    return None


def remove(save: Path, iteration: int) -> None:
    """Delete a checkpoint; from the first moment on it does not count any more."""
    folder = iteration_dir(save, iteration)
    (folder / MARKER).unlink()
    sync_directory(folder)
    shutil.rmtree(folder)


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file below the folder, but the marker, by its path there."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(files)}


def resolve(path: Path, iteration: int | None = None) -> Path:
    """The complete checkpoint folder meant by `path`: itself, or the named or newest iteration of a save folder.

    Raises:
        CheckpointError: when there is none; the message lists what is there.
    """
    if _ITERATION_NAME.fullmatch(path.name) and path.is_dir():
        if iteration is not None and iteration_dir(path.parent, iteration).name != path.name:
            raise CheckpointError(f"{path} is one iteration already: leave out --iteration {iteration}")
        if not is_complete(path):
            raise CheckpointError(f"{path}: incomplete ({MARKER} is missing): its save was interrupted; use another")
        return path
    if not path.is_dir():
        raise CheckpointError(f"{path}: there is no such folder")
    complete = list_complete(path)
    if not complete:
        leftover = ", ".join(folder.name for folder in list_incomplete(path)) or "none"
        raise CheckpointError(f"{path}: no complete checkpoint (incomplete ones: {leftover})")
    if iteration is None:
        return iteration_dir(path, complete[-1])
    if iteration not in complete:
        raise CheckpointError(f"{path}: no complete checkpoint of iteration {iteration}; there are {complete}")
    return iteration_dir(path, iteration)


def read_run_state(folder: Path) -> dict[str, Any]:
    """The run state of a complete checkpoint folder.

    Raises:
        CheckpointError: when the file is missing, not JSON, or of another format version.
    """
    path = folder / RUN_STATE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: unreadable, use another iteration ({error})") from error
    version = state.get("format_version") if isinstance(state, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path}: format version {version}, this program reads {FORMAT_VERSION}")
    return dict(state)


def incomplete_dir(save: Path, iteration: int) -> Path:
    """An empty folder to write the checkpoint of `iteration` into; call on one rank only."""
    folder = save / (iteration_dir(save, iteration).name + INCOMPLETE_SUFFIX)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def finish(folder: Path, run_state: dict[str, Any], hf_assets: Path) -> Path:
    """Finish a written folder: add assets and run state, sync, rename, mark. Returns the final folder.

    Call on one rank, after every rank has written its files. `hf_assets` is a folder of small files to copy.
    """
    assert folder.name.endswith(INCOMPLETE_SUFFIX), folder
    if (folder / HF_ASSETS).exists():
        shutil.rmtree(folder / HF_ASSETS)
    shutil.copytree(hf_assets, folder / HF_ASSETS)
    write_json(folder / RUN_STATE, {"format_version": FORMAT_VERSION, **run_state})
    sync_tree(folder)
    final = folder.with_name(folder.name.removesuffix(INCOMPLETE_SUFFIX))
    if final.exists():
        shutil.rmtree(final)
    folder.rename(final)
    marker = {"format_version": FORMAT_VERSION, "iteration": run_state["iteration"], "files": _sizes(final)}
    write_json(final / MARKER, marker)
    sync_directory(final)
    write_text(final.parent / LATEST, f"{run_state['iteration']}\n")
    return final
