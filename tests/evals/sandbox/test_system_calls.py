"""The filter of system calls, run by an interpreter of the few instructions it has."""

import struct

import pytest

from evals.sandbox.system_calls import REFUSED_CALLS, filter_program

ALLOWED, KILLED, REFUSED = 0x7FFF0000, 0x80000000, 0x00050001
X86_64, AARCH64 = 0xC000003E, 0xC00000B7


def decide(program: bytes, number: int, architecture: int) -> int:
    """Interpret the program on a call, as the kernel does."""
    lines = list(struct.iter_unpack("=HBBI", program))
    memory = {0: number, 4: architecture}
    value, at = 0, 0
    while True:
        code, if_true, if_false, operand = lines[at]
        at += 1
        if code == 0x20:
            value = memory[operand]
        elif code == 0x15:
            at += if_true if value == operand else if_false
        elif code == 0x35:
            at += if_true if value >= operand else if_false
        else:
            assert code == 0x06
            return operand


@pytest.mark.parametrize(("machine", "architecture", "column"), [("x86_64", X86_64, 0), ("aarch64", AARCH64, 1)])
def test_only_the_listed_calls_are_refused(machine: str, architecture: int, column: int) -> None:
    program = filter_program(machine)
    assert program is not None
    refused = {numbers[column] for numbers in REFUSED_CALLS.values()}
    assert len(refused) == len(REFUSED_CALLS)
    for number in range(600):
        assert decide(program, number, architecture) == (REFUSED if number in refused else ALLOWED), number
    assert decide(program, 0, X86_64 if column else AARCH64) == KILLED
    assert decide(program, 0x40000000 + 1, architecture) == KILLED


def test_other_processors_have_none() -> None:
    assert filter_program("riscv64") is None
