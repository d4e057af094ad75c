"""Warnings that a reader must see."""

from collections.abc import Callable
from pathlib import Path

from megatron_sft.report.checks import common_settings, warnings_of
from megatron_sft.report.load import load_run

Entry = dict[str, object]


def test_sound_run_has_no_warning(make_run: Callable[..., Path]) -> None:
    assert warnings_of(load_run(make_run(), "run")) == []


def test_share_cut_off_above_the_limit_is_named(
    make_run: Callable[..., Path], score_entry: Callable[..., Entry]
) -> None:
    scores = [
        score_entry("addition", 0, 0.0, share_cut_off=0.05),
        score_entry("addition", 10, 0.1, share_cut_off=0.06),
        score_entry("addition", 20, 0.2, share_cut_off=0.5),
    ]
    (warning,) = warnings_of(load_run(make_run(scores=scores), "run"))
    assert "cut off at step 10, step 20 (up to 50% at step 20)" in warning


def test_missing_base_is_named(make_run: Callable[..., Path], score_entry: Callable[..., Entry]) -> None:
    scores = [score_entry("addition", 0, 0.0), score_entry("countdown", 10, 0.1)]
    (warning,) = warnings_of(load_run(make_run(scores=scores), "run"))
    assert warning.startswith("no base model (iteration 0) was evaluated on countdown")


def test_unequal_protocol_within_a_task_is_named(
    make_run: Callable[..., Path], score_entry: Callable[..., Entry]
) -> None:
    scores = [
        score_entry("addition", 0, 0.0),
        score_entry("addition", 10, 0.1, sampling={"temperature": 1.0}, num_samples=100),
        score_entry("countdown", 0, 0.0, seed=8, sampling={"temperature": 0.0}),  # another task may differ
    ]
    (warning,) = warnings_of(load_run(make_run(scores=scores), "run"))
    assert warning.startswith("addition: evaluated with different num_samples, sampling:")


def test_common_settings_are_those_all_scores_share(make_run: Callable[..., Path]) -> None:
    settings = common_settings(load_run(make_run(), "run"))
    assert settings["seed"] == 7
    assert settings["engine"] == {"vllm": "0.32.0"}
    assert not {"model", "prompt_fingerprint"} & set(settings)  # these differ between models and tasks
