"""The data card: Markdown about a finished set. Text of models and sources is untrusted, and shown as text only."""

import io
import re
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from megatron_sft.data.safe_text import neutralise
from megatron_sft.dataset_recipes.facts import Facts, Span

SHOWN_CHARS = 600
"""A span of a sample is shortened to so many characters at either end."""
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#!|~$&^])")
_COLOUR, _INK, _FAINT = "#1b6ca8", "#22303c", "#d9dee3"
_STYLE: dict[str, Any] = {
    "font.size": 9.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _FAINT,
    "text.color": _INK,
    "text.parse_math": False,
}


def render(facts: Facts) -> str:
    """Return the card."""
    parts = [_head(facts), _lengths(facts), _acceptance(facts), _verification(facts), _drops(facts), _overlap(facts)]
    parts += [_samples(facts), _origin(facts), _versions(facts)]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: Any) -> str:
    """Return text of others on one line, with everything escaped that Markdown, HTML or a terminal would act on."""
    return _MARKUP.sub(r"\\\1", neutralise(" ".join(str(text).split())))


def fenced(text: str) -> str:
    """Return text as a block that it cannot end: the fence is longer than any run of backticks in it."""
    shown = neutralise(text, keep="\n\t")
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", shown)), 3)
    return f"{fence}text\n{shown}\n{fence}"


def shortened(text: str) -> str:
    """Return text with its middle left out, and how much of it."""
    left_out = len(text) - 2 * SHOWN_CHARS
    if left_out <= 0:
        return text
    return f"{text[:SHOWN_CHARS]}\n[... {left_out} characters left out ...]\n{text[-SHOWN_CHARS:]}"


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Return a table; its cells are made safe."""
    lines = [head, tuple("---" for _ in head), *(tuple(map(plain, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _head(facts: Facts) -> str:
    data, shards = facts.dataset, facts.dataset["stages"]["shards"]
    rows = [
        ("rows", f"{data['num_rows']:,}"),
        ("tokens", f"{shards['tokens']:,}, of these trained {shards['trained_tokens']:,}"),
        ("rows come from", data["route"]),
        ("rows.parquet, sha256", data["rows_sha256"]),
        ("shards, fingerprint", data["shards_fingerprint"]),
        ("tokenizer, fingerprint", data["tokenizer_fingerprint"]),
    ]
    return f"# {plain(data['title'])}\n\n{plain(data['description'])}\n\n{_table(('', ''), rows)}"


def _lengths(facts: Facts) -> str:
    lengths = facts.lengths
    rows = [
        ("mean", f"{lengths.mean():,.1f}"),
        ("median", f"{np.median(lengths):,.1f}"),
        ("90th percentile", f"{np.percentile(lengths, 90):,.1f}"),
        ("longest", f"{lengths.max():,}"),
    ]
    cut = facts.dataset["stages"]["shards"]["notices"].get("truncated", {}).get("count", 0)
    lines = [f"Rows cut at {facts.max_length:,} tokens: {cut} ({_percent(cut, len(lengths))})."]
    total = sum(facts.finish_reasons.values())
    if total:
        cut_off = facts.finish_reasons.get("length", 0)
        lines.append(
            f"Of the teacher's {total:,} responses the limit cut off {cut_off:,} ({_percent(cut_off, total)})."
        )
    else:
        lines.append("How many of the teacher's responses the limit cut off, the source does not tell.")
    table = _table(("response, in tokens", ""), rows)
    return f"## Lengths\n\n{table}\n\n{' '.join(lines)}\n\n![response lengths](lengths.png)"


def _acceptance(facts: Facts) -> str:
    if not facts.has_several and all(one["verify"] == "none" for one in _selections(facts)):
        return "## Acceptance\n\nThe rows were taken as they are: nothing was verified or chosen in this build."
    responses = sum(count * num for count, _, num in facts.accepted)
    accepted = sum(count * num for _, count, num in facts.accepted)
    none = sum(num for _, count, num in facts.accepted if count == 0)
    text = (
        f"{facts.num_queries:,} queries with {responses:,} responses; {accepted:,} responses "
        f"({_percent(accepted, responses)}) passed filters and verifier. Queries with none: {none:,} "
        f"({_percent(none, facts.num_queries)})."
    )
    picture = "\n\n![accepted responses per query](acceptance.png)" if facts.has_several else ""
    return f"## Acceptance\n\n{text}{picture}"


def _selections(facts: Facts) -> list[dict[str, Any]]:
    """Return what the recipe, and the one whose rows were made on the way, say of the selection."""
    data = facts.dataset
    recipes = [data["recipe"], *([data["starts_from"]] if "base-select" in data["stages"] else [])]
    return [recipe["select"] for recipe in recipes]


def _verification(facts: Facts) -> str:
    blocks = []
    for name in ("base-select", "select"):
        stage = facts.dataset["stages"].get(name)
        if stage is None or not stage["verification"]:
            continue
        total = sum(stage["verification"].values())
        rows = [
            (who.replace("_", " "), f"{count:,}", _percent(count, total))
            for who, count in stage["verification"].items()
        ]
        undecided = stage["rejected_by_reason"].get("undecided", 0)
        blocks.append(f"{_table(('decided by', 'answers', 'share'), rows)}\n\nUndecided: {undecided:,}.")
    exact = any(stage["verify"] == "countdown" for stage in _selections(facts))
    nothing = "Answers were checked in exact arithmetic." if exact else "No answer was verified in this build."
    return "## Verifier\n\n" + ("\n\n".join(blocks) or nothing)


def _drops(facts: Facts) -> str:
    drops = facts.dataset["dropped_by_reason"]
    rows = [(reason, f"{count:,}") for reason, count in drops.items()]
    return "## Left out\n\n" + (_table(("stage: reason", "number"), rows) if rows else "Nothing.")


def _overlap(facts: Facts) -> str:
    found = facts.dataset["overlap"]
    if not found:
        return "## Overlap with benchmarks\n\nNot looked for (`--benchmarks NAME=FILE`)."
    rows = [
        (name, f"{one['repeated']:,} of {one['questions']:,}", f"{one['share']:.2%}") for name, one in found.items()
    ]
    examples = [f"* row {hit['row']}: {plain(hit['detail'])}" for one in found.values() for hit in one["examples"]]
    table = _table(("benchmark", "questions that repeat one of it", "share"), rows)
    note = "They are counted here, not dropped."
    return "\n\n".join(["## Overlap with benchmarks", table, note, *(["\n".join(examples)] if examples else [])])


def _samples(facts: Facts) -> str:
    blocks = ["## Samples\n\nMasked text is context; the loss counts trained text alone."]
    for number, sample in facts.samples:
        blocks.append(f"### Sample {number}")
        blocks += [_span(span) for span in sample]
    return "\n\n".join(blocks)


def _span(span: Span) -> str:
    kind = "Trained" if span.trained else "Masked"
    return f"{kind}, {span.num_tokens:,} tokens:\n\n{fenced(shortened(span.text))}"


def _origin(facts: Facts) -> str:
    data = facts.dataset
    rows = []
    for name, source in data["sources"].items():
        where = source["hub"] or (
            f"local files; described as {source['described_as']}" if source["described_as"] else ""
        )
        files = ", ".join(f"{file['name']} ({file['sha256'][:12]})" for file in source["files"][:5])
        more = f" and {len(source['files']) - 5} more" if len(source["files"]) > 5 else ""
        rows.append((name, where or "local files", source["revision"] or "-", files + more, source["licence"]))
    blocks = ["## Origin", _table(("source", "where", "revision", "files (sha256)", "licence"), rows)]
    if data["generation"]:
        made = "Answers of the teacher were made, by the recipe, with:"
        blocks.append(f"{made}\n\n{_table(('setting', 'value'), list(data['generation'].items()))}")
    generated = next((data["stages"][name] for name in ("base-traces", "traces") if name in data["stages"]), None)
    if generated is not None:
        settings = list(generated["settings"].items())
        settings += [("engine", engine) for engine in generated.get("engines", [])]
        blocks.append("They were generated in this build, with:\n\n" + _table(("setting", "value"), settings))
    if data["subset"]:
        chosen = data["subset"]
        by_seed = f" with seed {chosen['seed']}" if chosen["how"] == "random" else ""
        blocks.append(f"{chosen['num']:,} of {chosen['of']:,} rows were chosen ({chosen['how']}{by_seed}).")
    deviations = [(one["what"], one["recipe"], one["used"]) for one in data["deviations"]]
    if deviations:
        blocks.append("Where this build differs from its recipe:\n\n" + _table(("what", "recipe", "here"), deviations))
    else:
        blocks.append("This build is as its recipe says.")
    return "\n\n".join(blocks)


def _versions(facts: Facts) -> str:
    rows = [(name, version or "not installed") for name, version in facts.dataset["versions"].items()]
    return "## Versions\n\n" + _table(("package", "version"), rows)


# ---- pictures ----


def pictures(facts: Facts) -> dict[str, bytes]:
    """Return PNG files by name."""
    with mpl.rc_context(_STYLE):
        drawn = {"lengths.png": _picture(_draw_lengths, facts)}
        if facts.has_several:
            drawn["acceptance.png"] = _picture(_draw_acceptance, facts)
    return drawn


def _picture(draw: Any, facts: Facts) -> bytes:
    figure = Figure(figsize=(6.4, 3.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.subplots(), facts)
    content = io.BytesIO()
    # No version and date inside: equal sets have equal pictures.
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def _draw_lengths(axes: Axes, facts: Facts) -> None:
    axes.hist(facts.lengths, bins=min(60, max(10, len(facts.lengths) // 8)), color=_COLOUR)
    axes.set_xlabel("tokens of a response")
    axes.set_ylabel("rows")


def _draw_acceptance(axes: Axes, facts: Facts) -> None:
    most = max(count for count, _, _ in facts.accepted)
    bars = np.zeros(most + 1)
    for _, accepted, num in facts.accepted:
        bars[accepted] += num
    axes.bar(range(most + 1), bars, color=_COLOUR, width=0.85)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"accepted responses of a query (of {most})")
    axes.set_ylabel("queries")
