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

from tokenizers import Tokenizer

from megatron_sft import cli
from megatron_sft.report.load import Score, load_scores
from megatron_sft.workbench.stages import ROOT, Stage, StageRunner, command


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
    """Run the chain and print where the report is and what it says."""
    started = time.monotonic()
    sizes, folder = SIZES[config.size], config.output
    runner = StageRunner(ROOT / folder)
    runner.run(chain(sizes, folder, min(config.num_processes, os.cpu_count() or 1)))
    seconds = runner.seconds()
    print(f"\nseconds: {', '.join(f'{name} {value:.0f}' for name, value in seconds.items())}")
    print(f"all stages: {sum(seconds.values()):.0f} s; this call: {time.monotonic() - started:.0f} s\n")
    scores, _ = load_scores(ROOT / folder / "eval" / "results.json")
    print(score_table(scores))
    print(f"\nreport: {ROOT / folder / 'report.html'}", flush=True)


def chain(sizes: Sizes, folder: Path, num_processes: int) -> list[Stage]:
    """Every stage in order. Paths are relative to the repository, so that the commands can be typed again."""
    steps = sizes.sft_save_iters
    families = [sizes.trained_task, *sizes.other_tasks]
    names: dict[str, object] = {
        **vars(sizes),
        "run": folder,
        "families": ",".join(families),
        "short_rows": [folder / "data" / "short" / f"{family}.train.jsonl" for family in families],
        "num_processes": num_processes,
        "save_iters": ",".join(map(str, steps)),
        "models": [folder / "hf" / step_name(step) for step in steps],
        "evaluated": ",".join(sizes.evaluated_tasks),
    }
    return [
        *data_stages(ROOT / folder, names),
        *training_stages(ROOT / folder, names, sizes),
        *result_stages(ROOT / folder, names),
    ]


def data_stages(run: Path, names: dict[str, object]) -> list[Stage]:
    """Problems, a vocabulary and shards."""
    make_tasks = "tools/make_tasks --num-held-out {num_held_out}"
    short = (
        f"{make_tasks} --tasks {{families}} --style short --num-train {{num_base_problems}} --output {{run}}/data/short"
    )
    trace = (
        f"{make_tasks} --tasks {{trained_task}} --style trace --num-train {{num_traces}} --output {{run}}/data/trace"
    )
    make_tokenizer = """
        tools/make_tokenizer {short_rows} {run}/data/trace/{trained_task}.train.jsonl
            --vocab-size {vocab_size} --output {run}/tokenizer"""
    build_shards = "tools/build_shards --tokenizer {run}/tokenizer --max-length {max_length} --verify math"
    return [
        Stage(
            name="tasks",
            title="procedural problems: short answers of all families, traces of one, held-out ones of each",
            commands=[command(short, **names), command(trace, **names)],
            outputs=[run / "data"],
        ),
        Stage(
            name="tokenizer",
            title="a byte-level BPE vocabulary learned from these rows",
            commands=[command(make_tokenizer, **names)],
            outputs=[run / "tokenizer"],
        ),
        Stage(
            name="shards",
            title="tokens and loss spans on disk, every answer verified",
            commands=[
                command(f"{build_shards} --output {{run}}/shards/base {{short_rows}}", **names),
                command(
                    f"{build_shards} --output {{run}}/shards/sft {{run}}/data/trace/{{trained_task}}.train.jsonl",
                    **names,
                ),
            ],
            outputs=[run / "shards"],
        ),
    ]


def training_stages(run: Path, names: dict[str, object], sizes: Sizes) -> list[Stage]:
    """The base model, the fine-tuning, and their exports."""
    torchrun = """
        torchrun --standalone --nproc-per-node {num_processes} megatron_sft/pretrain_sft.py --device cpu
            --seq-length {seq_length} --shuffle --lr {lr} --min-lr {min_lr} --lr-warmup-iters {lr_warmup_iters}
            --adam-beta2 {adam_beta2}"""
    pre_train = f"""{torchrun}
            --model {{run}}/config.json --tokenizer {{run}}/tokenizer --data {{run}}/shards/base --save {{run}}/base
            --train-iters {{base_iters}} --global-batch-size {{base_batch_size}}"""
    fine_tune = f"""{torchrun}
            --init-from {{run}}/hf/base --data {{run}}/shards/sft --save {{run}}/train --save-iters {{save_iters}}
            --train-iters {sizes.sft_save_iters[-1]} --global-batch-size {{sft_batch_size}}"""
    export = "tools/convert_checkpoint to-hf --checkpoint {run}/train --iteration {save_iters} --output {run}/hf"
    return [
        Stage(
            name="pre-train",
            title="a base model that answers at once",
            prepare=lambda: write_model_config(sizes, run),
            settings=json.dumps(model_config(sizes, sizes.vocab_size)),
            commands=[command(pre_train, **names)],
            outputs=[run / "base"],
        ),
        Stage(
            name="export-base",
            title="the base model as a Hugging Face folder",
            commands=[
                command("tools/convert_checkpoint to-hf --checkpoint {run}/base --output {run}/hf/base", **names)
            ],
            outputs=[run / "hf" / "base"],
        ),
        Stage(
            name="fine-tune",
            title=f"on traces of {sizes.trained_task}, from the base model",
            commands=[command(fine_tune, **names)],
            outputs=[run / "train"],
        ),
        Stage(
            name="export",
            title=f"{len(sizes.sft_save_iters)} checkpoints as Hugging Face folders",
            commands=[command(export, **names)],
            outputs=[run / "hf" / step_name(step) for step in sizes.sft_save_iters],
        ),
    ]


def step_name(step: int) -> str:
    """Folder name of an exported checkpoint."""
    return f"iter_{step:07d}"


def result_stages(run: Path, names: dict[str, object]) -> list[Stage]:
    """Evaluation and report."""
    evaluate = """
        tools/evaluate --base {run}/hf/base --model {models} --tasks {evaluated} --in-domain {trained_task}
            --data {run}/data/short --max-tokens {max_length} --num-engines {num_processes}
            --output {run}/eval"""
    return [
        Stage(
            name="evaluate",
            title="held-out problems, in domain and out of domain, with vLLM",
            commands=[command(evaluate, **names)],
            outputs=[run / "eval"],
        ),
        Stage(
            name="report",
            title="curves and tables in one page",
            commands=[command("tools/report {run} --output {run}/report.html", **names)],
            outputs=[run / "report.html"],
        ),
    ]


def write_model_config(sizes: Sizes, folder: Path) -> None:
    """Write the base model's config.json; its vocabulary is the tokenizer's."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    config = model_config(sizes, tokenizer.get_vocab_size(with_added_tokens=True))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def model_config(sizes: Sizes, vocab_size: int) -> dict[str, object]:
    """A Hugging Face configuration of a Qwen3 model of this size."""
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
        "vocab_size": vocab_size,
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
