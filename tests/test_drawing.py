"""What figures share: the axis of the steps, and bytes that depend on the data alone."""

import matplotlib as mpl
from matplotlib.figure import Figure

from megatron_sft.drawing import STYLE, set_step_axis, spread_out, svg_of


def test_step_axis_starts_at_the_base_and_is_labelled_at_steps() -> None:
    axes = Figure().add_subplot()
    set_step_axis(axes, {0, 10, 20, 40})
    formatter = axes.xaxis.get_major_formatter()
    assert [formatter(tick) for tick in axes.get_xticks()] == ["base", "10", "20", "40"]
    assert axes.get_xscale() == "symlog"


def test_step_axis_takes_the_base_alone() -> None:
    axes = Figure().add_subplot()
    set_step_axis(axes, {0})
    assert list(axes.get_xticks()) == [0]


def test_steps_that_stand_too_close_have_no_label() -> None:
    assert spread_out([10, 20, 40, 80, 160, 320, 480, 640], 7) == [10, 20, 40, 80, 160, 320, 640]
    assert spread_out([10, 20, 40, 80, 160, 320, 480, 640], 20) == [10, 20, 40, 80, 160, 320, 480, 640]
    assert spread_out([], 5) == []
    assert spread_out([7], 5) == [7]


def test_svg_is_the_same_for_the_same_figure_and_has_its_text_as_text() -> None:
    def draw(value: float) -> str:
        with mpl.rc_context(STYLE):
            figure = Figure()
            figure.add_subplot(title="score & step").plot([0, value])
            return svg_of(figure)

    assert draw(1.0) == draw(1.0)
    assert draw(1.0) != draw(2.0)
    assert ">score &amp; step</text>" in draw(1.0)
