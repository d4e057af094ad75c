"""What is proven about answers is math-verify's verdict, and no answer holds a worker for longer than the limit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from megatron_sft.data.chat import MathVerifier, decide_math
from megatron_sft.data.math_verify_server import COMMAND, Reference
from megatron_sft.errors import DataError
from megatron_sft.workbench.bench.verification_pairs import Pair, make_pairs

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SERVER = [sys.executable, *COMMAND]


@pytest.fixture(scope="module")
def compare() -> Callable[[str, str], str]:
    pytest.importorskip("math_verify")
    reference = Reference()
    return lambda gold, answer: reference.compare(gold, answer)[0]


def assert_same_verdicts(pairs: list[Pair], compare: Callable[[str, str], str]) -> Counter[str]:
    decided = [(pair, decide_math(*pair)) for pair in pairs]
    differing = [
        (pair, decision, verdict)
        for pair, decision in decided
        if decision != "unknown" and decision != (verdict := compare(*pair))
    ]
    assert differing == []
    return Counter(decision for _, decision in decided)


def test_proofs_on_real_and_generated_pairs(compare: Callable[[str, str], str]) -> None:
    if not SHARED.exists():
        pytest.skip(f"no real answers: {SHARED} does not exist")
    pairs = [pair for _, pair in make_pairs(1000, 20, SHARED)]
    counts = assert_same_verdicts(pairs, compare)
    assert counts["equal"] > 300 and counts["different"] > 200
    assert counts["unknown"] < 50


def test_proofs_on_generated_pairs(compare: Callable[[str, str], str]) -> None:
    pairs = [pair for _, pair in make_pairs(600, 21, None)]
    counts = assert_same_verdicts(pairs, compare)
    assert counts["equal"] > 200 and counts["different"] > 100
    assert counts["unknown"] < 30


# Every rule from both sides, and the oddities of math-verify that a rule must not smooth over.
SPELLED = r"""
    5 | -5 | 5. | 5.0 | 05 | 5% | 5\% | 500\% | 0.05 | x=5 | 5=x | x = 5 | y=5 | 2x=10 | (5) | [5] | {5} | \{5\} |
    $5$ | \$5 | 5^\circ | 5 \text{ cm} | 5 cm | 5m | 5 m^2 | 5_8 | +5 | --5 | 5, | \text{5} | 1/2 | \frac12 |
    \frac{1}{2} | 0.5 | .5 | 0.50 | 50\% | \frac{2}{4} | 2^{-1} | 1:2 | \dfrac 1 2 | 1/2 x | 1/3 | 0.333333 |
    0.3333333 | 0.33333 | 0.3333335 | 33.3333\% | 2\frac{1}{2} | 2.5 | \frac{5}{2} | -2\frac{1}{2} | 2 1/2 | 2(3) |
    2 3 | 2\cdot 3 | 6 | 2\times3 | 1,000 | 1000 | 1, 000 | 1{,}000 | 1\,000 | 1,000,000 | 10,00 | 0,111 | 1.000 |
    1,2 | 2,1 | (1,2) | (2,1) | [1,2] | [1,2) | [2,1] | [2,1) | \{1,2\} | \{2,1\} | 1 and 2 | 1;2 | (1,1) | (1,2,3) |
    (3,2,1) | \{1,2,3\} | 1,2,3 | (1,2),(3,4) | (3,4),(1,2) | 1,1 | [1,2]\cup[3,4] | [3,4] \cup [1,2] |
    (1,2)\cup(2,3) | (1,3) | (-\infty,3) | (-\infty,3] | [-\infty,3] | \emptyset | \{\} | (x,y) | (x,y)=(1,2) |
    \sqrt{8} | 2\sqrt{2} | \sqrt8 | 2\sqrt2 | 2.828427 | 8^{1/2} | \sqrt{2}\cdot 2 | \frac{4}{\sqrt{2}} |
    \sqrt[3]{8} | \pi | 3.14 | 3.141593 | \frac{\pi}{2} | \pi/2 | 0.5\pi | 1.5708 | \frac{1}{2}\pi |
    (3, \frac{\pi}{2}) | x | X | y | e | E | i | I | \text{x} | \text{(B)} | B | b | (B) | \text{B} | \mathrm{B} |
    \textbf{(B)} | \text{even} | even | \text{Even} | odd | \text{ odd} | ab | ba | \text{ab} | dx | \text{pi} |
    \text{e} | x+1 | 1+x | x + 1 | (x+1) | (x+1)^2 | x^2+2x+1 | (x+1)(x+1) | x^2+1 | \frac{x^2-1}{x-1} | x(x+1) |
    x(2) | f(x) | y=2x+1 | y = 2x + 1 | 2x+1 | 2x+1=y | 2x-y+1=0 | y-2x=1 | 2y=4x+2 | y=2x+2 | f(x)=2x+1 | f(x)=2x+2 |
    x=2y | x<5 | 5>x | x\le5 | x \leq 5 | 5 \ge x | x<6 | -5<x<5 | x \in (1,2) | x\in\{1,2\} | x=1,2 | x=1,x=2 |
    x=\pm 2 | \pm 2 | 2,-2 | 1\pm\sqrt{2} | 1+\sqrt{2}, 1-\sqrt{2} | 2+3i | 3i+2 | 2 + 3 i | x=2=3 | 5=5 | 5! | 120 |
    2^{10} | 1024 | 2^10 | 10^3 | \log_{2} 8 | \ln 2 | \sin x | \sin(x) | e^{x} | e^x | \exp(x) | 10^{-20} |
    2\cdot 10^{-20} | \frac{1}{0} | \infty | -\infty | +\infty | \text{ cm} | no | [1,2 | 1) |
    \begin{pmatrix} 1 \\ 2 \end{pmatrix} | \begin{bmatrix}1\\2\end{bmatrix} | \begin{pmatrix} 1 & 2 \end{pmatrix} |
    \begin{pmatrix} 2/2 \\ 2.0 \end{pmatrix} | \begin{pmatrix} 1 \\ x \end{pmatrix} | \lfloor x \rfloor |
    \frac{dx}{dt} = x | x = \frac{d x}{d t} | \frac{d^2 x}{d t^2} | g(x)=2x+1 | y = 5. | y=5 . | 1 + 4. | $5$. | x_1 |
    x_{1} | x_{12} | [3,4,5) | \{1,2,2\} | \{2,2\} | x=\{1,2\} | x=[1,2] | \lfloor x \rfloor + 1 | x + (1 + 2).
"""
SPELLINGS = [text.strip() for text in SPELLED.split("|")]


def test_every_spelling_against_every_other(compare: Callable[[str, str], str]) -> None:
    step = 37
    pairs = [
        (gold, SPELLINGS[(at + offset) % len(SPELLINGS)])
        for at, gold in enumerate(SPELLINGS)
        for offset in (0, *range(1, 8), *range(at % step + 8, len(SPELLINGS), step))
    ]
    assert len(pairs) > 2500
    counts = assert_same_verdicts(pairs, compare)
    assert counts["equal"] > 200 and counts["different"] > 1500


HOSTILE = [
    "9^{9^{9^{9}}}",
    "9^{9^{9^{9^{9^{9}}}}}",
    "100000!",
    "((100!)!)!",
    "(" * 40 + "1" + ")" * 40,
    "{" * 40 + "1" + "}" * 40,
    "\\binom{1000000000}{500000000}",
    "\\sum_{n=1}^{100000000} \\frac{1}{n^n}",
    "__import__('os').system('touch bait')",
    "import os\nos.system('touch bait')",
    "\\frac" * 200,
    "x" * 20_000,
    "\\sqrt{" * 300 + "2" + "}" * 300,
    "1,2," * 2000,
]


@pytest.mark.slow
def test_hostile_answers_end_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("math_verify")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    monkeypatch.chdir(tmp_path)
    verifier = MathVerifier(SERVER, cpu_seconds=1.0, wall_seconds=20.0)
    undecided = 0
    for hostile in HOSTILE:
        began = time.perf_counter()
        verdict, _, cause = verifier.verify("\\sqrt{7}", hostile)
        assert verdict in ("different", "undecided"), hostile[:60]
        assert cause in ("", "cpu_limit", "RecursionError", "MemoryError"), hostile[:60]
        # The limit, the start of a process, and a busy machine.
        assert time.perf_counter() - began < 60, hostile[:60]
        undecided += verdict == "undecided"
    assert undecided >= 2
    assert verifier.verify("x!", "\\Gamma(x+1)")[0] in ("equal", "different")
    assert json.loads(verifier.report())["undecided"]["cpu_limit"] >= 1
    assert list(tmp_path.iterdir()) == []


def test_the_process_ends_with_its_parent() -> None:
    pytest.importorskip("math_verify")
    program = (
        "import sys, time; from megatron_sft.data.chat import MathVerifier;"
        f"verifier = MathVerifier({SERVER!r});"
        "print(verifier.verify('5!', '120'), flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "('equal', 'math_verify', '')\n"
    children = [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
    assert len(children) == 1
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while _runs(children[0]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(children[0])


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.fixture
def verifier() -> Iterator[MathVerifier]:
    verifier = MathVerifier(["/nonexistent/program"])
    yield verifier
    verifier.close()


def test_the_program_is_only_needed_for_what_is_not_proven(verifier: MathVerifier) -> None:
    assert verifier.verify("1/2", "0.5") == ("equal", "fast_path", "")
    assert verifier.verify("1/2", "0.6") == ("different", "fast_path", "")
    with pytest.raises(DataError, match="cannot start /nonexistent/program"):
        verifier.verify("5!", "120")
    verifier.close()
    with pytest.raises(DataError, match="closed"):
        verifier.verify("1/2", "0.5")
