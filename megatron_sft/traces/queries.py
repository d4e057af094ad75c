"""Queries: rows of JSON Lines or Parquet files, checked before anything is generated, with their rendered prompts."""

import gzip
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_sft.data.chat import ChatTokenizer
from megatron_sft.errors import ConfigError, DataError, EnvironmentProblem
from megatron_sft.traces.config import QUERY_FIELDS, GenerateTracesConfig

OWN_FIELDS = frozenset(
    (
        *("id", "query_id", "sample", "message", "response", "text", "num_tokens", "num_prompt_tokens"),
        *("finish_reason", "seed", "sampling", "engine", "token_ids", "token_logprobs", "query_sha256"),
    )
)
"""The names in a row of traces that a carried column cannot have."""
FAULTS_SHOWN = 5
THINK_OPENING = re.compile(r"<think>\s*\Z")


@dataclass(frozen=True, kw_only=True)
class Query:
    """One query, ready to be answered."""

    id: str
    """Unique among the queries."""
    where: str
    """File and line, or file and row."""
    messages: list[dict[str, Any]]
    """The turns that the template rendered."""
    prompt_token_ids: list[int]
    opening: str
    """The think tag that the prompt ends with, and the space behind it; empty where it ends otherwise."""
    carried: dict[str, Any]
    """The columns that go into every row."""
    sha256: str
    """16 hex digits over prompt ids and carried columns: rows on file with others belong to another query."""


def load_queries(config: GenerateTracesConfig, files: list[str], tokenizer: ChatTokenizer) -> list[Query]:
    """Read and render all queries, in the order of the files.

    Raises:
        DataError: for rows that are no queries, and ids that occur twice; the message has file and line of the first
            ones, and how many there are.
        ConfigError: when a column that was asked for does not exist.
    """
    queries: list[Query] = []
    places: dict[str, str] = {}
    faults: list[str] = []
    reader = _Reader(config, tokenizer)
    for where, row in (pair for file in files for pair in read_rows(Path(file))):
        try:
            query = reader.query(where, row)
            if query.id in places:
                raise DataError(f"{where}: the id {query.id!r} is that of {places[query.id]}; {_REMEDY_FOR_IDS}")
        except DataError as error:
            faults.append(str(error))
            continue
        places[query.id] = where
        queries.append(query)
        if len(queries) == config.limit:
            break
    if faults:
        more = f"\nand {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
        raise DataError(f"{len(faults)} rows are no queries:\n" + "\n".join(faults[:FAULTS_SHOWN]) + more)
    if not queries:
        raise DataError(f"no queries in {', '.join(files)}")
    if config.limit is not None and len(queries) < config.limit:
        raise DataError(f"--limit {config.limit}: there are only {len(queries)} queries")
    if reader.left_out:
        print(f"not carried along, as the rows have fields of these names: {', '.join(sorted(reader.left_out))}")
    return queries


_REMEDY_FOR_IDS = "remove one of both, or name another column with --columns id=COLUMN"


class _Reader:
    """Turns rows into queries."""

    def __init__(self, config: GenerateTracesConfig, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._suffix = config.prompt_suffix
        self._named = config.column_names()
        self._columns = {field: self._named.get(field, field) for field in QUERY_FIELDS}
        self._carry = config.carry
        self.left_out: set[str] = set()
        """Columns that are not carried since their names are taken."""
        taken = OWN_FIELDS & set(config.carry or ())
        if taken:
            raise ConfigError(f"--carry {sorted(taken)[0]}: the rows have a field of this name; rename the column")

    def query(self, where: str, row: dict[str, Any]) -> Query:
        messages = self._messages(where, row)
        carried = self._carried(where, row)
        try:
            # What cannot be written to a file at the end is found now: lone surrogates, NaN.
            content = json.dumps([messages, carried], ensure_ascii=False, allow_nan=False, default=str).encode()
            messages, carried = json.loads(content)
            prompt = self._tokenizer.render(messages, True)
            prompt_token_ids = self._tokenizer.encode(prompt)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: cannot be rendered or written: {error}") from error
        if not prompt_token_ids:
            raise DataError(f"{where}: the chat template renders it as nothing")
        opening = THINK_OPENING.search(prompt)
        return Query(
            id=self._id(where, row, messages),
            where=where,
            messages=messages,
            prompt_token_ids=prompt_token_ids,
            opening=opening.group() if opening else "",
            carried=carried,
            sha256=_sha256([prompt_token_ids, carried])[:16],
        )

    def _id(self, where: str, row: dict[str, Any], messages: list[dict[str, Any]]) -> str:
        value = row.get(self._columns["id"])
        if value is None and "id" not in self._named:
            return _sha256(messages)[:32]
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise DataError(f"{where}: the id in column {self._columns['id']} is {value!r}, expected text or a number")
        return str(value)

    def _messages(self, where: str, row: dict[str, Any]) -> list[dict[str, Any]]:
        value = row.get(self._columns["message"])
        if value is None:
            text = row.get(self._columns["prompt"])
            value = None if text is None else [{"role": "user", "content": text}]
        elif isinstance(value, str):
            # Some files hold the turns as JSON text.
            value = _parsed(value.encode(errors="surrogatepass"), f"{where}, {self._columns['message']}")
        if not isinstance(value, list) or not value or not all(_is_turn(turn) for turn in value):
            columns = f"{self._columns['message']} (turns with role and content) or {self._columns['prompt']} (text)"
            raise DataError(f"{where}: expected {columns}, found {_shown(row)}")
        messages = [{key: part for key, part in turn.items() if part is not None} for turn in value]
        if messages[-1]["role"] == "assistant":
            raise DataError(f"{where}: the last turn is the assistant's: there is nothing left to answer")
        if not messages[-1]["content"].strip():
            raise DataError(f"{where}: the prompt is empty")
        if self._suffix:
            if messages[-1]["role"] != "user":
                raise DataError(f"{where}: the last turn is not the user's: --prompt-suffix has no place")
            messages[-1]["content"] += self._suffix
        return messages

    def _carried(self, where: str, row: dict[str, Any]) -> dict[str, Any]:
        if self._carry is not None:
            missing = [name for name in self._carry if name not in row]
            if missing:
                raise DataError(f"{where}: no column {missing[0]}, which --carry names; there are {', '.join(row)}")
            return {name: row[name] for name in self._carry}
        sources = {self._columns[field] for field in QUERY_FIELDS}
        rest = {name: value for name, value in row.items() if name not in sources}
        # `prompt` would stand beside `message`, which says the same.
        self.left_out.update(rest.keys() & (OWN_FIELDS | {"prompt"}))
        return {name: value for name, value in rest.items() if name not in OWN_FIELDS and name != "prompt"}


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a file, each with its place for messages.

    Raises:
        DataError: for a file that cannot be read, or a line that is not a JSON object.
        EnvironmentProblem: for Parquet without pyarrow.
    """
    try:
        if path.suffix == ".parquet":
            yield from _parquet_rows(path)
        elif path.name.endswith((".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")):
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
                yield from _json_rows(path, lines)
        else:
            raise DataError(f"{path}: expected a file of queries named .jsonl, .jsonl.gz or .parquet")
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _json_rows(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _parsed(line, f"{path}:{number}")
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: expected an object, found {type(row).__name__}: {line[:80]!r}")
        yield f"{path}:{number}", row


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise EnvironmentProblem(f"{path}: Parquet needs the package pyarrow: pip install pyarrow") from error
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", {name: _finite(value) for name, value in row.items()}
    except ArrowException as error:
        raise DataError(f"{path}: cannot be read behind row {number}: {error}") from error


def _finite(value: Any) -> Any:
    """Return `value`, or None for the NaN that stands for a missing number in Parquet."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parsed(text: bytes, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error}): {text[:80]!r}") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no value of JSON")


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)


def _shown(row: dict[str, Any]) -> str:
    return repr(row)[:120]


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
