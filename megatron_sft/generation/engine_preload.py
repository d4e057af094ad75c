"""Imported once by the process that engine processes are forked from, so that each starts in seconds.

Importing vLLM takes far longer than starting it on a small model. Nothing here may use a GPU or start a thread:
both would not survive the fork. OpenBLAS starts threads at import unless told not to.
"""

import contextlib
import io
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# The engine already has a process of its own; a second one would only cost its start.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
# vLLM's binding of threads to cores leaves cores out; the operating system divides them better.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

# Remarks at import would go to the user's terminal; what an engine says goes to its own log.
with contextlib.redirect_stderr(io.StringIO()):
    from vllm import LLM, SamplingParams  # noqa: F401

    # What an engine imports later, to be ready as well; the names are internal and may change with the version.
    with contextlib.suppress(ImportError):
        import vllm.model_executor.model_loader.reload
        import vllm.model_executor.models.qwen3
        import vllm.v1.executor.uniproc_executor
    with contextlib.suppress(ImportError):
        import vllm.v1.worker.cpu_worker  # noqa: F401
