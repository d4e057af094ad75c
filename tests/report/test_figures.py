"""The pictures: which are drawn, that they show the data, and that the same data gives the same bytes."""

import io
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import pytest

from megatron_sft.report.figures import draw_all, thin_out
from megatron_sft.report.load import load_run

Entry = dict[str, object]


def test_every_figure_is_a_png_of_sensible_size(make_run: Callable[..., Path]) -> None:
    drawings = draw_all([load_run(make_run(), "run")])
    assert [drawing.key for drawing in drawings] == ["scores", "lengths", "cut-off", "training"]
    for drawing in drawings:
        height, width, _ = matplotlib.image.imread(io.BytesIO(drawing.png)).shape
        assert 700 < width < 2500, drawing.key
        assert 300 < height < 2000, drawing.key


def test_same_data_same_bytes_and_other_data_other_bytes(
    make_run: Callable[..., Path], score_entry: Callable[..., Entry]
) -> None:
    run = load_run(make_run(), "run")
    other = load_run(
        make_run("other", scores=[score_entry("addition", 0, 0.0), score_entry("addition", 10, 0.9)]), "run"
    )
    assert draw_all([run])[0].png == draw_all([run])[0].png
    assert draw_all([run])[0].png != draw_all([other])[0].png


def test_figures_without_data_are_left_out(make_run: Callable[..., Path]) -> None:
    untrained = load_run(make_run("a", steps=None), "a")
    unscored = load_run(make_run("b", scores=None), "b")
    assert [drawing.key for drawing in draw_all([untrained])] == ["scores", "lengths", "cut-off"]
    assert [drawing.key for drawing in draw_all([unscored])] == ["training"]


def test_names_with_dollar_signs_are_no_mathematics(
    make_run: Callable[..., Path], score_entry: Callable[..., Entry]
) -> None:
    scores = [score_entry("sums $\\frac{", 0, 0.1), score_entry("sums $\\frac{", None, 0.4, name="$^_{")]
    assert len(draw_all([load_run(make_run(scores=scores), "run $_")])) == 4


def test_a_metric_that_was_not_finite_is_skipped(make_run: Callable[..., Path]) -> None:
    steps = [{"iteration": 1, "loss": 1.0}, {"iteration": 2, "loss": None}, {"iteration": 3, "loss": 0.5}]
    assert draw_all([load_run(make_run(steps=steps), "run")])[-1].key == "training"


def test_long_curves_are_averaged() -> None:
    steps, values = thin_out([(i, float(i % 2)) for i in range(1, 2001)])
    assert len(steps) == len(values) == 400
    assert steps[0] == 3.0
    assert values[0] == pytest.approx(0.6)
    assert thin_out([(1, 5.0)]) == ([1.0], [5.0])
