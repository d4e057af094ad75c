"""What a sandboxed program may use, and what became of it."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that one run may use; docs/sandbox.md says how each limit is enforced."""

    wall_s: float = 30.0
    """Seconds from start to the kill of everything."""
    cpu_s: int = 6
    """Processor seconds of each process."""
    memory_bytes: int = 1024 * MIB
    """Address space of each process, and anonymous and shared memory of all of them together."""
    num_processes: int = 64
    """Processes and threads at a time."""
    output_bytes: int = 16 * MIB
    """Standard output and standard error together."""
    folder_bytes: int = 64 * MIB
    """All files in the working folder together; also the largest single file."""
    num_files: int = 10_000
    """Files in the working folder."""
    num_open_files: int = 256
    """Open files of each process."""

    def __post_init__(self) -> None:
        """Refuse limits that leave nothing to run with."""
        if min(self.wall_s, self.cpu_s, self.output_bytes, self.folder_bytes, self.num_files) <= 0:
            raise ValueError(f"every limit of the sandbox must be above 0: {self}")
        if self.num_processes < 4 or self.num_open_files < 16 or self.memory_bytes < 32 * MIB:
            raise ValueError(f"the sandbox needs 4 processes, 16 open files and 32 MiB to start Python: {self}")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended. Everything the program started is gone by then."""

    exit_status: int | None
    """Of the program; None when a signal ended it or the sandbox killed it."""
    signal: int | None
    """That ended the program: a status of 128 + n, as shells report it, counts as signal n."""
    stdout: bytes
    stderr: bytes
    """Both as far as they fit into `Limits.output_bytes`."""
    timed_out: bool
    """Killed at `wall_s`, or ended by the kernel at `cpu_s`."""
    output_exceeded: bool
    memory_exceeded: bool
    """Killed because all processes together held more than `memory_bytes`. One process that asks for more gets
    `MemoryError` instead."""
    files_exceeded: bool
    """Killed because it made more files than `num_files`."""
    wall_s: float
    cpu_s: float
    """Processor seconds of all processes that ended by themselves, the sandbox's own few milliseconds included; what
    was killed at a limit is not in it."""
