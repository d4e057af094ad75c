"""How long the stages of a run took, from their marks OUTPUT/stages/*.json."""

import json
from pathlib import Path

from megatron_sft.errors import DataError
from megatron_sft.studies.findings import StageTime


def stage_times(run_folder: Path) -> tuple[list[StageTime], list[str]]:
    """Return the stages that are done, in the order in which they ended, and sentences about those that are not.

    Raises:
        DataError: for a mark of another form.
    """
    found, warnings = [], []
    paths = sorted((run_folder / "stages").glob("**/*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    for path in paths:
        try:
            mark = json.loads(path.read_text(encoding="utf-8"))
            name = str(mark.get("name") or path.relative_to(run_folder / "stages").with_suffix(""))
            state, kind, attempts = mark["state"], str(mark.get("kind") or ""), int(mark.get("attempts") or 1)
            if state == "done":
                found.append(StageTime(name=name, kind=kind, seconds=float(mark["seconds"]), attempts=attempts))
            elif state in ("failed", "blocked"):
                why = str(mark.get("why") or "").strip().splitlines()
                warnings.append(f"stage {name} is {state}{': ' + why[-1] if why else ''}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}: not the mark of a stage ({error!r}): remove it and run the stage again"
            ) from error
    return found, warnings
