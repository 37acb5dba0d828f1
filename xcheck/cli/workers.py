"""Processes that run tasks: if one dies, only its current task is lost.

Each worker is a separate Python process. It reads pickled tasks from its standard input and writes answers to its
standard output; output of user code goes to standard error.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, BinaryIO

START = "import sys; sys.path[:] = {path!r}; from xcheck.cli.workers import serve; serve({parent})"

_LEAVE = os._exit
"""Saved before user code can replace it."""

NOT_PICKLED = (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError)


class Worker:
    """One process, started with its first task, and restarted after it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._ended = False

    def run(self, call: tuple[Any, ...]) -> tuple[Any, str]:
        """(what the call returns, "") or (None, why the process ended)."""
        with self._lock:
            if self._ended:
                return None, "ended"
            if self._process is None:
                code = START.format(path=sys.path, parent=os.getpid())
                # In a session of its own: Ctrl-C reaches only the parent, which ends its workers.
                self._process = subprocess.Popen(
                    [sys.executable, "-c", code],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                )
            process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump(call, process.stdin)
            process.stdin.flush()
            return pickle.load(process.stdout), ""
        except (EOFError, OSError, pickle.UnpicklingError):
            self._process = None
            code = process.wait()
            _close(process)
            return None, _reason(code)

    def end(self) -> None:
        """Kill the process; it is not started again."""
        with self._lock:
            self._ended = True
            process = self._process
        if process is not None:
            process.kill()
            process.wait()
            _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # the remaining output has no reader
            if pipe is not None:
                pipe.close()


def _reason(code: int) -> str:
    if code >= 0:
        return f"The process of this check ended with exit code {code}: os._exit, or a crash in a library."
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    memory = ": probably out of memory. Use smaller settings (--set), or a machine with more memory"
    return f"The process of this check was ended by {name}{memory if name == 'SIGKILL' else ''}."


def in_workers(
    function: Callable[..., Any], tasks: Sequence[Any], arguments: tuple[Any, ...], processes: int
) -> Generator[tuple[Any, Any, str]]:
    """Call a function for each task; yields (task, return value, "") or (task, None, why its process ended).

    No process outlives the generator.

    Args:
        function: a module-level function, which can be imported; called with a task and the arguments.
        tasks: in starting order.
        arguments: of each call.
        processes: at most.
    """
    ahead: queue.SimpleQueue[Any] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Any, Any, str]] = queue.SimpleQueue()
    for task in tasks:
        ahead.put(task)
    workers = [Worker() for _ in range(min(processes, len(tasks)))]

    def feed(worker: Worker) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                task = ahead.get_nowait()
                done.put((task, *worker.run((function, task, *arguments))))

    threads = [threading.Thread(target=feed, args=(worker,), daemon=True) for worker in workers]
    try:
        for thread in threads:
            thread.start()
        for _ in tasks:
            yield done.get()
    finally:
        for worker in workers:
            worker.end()


def serve(parent: int) -> None:
    """Answer calls until standard input ends.

    Args:
        parent: the process that started this one, this one ends with it.
    """
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)  # user code must not read the tasks
    os.dup2(2, 1)  # nor print among the answers
    sys.stdout = sys.stderr
    with contextlib.suppress(EOFError):
        while True:
            function, *arguments = pickle.load(calls)
            _answer(answers, function(*arguments))
    _LEAVE(0)


def _answer(answers: BinaryIO, value: Any) -> None:
    try:
        text = pickle.dumps(value)
    except NOT_PICKLED:
        text = pickle.dumps(value.without_result())
    answers.write(text)
    answers.flush()


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, for any reason."""
    while os.getppid() == parent:
        time.sleep(1)
    _LEAVE(1)
