"""Recipes for people to read."""

from megatron_sft.recipes import paper, recipe

_LAYOUTS = ["8x80GB", "64x80GB"]
_HEADINGS = ["run", "name", "base-model", "data-set", "lr", "epochs", "batch", "schedule", "iterations", "warm-up"]
_HEADINGS += ["groups", "max-length", *_LAYOUTS]


def table() -> list[str]:
    """The paper's runs, one a line."""
    rows = [_HEADINGS, *(_cells(run) for run in paper.all_runs())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [
        *lines,
        "",
        f"groups: samples in a micro-batch of the published trainer, which ran on {paper.REFERENCE_GPUS} GPUs.",
        f"{' and '.join(_LAYOUTS)}: suggested layouts; the rest of the GPUs is data parallel.",
        f"A run is taken by --recipe {paper.PREFIX}7, with its layout by --recipe {paper.PREFIX}7@{_LAYOUTS[0]}.",
    ]


def _cells(run: paper.PaperRun) -> list[str]:
    option = {name: entry.text for name, entry in run.entries.items()}
    return [
        str(run.number),
        run.name,
        run.facts["base_model"],
        run.facts["data_set"],
        f"{float(option['lr']):g}",
        str(run.facts["epochs"]),
        option["global_batch_size"],
        option["lr_decay_style"],
        option["train_iters"],
        option["lr_warmup_iters"],
        str(run.facts["micro_batch"]),
        str(run.facts["max_length"]),
        *(run.layout_text(layout) for layout in _LAYOUTS),
    ]


def details(name: str) -> list[str]:
    """What a recipe and its bases give, as YAML with origins; what it leaves to the command line as comments."""
    chosen = recipe.load(name)
    width = max((len(f"{option}: {entry.text}") for option, entry in chosen.entries.items()), default=0)
    return [
        *(f"# {note}" for note in chosen.notes),
        *(f"# to be given: --{need.options[0].replace('_', '-')}, {need.text}" for need in chosen.needs),
        *(f"{f'{option}: {entry.text}':<{width}}  # {entry.place}" for option, entry in chosen.entries.items()),
    ]
