"""Answers by a server with OpenAI's API: jobs become calls of the client that the evaluation uses too."""

from collections.abc import Iterator

from megatron_sft.generation.endpoint import Answered, Call, ask, auth_headers, completion_of
from megatron_sft.generation.endpoint_protocol import EndpointSettings
from megatron_sft.generation.engine_messages import Completion
from megatron_sft.traces.config import GenerateTracesConfig
from megatron_sft.traces.work import Backend, Desk, Failure, Job


def endpoint_backend(config: GenerateTracesConfig) -> Backend:
    """Return the backend that asks `config.endpoint`.

    Raises:
        ConfigError: when the variable for the key is not set.
    """
    settings = endpoint_settings(config)
    auth_headers(settings)
    return lambda jobs, desk: _run(settings, jobs, desk)


def endpoint_settings(config: GenerateTracesConfig) -> EndpointSettings:
    """Return the client's settings."""
    assert config.endpoint is not None
    return EndpointSettings(
        url=config.endpoint,
        model=config.model,
        dialect=config.endpoint_dialect,
        api_key_variable=config.api_key_variable,
        max_num_requests=config.max_num_seqs,
        request_timeout=config.request_timeout,
        max_attempts=config.max_attempts,
        retry_delay=config.retry_delay,
        max_retry_delay=config.max_retry_delay,
    )


def _run(settings: EndpointSettings, jobs: Iterator[Job], desk: Desk) -> None:
    """Have all jobs answered and hand what becomes of them to the desk."""
    calls = (Call(subject=job, request=job.request, group=job.query.id) for job in jobs)
    for outcomes in ask(settings, calls):
        for outcome in outcomes:
            if not isinstance(outcome, Answered):
                desk.failed(outcome.subject, Failure(reason=outcome.reason, detail=outcome.detail))
                continue
            answer, job = outcome.answer, outcome.subject
            completion = completion_of(job.request.key, answer)
            if isinstance(completion, Completion):
                desk.done(job, completion, outcome.engine)
            else:
                desk.done_as_text(job, answer.text, answer.num_tokens, answer.finish_reason, outcome.engine)
