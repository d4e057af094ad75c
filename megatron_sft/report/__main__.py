"""Entry point of tools/report."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from megatron_sft import cli
from megatron_sft.backends import require_extra
from megatron_sft.errors import ConfigError
from megatron_sft.files import write_bytes


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Write one self-contained HTML page about one or several runs, and its curves as PNG files beside it."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, each with train/metrics.jsonl, train/run_config.json and eval/results.json."""
    output: Path
    """HTML file to write; the pictures are NAME-scores.png, NAME-lengths.png and so on beside it."""
    title: str = "Fine-tuning report"
    """Heading of the page."""

    def __post_init__(self) -> None:
        """Refuse what cannot be written."""
        if not self.runs:
            raise ConfigError("no run: name at least one run folder")
        if self.output.suffix != ".html":
            raise ConfigError(f"--output {self.output}: give a file name that ends in .html")


def report(config: ReportConfig) -> None:
    """Load the runs, draw, render and write."""
    require_extra("eval", "matplotlib", "jinja2")
    from megatron_sft.report.checks import warnings_of
    from megatron_sft.report.figures import draw_all
    from megatron_sft.report.load import load_runs
    from megatron_sft.report.page import render

    runs = load_runs(config.runs)
    drawings = draw_all(runs)
    page = render(runs, drawings, title=config.title)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    for drawing in drawings:
        write_bytes(config.output.with_name(f"{config.output.stem}-{drawing.key}.png"), drawing.png)
    write_bytes(config.output, page.encode("utf-8"))
    for run in runs:
        print(f"report: {run.name}: {len(run.scores)} scores, {len(run.steps)} training steps")
        for warning in warnings_of(run):
            print(f"report: {run.name}: warning: {warning}")
    print(f"report: wrote {config.output} and {len(drawings)} pictures beside it", flush=True)


def main() -> int:
    """Parse the command line and run."""
    return cli.run(ReportConfig, report, prog="report")


if __name__ == "__main__":
    sys.exit(main())
