"""Entry point of tools/study_report."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from megatron_sft import cli
from megatron_sft.backends import require_extra
from megatron_sft.errors import ConfigError
from megatron_sft.studies.study import load


@dataclass(frozen=True, kw_only=True)
class StudyReportConfig:
    """Say what a study found: one self-contained HTML page, its figures, tables as CSV, and TensorBoard."""

    study: tyro.conf.Positional[str]
    """A study's YAML file, or the name of a packaged one."""
    output: Path
    """Folder to write."""
    run: Path | None = None
    """Output folder of tools/run_study."""
    published: bool = False
    """Make the report of the study's published numbers alone, as if they had been measured."""

    def __post_init__(self) -> None:
        """Refuse two sources, or none."""
        if (self.run is None) != self.published:
            raise ConfigError("give one of --run DIR (a folder that tools/run_study wrote) and --published")


def study_report(config: StudyReportConfig) -> None:
    """Find, and write."""
    require_extra("eval", "matplotlib", "jinja2", "tensorboard")
    from megatron_sft.studies.finding import dump, find, tables, tensorboard
    from megatron_sft.studies.report.page import write

    study = load(config.study)
    findings = find.find_published(study) if config.run is None else find.find(study, config.run)
    config.output.mkdir(parents=True, exist_ok=True)
    dump.write_findings(findings, config.output / "findings.json")
    tables.write_csv(findings, config.output / "csv")
    tensorboard.write_events(findings, config.output / "tensorboard")
    written = write(findings, config.output)
    for claim in findings.claims:
        print(f"study_report: claim {claim.number}: {claim.verdict}: {claim.text}")
    for warning in findings.warnings:
        print(f"study_report: warning: {warning}")
    print(f"study_report: wrote {written[0]} and {(len(written) - 1) // 2} figures", flush=True)


def main() -> int:
    """Parse the command line and run."""
    return cli.run(StudyReportConfig, study_report, prog="study_report")


if __name__ == "__main__":
    sys.exit(main())
