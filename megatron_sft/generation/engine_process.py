"""An engine's process: takes what comes from the caller, and ends when the caller does."""

import importlib
import os
import queue
import threading
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection

from megatron_sft.generation.engine_messages import EngineSettings, Inbox


def serve(connection: Connection, settings: EngineSettings) -> None:
    """Let the engine of the kind asked for serve until it is told that there is no more; an error becomes a message."""
    with settings.log.open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if settings.visible_devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = settings.visible_devices
    inbox: Inbox = queue.SimpleQueue()
    receiver = threading.Thread(target=_receive, args=(connection, inbox), daemon=True)
    receiver.start()
    try:
        # Each needs packages that the other one does without.
        module = importlib.import_module(f"megatron_sft.generation.{settings.kind}_engine")
        module.serve(connection, inbox, settings)
    except Exception as error:
        traceback.print_exc()
        connection.send(("error", f"{type(error).__name__}: {error}"))
        # Until the message is read: what the caller sends meanwhile must not fail.
        receiver.join()


def _receive(connection: Connection, inbox: Inbox) -> None:
    """Collect requests, and end the process with its caller, who may have been killed: memory must not stay taken."""
    with suppress(EOFError, OSError):
        while True:
            message = connection.recv()
            inbox.put(message)
            if message is None:
                return
    os._exit(1)
