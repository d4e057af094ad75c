"""Draws the curves of a report as PNG: small panels, one for each task or training metric, with a line for each run."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter

from megatron_sft.drawing import DOTS_PER_INCH, FAINT_INK, STYLE, png_of, set_step_axis
from megatron_sft.report.load import IN_DOMAIN, Run, Score

# Told apart also by readers who see few colours; the first two are the ones that a single run uses.
COLOURS = ("#1b6ca8", "#d1662a", "#3a8f5c", "#8b5fbf", "#b5476d", "#6b6b6b")
PANEL_WIDTH, PANEL_HEIGHT, LEGEND_HEIGHT = 3.7, 2.7, 0.35
MAX_COLUMNS = 3
# About this many points are drawn of a long training curve; each is the mean of its neighbours.
MAX_CURVE_POINTS = 400


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One finished figure."""

    key: str
    """Ending of its file name."""
    title: str
    """Heading on the page."""
    caption: str
    """What the reader sees, in one or two sentences."""
    png: bytes
    """The picture."""


def draw_all(runs: list[Run]) -> list[Drawing]:
    """Draw every figure for which there is data."""
    drawings = []
    with mpl.rc_context(STYLE):
        if any(run.scores for run in runs):
            drawings += [draw_scores(runs), draw_lengths(runs), draw_cut_off(runs)]
        if any(run.steps for run in runs):
            drawings.append(draw_training(runs))
    return drawings


def draw_scores(runs: list[Run]) -> Drawing:
    """Score of each task over the steps, with error bars."""
    in_points = {score.task for run in runs for score in run.scores if score.unit == "points"}

    def finish(axes: Axes, task: str) -> None:
        if task in in_points:
            axes.set_ylabel("points")
            return
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))

    return Drawing(
        key="scores",
        title="Score per task over steps",
        caption="Share of held-out problems answered rightly (or mean points), with one standard error. "
        "The steps' axis is logarithmic.",
        png=draw_tasks(runs, lambda score: score.score, finish, error=lambda score: score.stderr),
    )


def draw_lengths(runs: list[Run]) -> Drawing:
    """Mean response length of each task over the steps."""

    def finish(axes: Axes, task: str) -> None:
        axes.set_ylim(bottom=0, top=max(axes.get_ylim()[1], 1.0))

    return Drawing(
        key="lengths",
        title="Response length over steps",
        caption="Mean number of generated tokens, trace included.",
        png=draw_tasks(runs, lambda score: score.mean_length, finish),
    )


def draw_cut_off(runs: list[Run]) -> Drawing:
    """Share of generations that the length limit ended."""

    def finish(axes: Axes, task: str) -> None:
        axes.set_ylim(-0.03 * max(axes.get_ylim()[1], 0.1), max(axes.get_ylim()[1], 0.1))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))

    return Drawing(
        key="cut-off",
        title="Share cut off over steps",
        caption="Share of generations that reached the length limit before the stop token; they count as wrong.",
        png=draw_tasks(runs, lambda score: score.share_cut_off, finish),
    )


def draw_training(runs: list[Run]) -> Drawing:
    """Loss, learning rate, gradient norm and speed over the steps."""
    metrics = (
        ("loss", "loss per trained token"),
        ("lr", "learning rate"),
        ("grad_norm", "gradient norm"),
        ("tokens_per_s", "tokens/s"),
    )
    figure, panels = panel_grid(len(metrics), num_columns=2, width=1.5 * PANEL_WIDTH)
    for axes, (key, title) in zip(panels, metrics, strict=True):
        axes.set_title(title)
        for number, run in enumerate(runs):
            points = [(step["iteration"], step[key]) for step in run.steps if is_number(step.get(key))]
            if points:
                axes.plot(*thin_out(points), color=run_colour(number), label=run.name, linewidth=1.4)
        if not axes.lines:
            axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=FAINT_INK)
        axes.margins(y=0.12)
        axes.set_ylim(bottom=0 if key in ("lr", "tokens_per_s") else None)
        axes.set_xlabel("step")
    add_run_legend(figure, runs)
    return Drawing(
        key="training",
        title="Training",
        caption="A step's loss is the mean over all trained tokens of its batch; the gradient norm is before clipping.",
        png=png_of(figure),
    )


def draw_tasks(
    runs: list[Run],
    value: Callable[[Score], float],
    finish: Callable[[Axes, str], None],
    error: Callable[[Score], float | None] | None = None,
) -> bytes:
    """Draw one panel for each task, in-domain ones first, with a line for each run.

    With a single run the colour tells the group; with several it tells the run, and the group stands in the title.
    """
    tasks = sorted(dict.fromkeys(pair for run in runs for pair in run.tasks), key=lambda pair: pair[1] != IN_DOMAIN)
    figure, panels = panel_grid(len(tasks), num_columns=2 if len(tasks) == 4 else min(MAX_COLUMNS, len(tasks)))
    for axes, (task, group) in zip(panels, tasks, strict=True):
        axes.set_title(task)
        group_colour = COLOURS[0] if group == IN_DOMAIN else COLOURS[1]
        tag_colour = group_colour if len(runs) == 1 else FAINT_INK
        axes.set_title(group, loc="right", fontsize=8.5, fontweight="normal", color=tag_colour)
        for number, run in enumerate(runs):
            colour = group_colour if len(runs) == 1 else run_colour(number)
            draw_curve(axes, run, task, value, error, colour)
        set_step_axis(axes, {score.iteration or 0 for run in runs for score in run.curve(task)})
        finish(axes, task)
    add_run_legend(figure, runs)
    return png_of(figure)


def draw_curve(
    axes: Axes,
    run: Run,
    task: str,
    value: Callable[[Score], float],
    error: Callable[[Score], float | None] | None,
    colour: str,
) -> None:
    """Draw one run's line for one task, and a dotted level for each model that belongs to no step."""
    points = run.curve(task)
    errors = [error(score) for score in points] if error else []
    bars = [math.nan if one is None else one for one in errors] or None
    steps = [score.iteration or 0 for score in points]
    axes.errorbar(steps, [value(score) for score in points], yerr=bars, fmt="o-", capsize=2.5, color=colour)
    for score in run.scores:
        if score.task == task and score.iteration is None:
            axes.axhline(value(score), color=colour, linestyle=":", linewidth=1.2)
            label = f"{score.model:.24}"
            axes.annotate(label, (0.01, value(score)), xycoords=("axes fraction", "data"), fontsize=7.5, va="bottom")


def panel_grid(num_panels: int, *, num_columns: int, width: float = PANEL_WIDTH) -> tuple[Figure, list[Axes]]:
    """A figure with `num_panels` panels in rows of `num_columns`; `width` of one panel in inches."""
    num_rows = math.ceil(num_panels / num_columns)
    size = (num_columns * width, num_rows * PANEL_HEIGHT + LEGEND_HEIGHT)
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout=layout)
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(num_rows, num_columns, i + 1) for i in range(num_panels)]


def add_run_legend(figure: Figure, runs: list[Run]) -> None:
    """Name the runs above the panels when there are several."""
    if len(runs) > 1:
        handles = [mpl.lines.Line2D([], [], color=run_colour(i), marker="o") for i in range(len(runs))]
        figure.legend(handles, [run.name for run in runs], loc="outside upper left", ncols=min(4, len(runs)))


def run_colour(number: int) -> str:
    """The colour of the run at this place of the command line."""
    return COLOURS[number % len(COLOURS)]


def thin_out(points: list[tuple[int, float]]) -> tuple[list[float], list[float]]:
    """Steps and values, averaged over neighbours where there are more than can be seen."""
    group = math.ceil(len(points) / MAX_CURVE_POINTS)
    chunks = [points[start : start + group] for start in range(0, len(points), group)]
    return [mean(step for step, _ in chunk) for chunk in chunks], [
        mean(value for _, value in chunk) for chunk in chunks
    ]


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean of a non-empty sequence."""
    numbers = list(values)
    return sum(numbers) / len(numbers)


def is_number(value: object) -> bool:
    """Whether a metric has a value that can be drawn (null where it was not finite)."""
    return isinstance(value, int | float) and math.isfinite(value)
