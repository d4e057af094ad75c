"""The filter of system calls: those that no exercise needs and that would go past a limit or widen the attack surface.

Memory behind `memfd_create`, System V segments and message queues belongs to no process and no sized file system, so
that no other limit counts it. Namespaces, mounts and tracing are refused by the kernel anyway; the filter is a second
lock on those doors. A filtered call fails with EPERM.
"""

import platform
import struct

# Numbers of the call on x86-64 and on AArch64 (include/uapi/asm-generic/unistd.h); None where it does not exist.
REFUSED_CALLS: dict[str, tuple[int, int]] = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "kexec_load": (246, 104),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
}
# AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64 (linux/audit.h), with the column of the table above.
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_X32_CALLS = 0x40000000
# linux/bpf_common.h and linux/seccomp.h: load a word at an offset, jump if equal, jump if greater or equal, return.
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM = 1


def filter_program(machine: str | None = None) -> bytes | None:
    """Return the filter as an array of `struct sock_filter`, what `bwrap --seccomp` reads; None for other processors.

    Calls of another architecture (32-bit programs on a 64-bit kernel) and of x32 kill the process: their numbers mean
    something else.
    """
    found = _ARCHITECTURES.get(machine or platform.machine())
    if found is None:
        return None
    architecture, column = found
    numbers = [pair[column] for pair in REFUSED_CALLS.values()]
    # struct seccomp_data: the call's number at offset 0, the architecture at offset 4.
    lines = [
        _line(_LOAD, value=4),
        _line(_EQUAL, value=architecture, if_true=1),
        _line(_RETURN, value=_KILL),
        _line(_LOAD, value=0),
        _line(_AT_LEAST, value=_X32_CALLS, if_false=1),
        _line(_RETURN, value=_KILL),
    ]
    for index, number in enumerate(numbers):
        # Jump over the remaining comparisons and the line that allows.
        lines.append(_line(_EQUAL, value=number, if_true=len(numbers) - index))
    lines += [_line(_RETURN, value=_ALLOW), _line(_RETURN, value=_FAIL | _EPERM)]
    return b"".join(lines)


def _line(code: int, *, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
