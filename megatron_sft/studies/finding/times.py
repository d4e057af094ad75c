"""How long the stages of a run took, from their marks OUTPUT/stages/*.json."""

import json
from pathlib import Path

from megatron_sft.errors import DataError
from megatron_sft.studies.finding.findings import StageTime


def stage_times(run_folder: Path) -> tuple[list[StageTime], list[str]]:
    """Return the stages that are done, in the order in which they ended, and sentences about those that failed.

    Raises:
        DataError: for a mark of another form.
    """
    found, warnings = [], []
    for path in sorted((run_folder / "stages").glob("*.json")):
        try:
            mark = json.loads(path.read_text(encoding="utf-8"))
            name, state = path.stem, mark["state"]
            if state == "done":
                time = StageTime(
                    name=name,
                    kind=str(mark.get("kind") or ""),
                    seconds=float(mark["seconds"]),
                    attempts=int(mark.get("attempts") or 1),
                )
                found.append((str(mark.get("ended") or ""), time))
            elif state in ("failed", "blocked") and mark.get("kind") != "report":
                # A report that failed before is being made again just now.
                lines = str(mark.get("why") or "").strip().splitlines()
                why = [line.strip() for line in lines if not line.startswith("(whole output")]
                warnings.append(f"stage {name} is {state}{': ' + why[-1] if why else ''}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}: not the mark of a stage ({error!r}): remove it and run the stage again"
            ) from error
    return [time for _, time in sorted(found, key=lambda pair: (pair[0], pair[1].name))], warnings
