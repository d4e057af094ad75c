"""`tools/generate_traces`: a teacher answers every query several times; docs/traces.md describes the folder."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from megatron_sft import cli
from megatron_sft.data.build_shards import expand_inputs
from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.errors import ConfigError, IncompleteError
from megatron_sft.generation.model_folder import ModelFolder, open_models
from megatron_sft.traces.config import GenerateTracesConfig
from megatron_sft.traces.engines import engines_backend
from megatron_sft.traces.folder import TraceFolder
from megatron_sft.traces.progress import Progress, duration
from megatron_sft.traces.queries import Query, load_queries
from megatron_sft.traces.work import Backend, Desk, Failure


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    return cli.run(GenerateTracesConfig, run, prog="generate_traces", argv=argv)


def run(config: GenerateTracesConfig) -> None:
    """Generate what is missing.

    Raises:
        IncompleteError: when samples failed; they are in the file of failures, all others are on file.
    """
    inputs = expand_inputs(config.inputs)
    tokenizer, identity, context_len, backend = open_teacher(config)
    queries = load_queries(config, inputs, tokenizer)
    rank, size = (0, 1) if config.data_parallel_rank is None else (config.data_parallel_rank, config.data_parallel_size)
    mine = queries[rank::size]
    folder = TraceFolder(
        config.output, settings_of(config, identity, tokenizer), queries, config.num_samples, rank, size
    )
    try:
        missing = {query.id: folder.on_file.missing(query.id, config.num_samples) for query in mine}
        num_missing = sum(map(len, missing.values()))
        print_plan(config, queries, mine, num_missing, tokenizer)
        num_total = len(mine) * config.num_samples
        progress = Progress(num_total, num_total - num_missing)
        fitting = [query for query in mine if fits(query, config.max_tokens, context_len)]
        desk = Desk(config, tokenizer, folder, fitting, progress)
        report_too_long(desk, mine, missing, config.max_tokens, context_len)
        if num_missing > desk.num_failed:
            backend(desk.jobs(), desk)
        progress.end()
        complete = folder.finish()
    finally:
        folder.close()
    print_account(config, progress, desk, complete)


def open_teacher(config: GenerateTracesConfig) -> tuple[ChatTokenizer, str, int | None, Backend]:
    """Return the teacher's tokenizer, what identifies it, its context in tokens if known, and who runs it."""
    if config.endpoint is not None:
        # Imports a package that engines do without.
        from megatron_sft.traces.endpoint import endpoint_backend

        assert config.tokenizer is not None
        return ChatTokenizer(config.tokenizer), config.model, config.max_model_len, endpoint_backend(config)
    model = open_models((Path(config.model),))[0]
    context_len = context_of(config, model)
    return model.tokenizer, model.fingerprint, context_len, engines_backend(config, model, context_len)


def context_of(config: GenerateTracesConfig, model: ModelFolder) -> int:
    """Return the context length in tokens, refusing more than the model was made for."""
    context_len = config.max_model_len or model.max_position_embeddings
    if context_len > model.max_position_embeddings:
        raise ConfigError(
            f"--max-model-len {context_len} is more than {model.path} was made for "
            f"(max_position_embeddings {model.max_position_embeddings})"
        )
    if config.max_tokens >= context_len:
        raise ConfigError(
            f"--max-tokens {config.max_tokens} leaves no room for a prompt in the context of {context_len} tokens: "
            "lower it, or raise --max-model-len"
        )
    return context_len


def settings_of(config: GenerateTracesConfig, identity: str, tokenizer: ChatTokenizer) -> dict[str, Any]:
    """Return what must be the same in every run that adds to a folder."""
    return {
        "teacher": identity,
        "by": "vllm in process" if config.endpoint is None else f"endpoint, {config.endpoint_dialect}",
        "tokenizer_and_template": tokenizer.fingerprint,
        "stop_token_ids": sorted(tokenizer.stop_ids),
        "--seed": config.seed,
        "--dtype": config.dtype,
        "--logprobs": config.logprobs,
        "--prompt-suffix": config.prompt_suffix,
        **{"--" + name.replace("_", "-"): value for name, value in config.sampling().items()},
    }


def fits(query: Query, max_tokens: int, context_len: int | None) -> bool:
    """Say whether the context has room for the prompt and a whole answer: nothing is cut to fit."""
    return context_len is None or len(query.prompt_token_ids) + max_tokens <= context_len


def report_too_long(
    desk: Desk, queries: list[Query], missing: dict[str, list[int]], max_tokens: int, context_len: int | None
) -> None:
    """Report the queries that do not fit."""
    for query in queries:
        if missing[query.id] and not fits(query, max_tokens, context_len):
            detail = (
                f"the prompt has {len(query.prompt_token_ids)} tokens, which with --max-tokens {max_tokens} exceeds "
                f"the context of {context_len}"
            )
            desk.fail_query(query, Failure(reason="prompt_too_long", detail=detail), missing[query.id])


def print_plan(
    config: GenerateTracesConfig, queries: list[Query], mine: list[Query], num_missing: int, tokenizer: ChatTokenizer
) -> None:
    """Say what will be generated and how, with the first prompt as the teacher gets it."""
    share = "" if len(mine) == len(queries) else f", of which this process answers {len(mine)}"
    print(f"queries      {len(queries)}{share}; {config.num_samples} samples each, {num_missing} to generate")
    print(f"teacher      {config.model}{'' if config.endpoint is None else f' at {config.endpoint}'}")
    sampling = config.sampling() | {"seed": config.seed}
    print(f"sampling     {', '.join(f'{name} {value}' for name, value in sampling.items())}")
    print(f"carried      {', '.join(queries[0].carried) or 'nothing'}")
    longest = max(queries, key=lambda query: len(query.prompt_token_ids))
    print(f"prompts      at most {len(longest.prompt_token_ids)} tokens ({longest.where})")
    print(f"first prompt {tokenizer.decode(queries[0].prompt_token_ids)[:500]!r}", flush=True)


def print_account(config: GenerateTracesConfig, progress: Progress, desk: Desk, complete: bool) -> None:
    """Say what became of it."""
    seconds = progress.seconds()
    print(
        f"{progress.num_done} samples generated, {progress.num_tokens} tokens in {duration(seconds)} "
        f"({progress.num_tokens / max(seconds, 1e-9):.0f} tokens/s)"
    )
    if desk.num_failed:
        raise IncompleteError(
            f"{desk.num_failed} samples of {len(desk.failed_queries)} queries failed: {config.output}/failures-*.jsonl "
            "says why; the same command tries them again"
        )
    print(f"traces: {config.output}/traces-*.jsonl{'' if complete else '; other processes have not finished theirs'}")


if __name__ == "__main__":
    sys.exit(main())
