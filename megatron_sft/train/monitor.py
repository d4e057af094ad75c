"""What a run tells: one line, one metrics.jsonl object and TensorBoard scalars per iteration, on rank 0."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from megatron_sft.files import write_text
from megatron_sft.metrics import JsonlWriter, drop_partial_line, read_jsonl

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """Figures of one iteration, over all ranks."""

    iteration: int
    """Counted from 1."""
    loss: float
    """Mean over the trained tokens of the global batch, before the update."""
    grad_norm: float
    """Global L2 norm before clipping."""
    lr: float
    """Learning rate of this update."""
    trained_tokens: int
    """Trained tokens of the global batch."""
    tokens: int
    """Real tokens of the global batch."""
    num_samples: int
    """Samples of the global batch."""
    num_rows: int
    """Rows of the global batch, over all data-parallel ranks."""
    row_length: int
    """Tokens of each row, padding included."""
    fill: float
    """Real tokens / (rows x row_length): the share of what is computed that is not padding."""
    consumed_samples: int
    """Samples trained since the start, this iteration included."""
    epoch: float
    """Passes over the data so far."""
    step_time_s: float
    """Wall-clock seconds of the iteration, without saving."""
    data_wait_s: float
    """Of these, seconds in which rank 0 waited for its rows."""
    tokens_per_s: float
    """Real tokens of the global batch / step_time_s."""


class Monitor:
    """Writes records; on ranks other than 0 make none."""

    def __init__(self, save: Path, tensorboard_dir: Path, *, resumed_iteration: int) -> None:
        """Open the files, dropping what an interrupted run recorded beyond the checkpoint that it resumes from."""
        path = save / METRICS_FILE
        drop_records_after(path, resumed_iteration)
        self._jsonl = JsonlWriter(path)
        self._tensorboard = SummaryWriter(str(tensorboard_dir), purge_step=resumed_iteration + 1)

    def record(self, record: StepRecord, *, train_iters: int) -> None:
        """Write one iteration."""
        self._jsonl.write(asdict(record))
        scalars: Mapping[str, float] = {
            "train/loss": record.loss,
            "train/learning_rate": record.lr,
            "train/grad_norm": record.grad_norm,
            "train/trained_tokens": record.trained_tokens,
            "throughput/tokens_per_s": record.tokens_per_s,
            "throughput/step_time_s": record.step_time_s,
            "data/fill": record.fill,
            "data/data_wait_s": record.data_wait_s,
        }
        for name, value in scalars.items():
            self._tensorboard.add_scalar(name, value, record.iteration)
        print(
            f"iteration {record.iteration}/{train_iters} | loss {record.loss:.4f} | grad norm {record.grad_norm:.3f} | "
            f"lr {record.lr:.3e} | trained tokens {record.trained_tokens} | {record.tokens_per_s:.0f} tokens/s | "
            f"fill {record.fill:.1%} | data wait {record.data_wait_s * 1e3:.1f} ms",
            flush=True,
        )

    def flush(self) -> None:
        """Push TensorBoard's events to disk; metrics.jsonl is flushed line by line."""
        self._tensorboard.flush()

    def close(self) -> None:
        """Flush and close both."""
        self._jsonl.close()
        self._tensorboard.close()


def drop_records_after(path: Path, iteration: int) -> int:
    """Keep the whole records up to `iteration`; returns how many were dropped.

    A run that resumes from iteration 20 after being killed at 27 trains 21 to 27 again: none may be there twice.
    """
    if not path.exists():
        return 0
    drop_partial_line(path)
    records = list(read_jsonl(path))
    kept = [record for record in records if record["iteration"] <= iteration]
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))
    return len(records) - len(kept)
