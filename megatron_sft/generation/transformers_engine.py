"""The side of `engine` that is plain transformers: for machines where vLLM cannot be had.

Answers are made in batches that begin and end together, so the longest answer of a batch holds up the others, and
torch's kernels are launched one by one: several times slower than vLLM. Answers that are sampled depend on the batch,
whose seed is that of its first request; greedy ones do not, but for rounding.
"""

import queue
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from multiprocessing.connection import Connection
from typing import Any

from megatron_sft.errors import EnvironmentProblem
from megatron_sft.generation.engine_messages import Completion, EngineSettings, Inbox, Reload, Request


def serve(connection: Connection, inbox: Inbox, settings: EngineSettings) -> None:
    """Load the model and answer until there is nothing more to do."""
    import torch
    import transformers

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    dtype = "float32" if settings.dtype == "auto" and device.type == "cpu" else settings.dtype
    model = transformers.AutoModelForCausalLM.from_pretrained(settings.model, dtype=dtype).to(device).eval()
    # What a model folder says of sampling must not mix with what is asked for.
    model.generation_config = transformers.GenerationConfig()
    name = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    versions = {"transformers": transformers.__version__, "torch": torch.__version__, "device": name}
    connection.send(("started", {**versions, "dtype": str(model.dtype).removeprefix("torch.")}))
    began = time.perf_counter()
    for requests in batches(inbox, settings.max_num_seqs):
        connection.send(("completions", (answer(model, requests, settings), time.perf_counter() - began)))


def batches(inbox: Inbox, size: int) -> Iterator[list[Request]]:
    """Requests that are sampled alike, at most `size` at a time, in the order in which they came.

    Raises:
        EnvironmentProblem: for other weights, which this engine does not take.
    """
    waiting: deque[Request] = deque()
    is_open = True
    while is_open or waiting:
        # Requests are waited for only where there is nothing else to do.
        while is_open and (not waiting or (len(waiting) < size and not inbox.empty())):
            try:
                message = inbox.get(block=not waiting)
            except queue.Empty:
                break
            if isinstance(message, Reload):
                raise EnvironmentProblem("--reload-weights needs vLLM: leave it out")
            if message is None:
                is_open = False
            else:
                waiting.extend(message)
        if waiting:
            _, alike = next(groupby(waiting, key=_sampling))
            batch = [request for request, _ in zip(alike, range(size), strict=False)]
            for _ in batch:
                waiting.popleft()
            yield batch


def answer(model: Any, requests: Sequence[Request], settings: EngineSettings) -> list[Completion]:
    """Answers to requests that are sampled alike.

    Raises:
        EnvironmentProblem: for what this engine does not have.
    """
    import torch
    import transformers

    first = requests[0]
    if first.presence_penalty or first.frequency_penalty or first.logprobs:
        raise EnvironmentProblem("penalties and log-probabilities need vLLM: leave --engine out")
    longest = max(len(request.prompt_token_ids) for request in requests)
    tokens = torch.zeros(len(requests), longest, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, request in enumerate(requests):
        # On the left, so that answers begin side by side.
        start = longest - len(request.prompt_token_ids)
        tokens[row, start:] = torch.tensor(request.prompt_token_ids)
        mask[row, start:] = 1
    limits = [room(request, settings.max_model_len) for request in requests]
    is_greedy = first.temperature == 0
    sampling = {} if is_greedy else _sampling_options(first)
    config = transformers.GenerationConfig(
        do_sample=not is_greedy,
        max_new_tokens=max(limits),
        eos_token_id=first.stop_token_ids or None,
        pad_token_id=0,
        **sampling,
    )
    if first.seed is not None:
        torch.manual_seed(first.seed)
    with torch.inference_mode():
        output = model.generate(tokens.to(model.device), attention_mask=mask.to(model.device), generation_config=config)
    found = output[:, longest:].tolist()
    return [_completion(request, ids, limit) for request, ids, limit in zip(requests, found, limits, strict=True)]


def room(request: Request, max_model_len: int) -> int:
    """Tokens that an answer may have: what is asked for, within the model's context.

    Raises:
        EnvironmentProblem: for a prompt that fills the context.
    """
    left = max_model_len - len(request.prompt_token_ids)
    if left < 1:
        raise EnvironmentProblem(
            f"a prompt of {len(request.prompt_token_ids)} tokens leaves no room in a context of {max_model_len}: raise "
            "--max-model-len"
        )
    return min(request.max_tokens, left)


def _completion(request: Request, ids: list[int], limit: int) -> Completion:
    """Up to and with the first stop token, within the request's own limit; what follows is padding."""
    ids = ids[:limit]
    end = next((place for place, token in enumerate(ids) if token in request.stop_token_ids), None)
    if end is None:
        return Completion(key=request.key, token_ids=ids, finish_reason="length")
    return Completion(key=request.key, token_ids=ids[: end + 1], finish_reason="stop")


def _sampling(request: Request) -> tuple[Any, ...]:
    """What the requests of a batch share."""
    penalties = (request.presence_penalty, request.frequency_penalty, request.logprobs)
    kept = (request.temperature, request.top_p, request.top_k, request.min_p)
    return (*kept, tuple(request.stop_token_ids), *penalties)


def _sampling_options(request: Request) -> dict[str, Any]:
    """As transformers names them; 0 for top-k means all tokens in both."""
    options = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
    return options | ({"min_p": request.min_p} if request.min_p else {})
