"""Asynchronous work for those who have no event loop, or whose own must not wait: one loop in a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread
import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from jobmgr.errors import JobmgrError, NotRunning

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class LoopThread(Generic[T]):
    """Enters an asynchronous context manager in a thread with a loop, and lets all threads and loops work with it.

    It may be started again after its end, also in a process that has a loop of its own. The thread does not keep its
    process alive: at the end of the program it is stopped, when the threads that do, and use it, have ended.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]], name: str) -> None:
        self._make = make
        self._name = name
        # One start or stop at a time; `_state` guards what callers of `call` and `ask` look at.
        self._changing = threading.Lock()
        self._state = threading.Lock()
        self._run: _Run[T] | None = None
        self._ends_with_program = False

    @property
    def is_running(self) -> bool:
        """Whether work may be given to it."""
        return self._own() is not None

    def start(self) -> None:
        """Return when the context is entered; nothing happens if it is. Raises what entering it raises."""
        with self._changing:
            if self.is_running:
                return
            self._end_with_program()
            run = _Run(self._make, self._name)
            try:
                run.start()
            except JobmgrError as error:
                raise _of_the_caller(error) from None
            with self._state:
                self._run = run

    def stop(self) -> None:
        """Return when the context is left and the thread has ended; work that has not ended is cancelled.

        Nothing happens if it does not run. Raises what leaving the context raises.
        """
        with self._changing:
            with self._state:
                run, self._run = self._own(), None
            if run is not None:
                run.stop()

    def stop_with_program(self) -> None:
        """Stop when other threads that use it have ended: those that Python itself waits for at a program's end."""
        run = self._own()
        try:
            if run is not None:
                run.let_end()
        finally:
            self.stop()

    def call(self, work: Callable[[T], Awaitable[R]], timeout_s: float | None = None) -> R:
        """What `work` answers; waits for it, from any thread but the loop's. Raises TimeoutError, NotRunning."""
        future, thread = self._give(work)
        if thread is threading.current_thread():
            future.cancel()
            raise RuntimeError(f"{self._name} would wait for itself: await the asynchronous verbs here")
        try:
            # No lock can be waited for longer; that is centuries.
            return future.result(None if timeout_s is None else min(timeout_s, threading.TIMEOUT_MAX))
        except concurrent.futures.CancelledError:
            raise NotRunning(f"{self._name} was stopped meanwhile") from None
        except JobmgrError as error:
            raise _of_the_caller(error) from None
        finally:
            # Whoever is interrupted or has no more time wants no more of it.
            future.cancel()

    async def ask(self, work: Callable[[T], Awaitable[R]]) -> R:
        """The same for a coroutine in any loop: that loop runs on meanwhile. Raises NotRunning."""
        future, _ = self._give(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # It was not the caller who was cancelled: a TaskGroup would take that for nothing at all.
            raise NotRunning(f"{self._name} was stopped meanwhile") from None
        except JobmgrError as error:
            raise _of_the_caller(error) from None

    def _end_with_program(self) -> None:
        if not self._ends_with_program:
            self._ends_with_program = True
            # What `atexit` has comes too late: before it, concurrent.futures ends its threads, and to leave a context
            # takes some. Of those who registered here the last one is called first.
            register = getattr(threading, "_register_atexit", atexit.register)
            register(_stop, weakref.ref(self))

    def _give(
        self, work: Callable[[T], Awaitable[R]]
    ) -> tuple[concurrent.futures.Future[R], threading.Thread]:
        with self._state:
            run = self._own()
            if run is None:
                raise NotRunning(f"{self._name} does not run")
            return run.give(work), run.thread

    def _own(self) -> _Run[T] | None:
        # A fork has what this process knows, and not its threads.
        return self._run if self._run is not None and self._run.pid == os.getpid() else None


def _of_the_caller(error: JobmgrError) -> JobmgrError:
    """The same without where in the thread it came from: its sentence is about what was asked, and says what to do."""
    logger.debug("an error goes to its caller", exc_info=error)
    return error.with_traceback(None)


def _stop(left: weakref.ref[LoopThread[Any]]) -> None:
    thread = left()
    if thread is not None:
        try:
            thread.stop_with_program()
        except Exception:  # boundary: others are to be stopped, too
            logger.exception("a thread did not end in order")


class _Run(Generic[T]):
    """One life of the thread."""

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]], name: str) -> None:
        self._make = make
        self._leave = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        # Threads that keep the program alive, by their ids, and what they wait for.
        self._callers: weakref.WeakValueDictionary[int, threading.Thread] = weakref.WeakValueDictionary()
        self._awaited: set[concurrent.futures.Future[Any]] = set()
        self._entered: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, T]] = (
            concurrent.futures.Future()
        )
        self._left: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.pid = os.getpid()
        self.thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        try:
            self.thread.start()
            self._loop, self._value = self._entered.result()
        except BaseException:
            # Interrupted, at whichever of both, it is left as soon as it is entered.
            self._entered.add_done_callback(self._give_back)
            if self._entered.done():
                self.thread.join()
            raise

    def _give_back(self, entered: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, T]]) -> None:
        if entered.exception() is None:
            entered.result()[0].call_soon_threadsafe(self._leave.set)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._leave.set)
        concurrent.futures.wait([self._left])
        self.thread.join()
        self._left.result()

    def give(self, work: Callable[[T], Awaitable[R]]) -> concurrent.futures.Future[R]:
        """Have it done. To be called before `stop`, whose wish to leave comes to the loop behind it."""
        future: concurrent.futures.Future[R] = concurrent.futures.Future()
        caller = threading.current_thread()
        if not caller.daemon:
            self._callers[threading.get_ident()] = caller
            self._awaited.add(future)
            future.add_done_callback(self._awaited.discard)
        self._loop.call_soon_threadsafe(self._begin, work, future)
        return future

    def let_end(self) -> None:
        """Wait for the threads, and for what is being done for those of executors: they end after this."""
        while self._awaited or self._living():
            for future in self._awaited.copy():
                with contextlib.suppress(concurrent.futures.CancelledError):
                    future.exception()
            for caller in self._living():
                caller.join()

    def _living(self) -> list[threading.Thread]:
        # There is no public way to tell them. Without it, nobody is waited for who could wait for us.
        executors = getattr(concurrent.futures.thread, "_threads_queues", None)
        if executors is None:
            return []
        found = [reference() for reference in self._callers.valuerefs()]
        us = (threading.main_thread(), threading.current_thread())
        return [
            each for each in found if each and each.is_alive() and each not in us and each not in executors
        ]

    def _begin(self, work: Callable[[T], Awaitable[R]], future: concurrent.futures.Future[R]) -> None:
        task = self._loop.create_task(_answer(work, self._value, future))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def give_up(given: concurrent.futures.Future[R]) -> None:
            if given.cancelled():
                with contextlib.suppress(RuntimeError):  # The loop is closed: then nothing runs any more.
                    self._loop.call_soon_threadsafe(task.cancel)

        future.add_done_callback(give_up)

    def _main(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._live())
        except BaseException as error:  # noqa: BLE001 -- boundary: it is raised in the thread that waits
            (self._left if self._entered.done() else self._entered).set_exception(error)
        else:
            self._left.set_result(None)

    async def _live(self) -> None:
        async with self._make() as value:
            self._entered.set_result((asyncio.get_running_loop(), value))
            await self._leave.wait()
            # Before the context is left, which they work with.
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


async def _answer(work: Callable[[T], Awaitable[R]], value: T, future: concurrent.futures.Future[R]) -> None:
    # The future may be cancelled at any time, by another thread.
    try:
        result = await work(value)
    except asyncio.CancelledError:
        future.cancel()
        raise
    except BaseException as error:  # noqa: BLE001 -- boundary: it is raised where the answer is waited for
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            future.set_exception(error)
    else:
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            future.set_result(result)
