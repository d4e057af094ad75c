"""Which model folders a run evaluates."""

import json
import shutil
from pathlib import Path

import pytest

from evals.config import EvaluateConfig
from evals.models import find_models
from megatron_sft.errors import ConfigError, DataError


@pytest.fixture
def exports(random_model: Path, tmp_path: Path) -> Path:
    """Three exports, in another order by name than by step."""
    for name, step in (("iter_0000020", 20), ("iter_0000100", 100), ("last", 160)):
        folder = tmp_path / "exports" / name
        shutil.copytree(random_model, folder)
        (folder / "megatron_sft.json").write_text(json.dumps({"iteration": step}))
    return tmp_path / "exports"


def found(*model: str, **options: object) -> list[tuple[str, int | None]]:
    config = EvaluateConfig(model=model, tasks="a", output=Path("o"), **options)  # type: ignore[arg-type]
    return [(folder.name, folder.iteration) for folder in find_models(config)]


def test_folders_patterns_and_steps(exports: Path, random_model: Path) -> None:
    everything = [("iter_0000020", 20), ("iter_0000100", 100), ("last", 160)]
    assert found(str(exports)) == everything
    assert found(str(exports), steps="100, 20") == everything[:2]
    assert found(f"{exports}/iter_*") == everything[:2]
    assert found(str(exports / "last")) == everything[2:]
    assert found(str(exports), base=random_model, steps="160") == [("step-40", 0), ("last", 160)]


def test_a_base_model_alone(random_model: Path) -> None:
    assert found(base=random_model) == [("step-40", 0)]


def test_what_is_not_there_is_named(exports: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no export of iteration 30 among --model; there are 20, 100, 160"):
        found(str(exports), steps="20,30")
    with pytest.raises(DataError, match=r"no folder with config.json matches"):
        found(f"{exports}/nothing-*")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty/config.json does not exist"):
        found(str(tmp_path / "empty"))
