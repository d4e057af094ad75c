"""`tools/bench verification`: math-verify alone against the data layer's path, by processor time.

Every pair is also a comparison of verdicts. Pairs that take math-verify longer than a build allows are listed apart and
left out of both times.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megatron_sft import cli
from megatron_sft._native import MathVerifier, decide_math
from megatron_sft.data.math_verify_server import COMMAND
from megatron_sft.errors import DataError
from megatron_sft.workbench.bench.verification_pairs import Pair, make_pairs

UNHURRIED_S = 60.0
"""Processor time that math-verify alone gets for a pair."""
LIMIT_S = 10.0
"""Processor time that a build gives a pair."""
SERVER = [sys.executable, *COMMAND]

Reference = dict[Pair, tuple[str, float]]
"""math-verify's verdict on a pair, and the seconds of processor time that it took."""


@dataclass(frozen=True, kw_only=True)
class VerificationConfig:
    """Compare the data layer's verdicts on pairs of answers with math-verify's, and the time that both take."""

    num_pairs: int = 20_000
    """Distinct pairs of a gold answer and a boxed one."""
    seed: int = 1
    """Decides which pairs are made."""
    shared: Path | None = None
    """Folder with `eval/` and `traces/` (of real answers); without it there are none among the pairs."""
    store: Path | None = None
    """File that keeps math-verify's verdicts, so that an interrupted run goes on; one for each machine."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand; returns the exit status."""
    return cli.run(VerificationConfig, run, prog="bench verification", argv=argv)


def run(config: VerificationConfig) -> None:
    """Print the comparison.

    Raises:
        DataError: when a verdict differs from math-verify's.
    """
    num_pairs, seed, shared, store = config.num_pairs, config.seed, config.shared, config.store
    chosen = make_pairs(num_pairs, seed, shared)
    pairs = [pair for _, pair in chosen]
    reference = ask_math_verify(pairs, store)
    # An equal margin on both sides: what takes nearly the limit may or may not be decided.
    decided = [pair for pair in pairs if reference[pair][1] < LIMIT_S / 2]
    alone_s = sum(reference[pair][1] for pair in decided)
    _, start_s, _ = ask_data_layer([("5!", "120")])
    ours, ours_s, report = ask_data_layer(decided)
    began = time.process_time()
    fast = Counter(decide_math(*pair) for pair in decided)
    fast_s = time.process_time() - began

    kinds = Counter(kind for kind, _ in chosen)
    print(f"{num_pairs} pairs (seed {seed}): " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    print(f"{'':34}{'cpu-seconds':>12}{'pairs per cpu-second':>22}")
    for name, seconds in (
        ("math-verify alone, without its start", alone_s),
        ("fast path alone", fast_s),
        ("fast path, math-verify for the rest", ours_s),
        ("the same without its start", ours_s - start_s),
    ):
        print(f"{name:36}{seconds:10.2f}{len(decided) / seconds:22.0f}")
    with_start, without = (alone_s + start_s) / ours_s, alone_s / (ours_s - start_s)
    print(f"ratio: {with_start:.1f} with the start of math-verify on both sides, {without:.1f} without it")
    print(f"fast path: {fast['equal']} equal, {fast['different']} different, {fast['unknown']} unknown")
    print(f"report: {report}")
    print(f"left out, more than {LIMIT_S / 2:.0f} cpu-seconds in math-verify: {len(pairs) - len(decided)}")
    for pair in pairs:
        if pair not in ours:
            verdict, seconds = reference[pair]
            print(f"  {pair}: {verdict} after {seconds:.1f} s (fast path: {decide_math(*pair)})")
    differing = [pair for pair in decided if ours[pair] != reference[pair][0]]
    print(f"differing verdicts: {len(differing)}")
    for pair in differing:
        print(f"  {pair}: {ours[pair]}, math-verify says {reference[pair][0]}")
    if differing:
        raise DataError(f"{len(differing)} verdict(s) differ from math-verify's; they are listed above")


def ask_data_layer(pairs: list[Pair]) -> tuple[dict[Pair, str], float, str]:
    """Verdicts, processor time of this process and of the verifier's (its start included), and the report."""
    before = _cpu_seconds()
    verifier = MathVerifier(SERVER, LIMIT_S)
    verdicts: dict[Pair, str] = {pair: verifier.verify(*pair)[0] for pair in pairs}
    report = verifier.report()
    verifier.close()
    return verdicts, _cpu_seconds() - before, report


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def ask_math_verify(pairs: list[Pair], store: Path | None) -> Reference:
    """math-verify's verdicts on all pairs, one after the other in one process, as long as it lives."""
    known: Reference = {}
    if store is not None and store.exists():
        with store.open(encoding="utf-8") as lines:
            for gold, answer, verdict, seconds in map(json.loads, lines):
                known[gold, answer] = (verdict, seconds)
    with open(store or os.devnull, "a", encoding="utf-8") as kept:
        process = None
        for pair in pairs:
            if pair in known:
                continue
            process = process or _start()
            reply = _request(process, pair)
            if reply is None:
                process = None
                reply = {"verdict": "undecided", "cpu_seconds": UNHURRIED_S}
            known[pair] = (reply["verdict"], reply["cpu_seconds"])
            kept.write(json.dumps([*pair, *known[pair]]) + "\n")
        if process is not None:
            process.communicate()
    return known


def _start() -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    process = subprocess.Popen(SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline() or "{}")
    if first != {"ready": True}:
        raise RuntimeError(f"math-verify does not start: {first.get('error', 'no message')}")
    return process


def _request(process: "subprocess.Popen[str]", pair: Pair) -> dict[str, Any] | None:
    """Return the reply; None when the process has ended."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps({"gold": pair[0], "answer": pair[1], "cpu_seconds": UNHURRIED_S}) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        process.communicate()
        return None
    reply: dict[str, Any] = json.loads(line)
    return reply
