"""Several checkpoints of a run as Hugging Face folders, in one process; also while the run goes on.

    OUTPUT/iter_0000010/    an export, named as the checkpoint
    OUTPUT/iter_0000020/

An export that is there already is left alone when it is whole. One that fails is named, and the others are still done.
"""

import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from megatron_sft.convert import provenance
from megatron_sft.convert.dtypes import Dtype
from megatron_sft.convert.to_hf import checkpoint_fingerprint, export
from megatron_sft.convert.trial import Trial
from megatron_sft.errors import ConversionError, UserError
from megatron_sft.model import checkpoint_dir


@dataclass(frozen=True, kw_only=True)
class Series:
    """Which checkpoints to export, and where to."""

    save: Path
    """A trainer's --save folder."""
    output: Path
    """Folder of the exports."""
    iterations: tuple[int, ...] | None
    """None means every complete checkpoint."""
    dtype: Dtype | None = None
    """Cast the weights to it; by default they keep the checkpoints'."""
    try_it: Trial = "auto"
    """Whether something is generated from each export; see `export`."""
    say: Callable[[str], None] = field(default=print)
    """Receives one line per step."""

    def __post_init__(self) -> None:
        if checkpoint_dir.is_complete(self.save):
            raise ConversionError(f"{self.save} is one iteration already: name the folder above it, or no --iteration")

    def export_present(self) -> None:
        """Export every checkpoint that is asked for.

        Raises:
            CheckpointError: when there is no complete checkpoint at all.
            ConversionError: when an export failed, after the others have been done.
        """
        complete = checkpoint_dir.list_complete(self.save)
        if not complete:
            checkpoint_dir.resolve(self.save)  # says what is there instead
        self._finish(self._export_each(complete if self.iterations is None else self.iterations))

    def follow(self, *, poll_seconds: float, patience_minutes: float) -> None:
        """Export every checkpoint that is asked for as soon as the run has written it, up to the run's last one.

        Args:
            poll_seconds: time between two looks at the folder.
            patience_minutes: give up after so long without a new checkpoint; 0 means never.

        Raises:
            ConversionError: when an export failed, or some are missing when it gave up.
        """
        done: set[int] = set()
        failed: list[int] = []
        last_change = time.monotonic()
        self.say(f"following {self.save}")
        while True:
            # In this order: what the run wrote before its last checkpoint is seen as well.
            new = [iteration for iteration in checkpoint_dir.list_complete(self.save) if self._wants(iteration, done)]
            failed += self._export_each(new)
            done.update(new)
            if new:
                last_change = time.monotonic()
            elif self._is_over(done):
                break
            elif patience_minutes and time.monotonic() - last_change > 60 * patience_minutes:
                raise ConversionError(
                    f"{self.save}: no new checkpoint for {patience_minutes:g} minutes; gave up waiting (exports that "
                    f"failed before: {', '.join(map(str, failed)) or 'none'})"
                )
            else:
                time.sleep(poll_seconds)
        self._finish(failed)

    def _wants(self, iteration: int, done: Collection[int]) -> bool:
        return iteration not in done and (self.iterations is None or iteration in self.iterations)

    def _is_over(self, done: Collection[int]) -> bool:
        """Whether nothing more is to be expected: all named ones have been exported, or the run has ended."""
        if self.iterations is not None and set(self.iterations) <= set(done):
            return True
        complete = checkpoint_dir.list_complete(self.save)
        if not complete or any(self._wants(iteration, done) for iteration in complete):
            return False
        state = checkpoint_dir.read_run_state(checkpoint_dir.iteration_dir(self.save, complete[-1]))
        return complete[-1] >= int(state.get("options", {}).get("train_iters", complete[-1]))

    def _export_each(self, iterations: Collection[int]) -> list[int]:
        """Export these, in their order; returns those that failed, whose reasons have been printed."""
        failed = []
        for iteration in iterations:
            try:
                self._export(iteration)
            except UserError as error:
                failed.append(iteration)
                print(f"error: iteration {iteration} is not exported: {error}", file=sys.stderr, flush=True)
        return failed

    def _export(self, iteration: int) -> None:
        folder = checkpoint_dir.resolve(self.save, iteration)
        output = self.output / folder.name
        if output.exists():
            expected: dict[str, object] = {
                "iteration": iteration,
                "checkpoint_fingerprint": checkpoint_fingerprint(folder),
            }
            if self.dtype is not None:
                expected["dtype"] = self.dtype.value
            problem = provenance.problem(output, expected)
            if problem is None:
                self.say(f"iteration {iteration}: {output} is there already and whole")
                return
            raise ConversionError(f"{output}: exists and is not this export ({problem}); remove it, or name another")
        export(folder, output, dtype=self.dtype, try_it=self.try_it, say=self.say)

    def _finish(self, failed: Collection[int]) -> None:
        if failed:
            raise ConversionError(
                f"{len(failed)} of the exports failed (iterations {', '.join(map(str, failed))}; the reasons are "
                f"above); the others are in {self.output}"
            )
