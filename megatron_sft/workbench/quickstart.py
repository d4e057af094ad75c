"""The whole chain on a small model, from procedural problems to a report, by the same tools that a large run uses.

A tiny base model is pre-trained on short answers to several task families, then fine-tuned on long, verified traces of
one family; the base and several checkpoints of the fine-tuning are exported and evaluated on held-out problems.
"""

import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from megatron_sft import cli
from megatron_sft.errors import UserError
from megatron_sft.report.load import Score, load_scores
from megatron_sft.stages.graph import Graph, Resources, Stage, command
from megatron_sft.stages.local import LocalRunner, stopped_by_sigterm
from megatron_sft.stages.programs import ROOT


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Everything that decides how long the quickstart takes and how much the model learns."""

    trained_task: str = "addition"
    """Family whose traces the model is fine-tuned on."""
    other_tasks: tuple[str, ...] = ("subtraction", "comparison", "sorting", "reversal", "counting")
    """Families that only the base model is trained on."""
    evaluated_tasks: tuple[str, ...] = ("addition", "comparison", "reversal")
    """Families with held-out problems to evaluate on; all but the trained one are out of domain."""
    num_base_problems: int = 4000
    """Problems with short answers per family, for the base model."""
    num_traces: int = 12000
    """Problems with traces, for the fine-tuning."""
    num_held_out: int = 250
    """Held-out problems per family."""
    vocab_size: int = 384
    """Tokens of the tokenizer."""
    hidden_size: int = 128
    """Width of the model; heads have 32 channels."""
    num_layers: int = 4
    """Transformer layers."""
    seq_length: int = 2048
    """Tokens of a packed row."""
    max_length: int = 256
    """Longest sample and longest evaluated response, tokens."""
    base_iters: int = 500
    """Steps of the base model's training."""
    base_batch_size: int = 32
    """Samples per step of the base model's training."""
    sft_save_iters: tuple[int, ...] = (10, 50, 100, 200, 300, 450)
    """Steps of the fine-tuning at which a checkpoint is saved and evaluated; the last one ends it."""
    sft_batch_size: int = 32
    """Samples per step of the fine-tuning."""
    lr: float = 2e-3
    """Peak learning rate of both trainings."""
    min_lr: float = 1e-4
    """Learning rate at the end of both."""
    lr_warmup_iters: int = 20
    """Steps of linear warm-up of both."""
    adam_beta2: float = 0.95
    """Decay of AdamW's second moment: with 0.999 such short runs learn several times slower."""


SIZES = {
    "small": Sizes(),
    "tiny": Sizes(
        other_tasks=("subtraction",),
        evaluated_tasks=("addition", "subtraction"),
        num_base_problems=200,
        num_traces=200,
        num_held_out=20,
        vocab_size=320,
        hidden_size=64,
        num_layers=2,
        base_iters=6,
        base_batch_size=32,
        sft_save_iters=(2, 4),
        sft_batch_size=16,
        lr_warmup_iters=1,
    ),
}


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig:
    """Train, evaluate and report a tiny reasoning model; what is done already is not done again."""

    output: Path = Path("runs/quickstart")
    """Folder for everything that the run makes, relative to the repository."""
    size: Literal["small", "tiny"] = "small"
    """small learns to add in about 10 minutes on 2 cores; tiny only shows in two that every part works."""
    num_processes: int = 2
    """Data-parallel training processes."""


def quickstart(config: QuickstartConfig) -> None:
    """Run the chain and print where the report is and what it says.

    Raises:
        UserError: when a stage failed, with the end of its output.
    """
    started = time.monotonic()
    sizes, folder = SIZES[config.size], config.output
    graph = chain(sizes, min(config.num_processes, os.cpu_count() or 1))
    with stopped_by_sigterm():
        marks = LocalRunner(graph, folder).run([stage.name for stage in graph])
    for name, mark in marks.items():
        if mark.state == "failed":
            raise UserError(f"{name}: {mark.why}")
    seconds = {name: mark.seconds for name, mark in marks.items()}
    print(f"\nseconds: {', '.join(f'{name} {value:.0f}' for name, value in seconds.items())}")
    print(f"all stages: {sum(seconds.values()):.0f} s; this call: {time.monotonic() - started:.0f} s\n")
    scores, _ = load_scores(ROOT / folder / "eval" / "results.json")
    print(score_table(scores))
    print(f"\nreport: {ROOT / folder / 'report.html'}", flush=True)


def chain(sizes: Sizes, num_processes: int) -> Graph:
    """Every stage."""
    steps = sizes.sft_save_iters
    families = [sizes.trained_task, *sizes.other_tasks]
    names: dict[str, object] = {
        **vars(sizes),
        "families": ",".join(families),
        "short_rows": [f"{{output}}/data/short/{family}.train.jsonl" for family in families],
        "save_iters": ",".join(map(str, steps)),
        "models": [f"{{output}}/hf/{step_name(step)}" for step in steps],
        "evaluated": ",".join(sizes.evaluated_tasks),
        "num_processes": num_processes,
        "model_config": [json.dumps(model_config(sizes))],
    }
    resources = Resources(processes=num_processes)
    return Graph([*data_stages(names), *training_stages(names, sizes, resources), *result_stages(names)])


def data_stages(names: dict[str, object]) -> list[Stage]:
    """Problems, a vocabulary and shards."""
    make_tasks = "tools/make_tasks --num-held-out {num_held_out}"
    short = f"{make_tasks} --tasks {{families}} --style short --num-train {{num_base_problems}}"
    trace = f"{make_tasks} --tasks {{trained_task}} --style trace --num-train {{num_traces}}"
    make_tokenizer = """
        tools/make_tokenizer {short_rows} {output}/data/trace/{trained_task}.train.jsonl
            --vocab-size {vocab_size} --output {output}/tokenizer"""
    build_shards = "tools/build_shards --tokenizer {output}/tokenizer --max-length {max_length} --verify math"
    traces = "{output}/data/trace/{trained_task}.train.jsonl"
    return [
        Stage(
            name="tasks",
            kind="data",
            title="procedural problems: short answers of all families, traces of one, held-out ones of each",
            commands=(
                command(f"{short} --output {{output}}/data/short", **names),
                command(f"{trace} --output {{output}}/data/trace", **names),
            ),
            outputs=("{output}/data",),
        ),
        Stage(
            name="tokenizer",
            kind="data",
            title="a byte-level BPE vocabulary learned from these rows",
            commands=(command(make_tokenizer, **names),),
            outputs=("{output}/tokenizer",),
            after=("tasks",),
        ),
        Stage(
            name="shards",
            kind="data",
            title="tokens and loss spans on disk, every answer verified",
            commands=(
                command(f"{build_shards} --output {{output}}/shards/base {{short_rows}}", **names),
                command(f"{build_shards} --output {{output}}/shards/sft {traces}", **names),
            ),
            outputs=("{output}/shards",),
            after=("tokenizer",),
        ),
    ]


def training_stages(names: dict[str, object], sizes: Sizes, resources: Resources) -> list[Stage]:
    """The base model, the fine-tuning, and their exports."""
    make_config = """
        tools/python -m megatron_sft.studies.running.model_config --config {model_config}
            --tokenizer {output}/tokenizer --output {output}/config.json"""
    train = """
        {torchrun} megatron_sft/pretrain_sft.py --device cpu
            --seq-length {seq_length} --shuffle --lr {lr} --min-lr {min_lr} --lr-warmup-iters {lr_warmup_iters}
            --adam-beta2 {adam_beta2}"""
    pre_train = f"""{train}
            --model {{output}}/config.json --tokenizer {{output}}/tokenizer --data {{output}}/shards/base
            --save {{output}}/base --train-iters {{base_iters}} --global-batch-size {{base_batch_size}}"""
    fine_tune = f"""{train}
            --init-from {{output}}/hf/base --data {{output}}/shards/sft --save {{output}}/train
            --save-iters {{save_iters}} --train-iters {sizes.sft_save_iters[-1]}
            --global-batch-size {{sft_batch_size}}"""
    to_hf = "tools/convert_checkpoint to-hf"
    export = f"{to_hf} --checkpoint {{output}}/train --iteration {{save_iters}} --output {{output}}/hf"
    return [
        Stage(
            name="pre-train",
            kind="train",
            title="a base model that answers at once",
            commands=(command(make_config, **names), command(pre_train, **names)),
            outputs=("{output}/base",),
            after=("shards",),
            resources=resources,
        ),
        Stage(
            name="export-base",
            kind="convert",
            title="the base model as a Hugging Face folder",
            commands=(command(f"{to_hf} --checkpoint {{output}}/base --output {{output}}/hf/base"),),
            outputs=("{output}/hf/base",),
            after=("pre-train",),
        ),
        Stage(
            name="fine-tune",
            kind="train",
            title=f"on traces of {sizes.trained_task}, from the base model",
            commands=(command(fine_tune, **names),),
            outputs=("{output}/train",),
            after=("export-base",),
            resources=resources,
        ),
        Stage(
            name="export",
            kind="convert",
            title=f"{len(sizes.sft_save_iters)} checkpoints as Hugging Face folders",
            commands=(command(export, **names),),
            outputs=tuple(f"{{output}}/hf/{step_name(step)}" for step in sizes.sft_save_iters),
            after=("fine-tune",),
        ),
    ]


def step_name(step: int) -> str:
    """Folder name of an exported checkpoint."""
    return f"iter_{step:07d}"


def result_stages(names: dict[str, object]) -> list[Stage]:
    """Evaluation and report."""
    evaluate = """
        tools/evaluate --base {output}/hf/base --model {models} --tasks {evaluated} --in-domain {trained_task}
            --data {output}/data/short --max-tokens {max_length} --num-engines {num_processes}
            --output {output}/eval"""
    return [
        Stage(
            name="evaluate",
            kind="evaluate",
            title="held-out problems, in domain and out of domain, with vLLM",
            commands=(command(evaluate, **names),),
            outputs=("{output}/eval",),
            after=("export",),
        ),
        Stage(
            name="report",
            kind="report",
            title="curves and tables in one page",
            commands=(command("tools/report {output} --output {output}/report.html"),),
            outputs=("{output}/report.html",),
            after=("evaluate",),
        ),
    ]


def model_config(sizes: Sizes) -> dict[str, object]:
    """A Hugging Face configuration of a Qwen3 model of this size, but for the vocabulary."""
    head_dim = 32
    num_heads = sizes.hidden_size // head_dim
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "hidden_size": sizes.hidden_size,
        # About 0.7 / sqrt(hidden size): 0.02 is for widths of thousands and costs so small a model half its steps.
        "initializer_range": 0.06,
        "intermediate_size": 3 * sizes.hidden_size,
        "max_position_embeddings": 2 * sizes.max_length,
        "num_attention_heads": num_heads,
        "num_hidden_layers": sizes.num_layers,
        "num_key_value_heads": num_heads // 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    }


def score_table(scores: Iterable[Score]) -> str:
    """Base and last checkpoint of each task, as lines of text."""
    lines = [f"{'task':<14} {'group':<14} {'base':>7} {'last':>7} {'points':>7}   of held-out problems, in percent"]
    by_task: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        if score.iteration is not None:
            by_task.setdefault((score.task, score.group), []).append(score)
    for (task, group), points in by_task.items():
        points.sort(key=lambda point: point.iteration or 0)
        first, last = 100 * points[0].score, 100 * points[-1].score
        problems = f"n = {points[-1].num_samples}, step {points[-1].iteration}"
        lines.append(f"{task:<14} {group:<14} {first:>7.1f} {last:>7.1f} {last - first:>+7.1f}   {problems}")
    return "\n".join(lines)


def main() -> int:
    """Entry point of tools/quickstart."""
    return cli.run(QuickstartConfig, quickstart, prog="quickstart")


if __name__ == "__main__":
    sys.exit(main())
