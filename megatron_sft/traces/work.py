"""What is to be generated: the missing samples, each with a seed of its own, and the row that each one becomes."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.generation.engine_messages import Completion, Request
from megatron_sft.traces.config import GenerateTracesConfig
from megatron_sft.traces.folder import TraceFolder
from megatron_sft.traces.progress import Progress
from megatron_sft.traces.queries import Query


@dataclass(frozen=True, kw_only=True)
class Job:
    """One answer to have."""

    query: Query
    sample: int
    seed: int
    request: Request


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why there is no answer."""

    reason: str
    """One word for one kind, to be counted."""
    detail: str


Backend = Callable[[Iterator[Job], "Desk"], None]
"""Answers the jobs, each with one call of `Desk.done` or `Desk.failed`; one thread at a time draws from them."""


def seed_of(run_seed: int, query_id: str, sample: int) -> int:
    """Return the seed of an answer: 31 bits of the sha256 over run seed, query id and number."""
    return int(hashlib.sha256(json.dumps([run_seed, query_id, sample]).encode()).hexdigest()[:8], 16) >> 1


class Desk:
    """Hands out jobs and takes what becomes of them."""

    def __init__(
        self,
        config: GenerateTracesConfig,
        tokenizer: ChatTokenizer,
        folder: TraceFolder,
        queries: list[Query],
        progress: Progress,
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._folder = folder
        self._queries = queries
        self._progress = progress
        self.num_failed = 0
        """Samples."""
        self.failed_queries: set[str] = set()

    def jobs(self) -> Iterator[Job]:
        """Yield what is missing, the samples of a query one after the other."""
        for query in self._queries:
            for sample in self._folder.on_file.missing(query.id, self._config.num_samples):
                yield self._job(query, sample)

    def ready(self, seconds_ago: float) -> None:
        """Say when an engine took its first prompt."""
        self._progress.ready(seconds_ago)

    def done(self, job: Job, completion: Completion, engine: dict[str, Any]) -> None:
        """File an answer."""
        self._folder.append(self._row(job, completion, engine))
        self._progress.add(len(completion.token_ids))

    def done_as_text(self, job: Job, text: str, num_tokens: int, finish_reason: str, engine: dict[str, Any]) -> None:
        """File an answer of a server that does not tell its tokens."""
        self._folder.append(self._row_of_text(job, text, num_tokens, finish_reason, engine))
        self._progress.add(num_tokens)

    def failed(self, job: Job, failure: Failure) -> None:
        """Report a sample that could not be had."""
        self.fail_query(job.query, failure, samples=[job.sample])

    def fail_query(self, query: Query, failure: Failure, samples: list[int]) -> None:
        """Report samples of a query that cannot be had."""
        self._folder.fail(
            {
                "query_id": query.id,
                "where": query.where,
                "samples": samples,
                "reason": failure.reason,
                "detail": failure.detail,
            }
        )
        self.num_failed += len(samples)
        self.failed_queries.add(query.id)
        self._progress.fail(len(samples))

    def _job(self, query: Query, sample: int) -> Job:
        config = self._config
        seed = seed_of(config.seed, query.id, sample)
        request = Request(
            key=json.dumps([query.id, sample]),
            prompt_token_ids=query.prompt_token_ids,
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            min_p=config.min_p,
            max_tokens=config.max_tokens,
            stop_token_ids=sorted(self._tokenizer.stop_ids),
            # An engine refuses or ignores the seed of a greedy answer.
            seed=None if config.temperature == 0 else seed,
            logprobs=config.logprobs,
        )
        return Job(query=query, sample=sample, seed=seed, request=request)

    def _row(self, job: Job, completion: Completion, engine: dict[str, Any]) -> dict[str, Any]:
        ids = completion.token_ids
        ends = completion.finish_reason == "stop" and ids and ids[-1] in job.request.stop_token_ids
        text = self._tokenizer.decode(ids[:-1] if ends else ids)
        row = self._row_of_text(job, text, len(ids), completion.finish_reason, engine)
        if self._config.logprobs:
            row |= {"token_ids": ids, "token_logprobs": completion.logprobs}
        return row

    def _row_of_text(
        self, job: Job, text: str, num_tokens: int, finish_reason: str, engine: dict[str, Any]
    ) -> dict[str, Any]:
        query = job.query
        # A template may open the think block itself; a response that is trained on has the whole block.
        row = {
            "id": f"{query.id}/{job.sample}",
            "query_id": query.id,
            "sample": job.sample,
            **query.carried,
            "message": query.messages,
            "response": query.opening + text,
            "finish_reason": finish_reason,
            "num_tokens": num_tokens,
            "num_prompt_tokens": len(query.prompt_token_ids),
            "seed": job.seed,
            "sampling": self._config.sampling(),
            "engine": engine,
            "query_sha256": query.sha256,
        }
        return row | {"text": text} if query.opening else row
