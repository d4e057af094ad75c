"""The answers of one model that are not on file yet, and where they are filed."""

import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from evals.plan import PlannedAnswer, TaskPlan
from evals.records import KeyedRecords
from megatron_sft.generation.endpoint_protocol import TextCompletion
from megatron_sft.generation.engine_messages import Completion, EngineReport, Request


class MissingAnswers:
    """What is to be generated for one model, its tasks together; to be closed. Several threads may call `file`."""

    def __init__(self, output: Path, plans: Sequence[TaskPlan]) -> None:
        self.model = plans[0].model
        stores = [KeyedRecords(plan.records_path(output, "generations")) for plan in plans]
        self._stores = stores
        # Two tasks may ask the same: one answer, filed with each of them.
        self._missing: dict[str, list[tuple[TaskPlan, KeyedRecords, PlannedAnswer]]] = {}
        for plan, store in zip(plans, stores, strict=True):
            for answer in plan.answers:
                if answer.key not in store:
                    self._missing.setdefault(answer.key, []).append((plan, store, answer))
        num_missing = sum(len(places) for places in self._missing.values())
        self.num_reused = sum(len(plan.answers) for plan in plans) - num_missing
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many answers were missing at the beginning."""
        return len(self._missing)

    def requests(self) -> list[Request]:
        """Return the requests for them."""
        return [_request(plan, answer) for (plan, _, answer), *_ in self._missing.values()]

    def file(self, completions: Iterable[Completion | TextCompletion], versions: dict[str, str]) -> None:
        """File what an engine answered."""
        with self._lock:
            for completion in completions:
                for plan, store, answer in self._missing[completion.key]:
                    if answer.key not in store:
                        store.append(record_of(plan, answer, completion, versions))

    def say_reused(self) -> None:
        """Say that there is nothing to do."""
        tqdm.write(f"{self.model.name}: all {self.num_reused} answers are on file", file=sys.stdout)

    def say_generated(self, reports: Sequence[EngineReport]) -> None:
        """Say what the engines did."""
        num_tokens = sum(report.num_tokens for report in reports)
        seconds = max(report.generate_s for report in reports)
        start_s = max(report.start_s for report in reports)
        tqdm.write(
            f"{self.model.name}: {len(self)} answers generated, {self.num_reused} reused; engine ready in "
            f"{start_s:.1f} s, {num_tokens} tokens in {seconds:.1f} s ({num_tokens / max(seconds, 1e-9):.0f} tokens/s)",
            file=sys.stdout,
        )
        sys.stdout.flush()

    def close(self) -> None:
        """Close the files."""
        for store in self._stores:
            store.close()


def record_of(
    plan: TaskPlan, answer: PlannedAnswer, completion: Completion | TextCompletion, versions: dict[str, str]
) -> dict[str, Any]:
    """Return the record to file: everything that grading needs, and where it comes from."""
    if isinstance(completion, TextCompletion):
        text, token_ids, num_tokens = completion.text, list[int](), completion.num_tokens
    else:
        stopped = completion.finish_reason == "stop"
        token_ids, num_tokens = completion.token_ids, len(completion.token_ids)
        text = plan.model.tokenizer.decode(token_ids[:-1] if stopped else token_ids)
    return {
        "key": answer.key,
        "item": answer.item.id,
        "sample": answer.sample,
        "finish_reason": completion.finish_reason,
        "num_tokens": num_tokens,
        "prompt_opens_think": answer.prompt_opens_think,
        "text": text,
        "token_ids": token_ids,
        "num_prompt_tokens": len(answer.prompt_token_ids),
        "seed": answer.seed,
        "model_fingerprint": plan.model.fingerprint,
        "engine": versions,
    }


def _request(plan: TaskPlan, answer: PlannedAnswer) -> Request:
    return Request(
        key=answer.key,
        prompt_token_ids=answer.prompt_token_ids,
        temperature=plan.sampling.temperature,
        top_p=plan.sampling.top_p,
        top_k=plan.sampling.top_k,
        min_p=plan.sampling.min_p,
        presence_penalty=plan.sampling.presence_penalty,
        frequency_penalty=plan.sampling.frequency_penalty,
        max_tokens=plan.sampling.max_tokens,
        stop_token_ids=plan.sampling.stop_token_ids,
        seed=answer.seed,
    )
