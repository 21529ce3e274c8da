"""A worker process in Python, the twin of ``src/worker.rs``: it does one thing until its standard
input ends, and writes down what it did.

``produce`` and ``take`` keep to what the original has, so they run on it as well. Errors are noted
and the next thing is tried. The letters of the lines are explained in ``src/history.rs``.

    worker.py ROLE ADDRESS HISTORY [option=value]...
"""

import asyncio
import functools
import gc
import itertools
import logging
import multiprocessing
import os
import queue as queues
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import pymq
from pymq.provider.redis import RedisConfig

BREATH = 0.02
OURS = hasattr(pymq, "connect")
if OURS:
    import pymq.aio


class History:
    """Appends lines, each list of them in one step."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def note(self, letter: str, entries: Iterable[tuple[int, int]], word: str = "") -> None:
        at = time.time_ns() // 1000
        lines = [f"{at} {letter} {item} {number} {word}\n" for item, number in entries]
        os.write(self._file, "".join(lines).encode())


class Worker:
    """What a worker of each role does; ``options`` come from the command line."""

    def __init__(self, url: str, history: History, options: dict[str, str]) -> None:
        self.url = url
        self.history = history
        self.options = options
        self.seen: set[int] = set()

    def number(self, name: str, default: int = 0) -> int:
        return int(self.options.get(name, default))

    def seconds(self, name: str, default: float = 0.0) -> float:
        return float(self.options.get(name, default))

    def queue(self, **more: Any) -> Any:
        name = self.options.get("queue", "work")
        if not OURS:
            return pymq.queue(name)
        options = {"lease": self.seconds("lease", 30), **more}
        return pymq.queue(name, max_deliveries=self.number("max_deliveries"), **options)

    def produce(self) -> None:
        queue, batch = self.queue(), self.number("batch", 1)
        first = self.number("first")
        end = first + self.number("count", 1)
        for start in range(first, end, batch):
            items = range(start, min(start + batch, end))
            if (start - first) % (batch * 8) == 0:
                self._wait_for_space(queue)
            self.history.note("b", [(start, len(items))])
            try:
                if len(items) == 1:
                    queue.put(start, block=False)
                else:
                    queue.put_many(items)
                self.history.note("o", [(start, len(items))])
            except Exception as error:
                letter = "a" if type(error).__name__ == "OutcomeUnknownError" else "f"
                self.history.note(letter, [(start, len(items))], type(error).__name__)
                time.sleep(BREATH)
            time.sleep(self.seconds("pause"))

    def _wait_for_space(self, queue: Any) -> None:
        while True:
            try:
                if queue.qsize() <= self.number("most", 5000):
                    return
            except Exception:
                return
            time.sleep(BREATH)

    def consume(self) -> None:
        queue, many = self.queue(ack="manual"), self.number("many", 1)
        stop_at, dies_of = self.options.get("stop_at"), self.number("dies_of")
        begins = self.options.get("begins")
        while True:
            try:
                claimed = self._claim(queue, many)
            except Exception as error:
                self.history.note("e", [(0, 0)], type(error).__name__)
                time.sleep(BREATH)
                continue
            self.history.note("g", [(item, deliveries) for item, deliveries, _ in claimed])
            if dies_of and any(item == dies_of for item, *_ in claimed):
                os._exit(1)
            stay_if(stop_at == "got")
            stay_until(begins)
            begins = None
            time.sleep(self.seconds("pause"))
            self.history.note("d", [(item, 0) for item, *_ in claimed])
            stay_if(stop_at == "done")
            for item, _, done in claimed:
                self._confirm(item, done)
            stay_if(stop_at == "acked")

    def _claim(self, queue: Any, many: int) -> list[tuple[int, int, Any]]:
        """Items with their deliveries (0: not known) and what confirms them."""
        if many == 1:
            delivery = queue.get_delivery()
            settle = getattr(delivery, self.options.get("how", "ack"))
            return [(delivery.item, delivery.deliveries, settle)]
        return [(item, 0, queue.task_done) for item in queue.get_many(many)]

    def _confirm(self, item: int, done: Any) -> None:
        try:
            done()
            self.history.note("k", [(item, 0)])
        except pymq.exceptions.LeaseLostError:
            self.history.note("l", [(item, 0)])
        except Exception as error:
            self.history.note("u", [(item, 0)], type(error).__name__)

    def take(self) -> None:
        queue = self.queue()
        while True:
            try:
                item = queue.get(timeout=None if OURS else 1)
                self.history.note("g", [(item, 1)])
                time.sleep(self.seconds("pause"))
            except queues.Empty:
                continue
            except Exception as error:
                self.history.note("e", [(0, 0)], type(error).__name__)
                time.sleep(BREATH)
                continue
            stay_if(self.options.get("stop_at") == "got")

    def interrupted(self) -> None:
        """Takes items while alarms go off, whose handler raises wherever the package is just then.

        What `get` has returned is done and confirmed; what it has not is nobody's.
        """
        package = os.path.dirname(pymq.__file__)
        queue = self.queue(ack=self.options.get("ack", "manual"), prefetch=self.number("many", 1))

        def ring(_: int, frame: Any) -> None:
            if frame.f_code.co_filename.startswith(package):
                raise Alarm

        signal.signal(signal.SIGALRM, ring)
        chance = random.Random(self.number("seed"))
        while not ENDED.is_set():
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00002, 0.0003))
            try:
                item = queue.get(timeout=0.5)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Alarm:
                self.history.note("e", [(0, 0)], "Alarm")
                continue
            except queues.Empty:
                signal.setitimer(signal.ITIMER_REAL, 0)
                continue
            self.history.note("g", [(item, 0)])
            self.history.note("d", [(item, 0)])
            if self.options.get("ack", "manual") == "manual":
                self._confirm(item, queue.task_done)
        signal.setitimer(signal.ITIMER_REAL, 0)

    def leave(self) -> None:
        """Takes items in threads, tasks, loops and children of multiprocessing, which end with the
        item in hand if nobody took it before."""
        bus = pymq.connect(self.url)
        queue, awaited = self.queue_of(bus), self.queue_of(pymq.aio.AsyncEventBus(bus))
        ways = [
            lambda: self._in_thread(queue),
            lambda: self._in_task(awaited),
            lambda: self._on_loop(awaited),
            self._in_child,
        ]
        chance = random.Random(self.number("seed"))
        while True:
            chance.choice(ways)()
            # A task whose loop was closed ends when it is collected.
            gc.collect()

    def queue_of(self, bus: Any) -> Any:
        options: dict[str, Any] = {"lease": self.seconds("lease", 30), "ack": "manual"}
        return bus.queue(self.options.get("queue", "work"), max_deliveries=0, **options)

    def _leaves(self, item: int, way: str) -> bool:
        self.history.note("g", [(item, 0)])
        if item in self.seen:
            self.history.note("d", [(item, 0)])
            return False
        self.seen.add(item)
        self.history.note("e", [(item, 0)], way)
        return True

    def _in_thread(self, queue: Any) -> None:
        def work() -> None:
            item = queue.get()
            if self._leaves(item, "thread"):
                raise Left
            self._confirm(item, queue.task_done)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join()

    def _in_task(self, queue: Any) -> None:
        async def work() -> None:
            item = await queue.get()
            if self._leaves(item, "task"):
                raise Left
            await self._confirm_awaited(item, queue)

        async def main() -> None:
            await asyncio.gather(work(), return_exceptions=True)

        asyncio.run(main())

    def _on_loop(self, queue: Any) -> None:
        loop = asyncio.new_event_loop()

        async def work() -> None:
            item = await queue.get()
            leaves = self._leaves(item, "loop")
            if not leaves:
                await self._confirm_awaited(item, queue)
            loop.stop()
            await asyncio.Event().wait()

        task = loop.create_task(work())
        loop.run_forever()
        loop.close()
        task._log_destroy_pending = False

    async def _confirm_awaited(self, item: int, queue: Any) -> None:
        try:
            await queue.task_done()
            self.history.note("k", [(item, 0)])
        except Exception as error:
            self.history.note("u", [(item, 0)], type(error).__name__)

    def _in_child(self) -> None:
        context = multiprocessing.get_context("fork")
        reading, writing = context.Pipe(duplex=False)
        child = context.Process(target=self._child, args=(writing,), daemon=True)
        child.start()
        self.seen.add(reading.recv())
        child.join()

    def _child(self, writing: Any) -> None:
        queue = self.queue_of(pymq.connect(self.url))
        item = queue.get()
        if not self._leaves(item, "child"):
            self._confirm(item, queue.task_done)
        writing.send(item)

    def publish(self) -> None:
        topic = self.options.get("topic", "news")
        first = self.number("first")
        for number in range(first, first + self.number("count", 1)):
            try:
                pymq.publish(number, topic)
                self.history.note("o", [(number, 1)])
            except Exception as error:
                letter = "a" if type(error).__name__ == "OutcomeUnknownError" else "f"
                self.history.note(letter, [(number, 1)], type(error).__name__)
            time.sleep(self.seconds("pause"))

    def subscribe(self) -> None:
        begins, raises = self.options.get("begins"), self.options.get("raises")

        def receive(event: int) -> None:
            nonlocal begins
            self.history.note("r", [(event, 0)])
            if raises:
                spoiled(event)
            # Only the first event takes long.
            stay_until(begins)
            begins = None

        async def receive_awaited(event: int) -> None:
            receive(event)

        logging.getLogger("pymq").addHandler(Losses(self.history))
        callback = receive_awaited if raises == "awaited" else receive
        pymq.subscribe(callback, self.options.get("topic", "news"))
        self.history.note("s", [(0, 0)])
        stay_if(True)

    def serve(self) -> None:
        hangs, large = self.number("hangs"), self.number("large")
        spoils = self.options.get("spoils")

        def double(number: int) -> Any:
            self.history.note("s", [(number, 0)])
            stay_if(bool(hangs) and number >= hangs)
            self.history.note("d", [(number, 0)])
            if spoils:
                return spoiled(number)
            # The number of a call may be the length of its answer.
            return "x" * number if large else number * 2

        async def double_awaited(number: int) -> Any:
            return double(number)

        function = double_awaited if spoils == "awaited" else double
        pymq.expose(function, self.options.get("name", "double"))
        self.history.note("s", [(0, 0)])
        stay_if(True)

    def call(self) -> None:
        every = bool(self.number("all"))
        name = self.options.get("name", "double")
        stub = pymq.stub(name, self.seconds("timeout") or None, every)
        first = self.number("first")
        for number in range(first, first + self.number("count", 1)):
            self.history.note("c", [(number, 0)])
            try:
                answer = stub(number)
                if answer is None:
                    answer = pymq.exceptions.NoSuchRemoteError("double")
            except Exception as error:
                answer = error
            for each in answer if isinstance(answer, list) else [answer]:
                if isinstance(each, Exception):
                    self.history.note("e", [(number, 0)], type(each).__name__)
                    time.sleep(BREATH)
                else:
                    value = len(each) if isinstance(each, str) else each
                    self.history.note("w", [(number, value)])
            time.sleep(self.seconds("pause"))
        self.history.note("d", [(0, 0)])
        stay_if(True)

    def churn(self) -> None:
        def double(number: int) -> int:
            return number * 2

        arrived: queues.Queue[int] = queues.Queue()

        def receive(event: int) -> None:
            arrived.put(event)

        count, queue = self.number("count", 1000), self.queue(ack="manual")
        pymq.expose(double, "double")
        stub = pymq.stub("double")
        only = self.options.get("only")
        for number in range(count):
            sort = number % 5 if only is None else int(only)
            if number % max(count // 10, 1) == 0:
                self.history.note("m", [(number, memory())])
            if sort == 0:
                pymq.subscribe(receive, "churn")
                pymq.publish(number, "churn")
                arrived.get()
                pymq.unsubscribe(receive, "churn")
            elif sort == 1:
                stub.rpc(number)
            elif sort == 2:
                pymq.publish(number, "nobody")
            else:
                queue.put(number)
                queue.get()
                queue.task_done()
        self.history.note("m", [(count, memory())])

    def come(self) -> None:
        """Connects, does a little of everything, and leaves, again and again."""
        for round in itertools.count():
            try:
                with pymq.connect(self.url) as bus:
                    bus.subscribe(lambda event: None, "passing")
                    bus.publish(round, "passing")
                    queue = bus.queue("passing", maxsize=2)
                    queue.put(round, timeout=0.005)
                    queue.get(timeout=0.005)
            except (queues.Empty, queues.Full, pymq.PymqError):
                time.sleep(BREATH)


class Left(Exception):
    """What ends a thread or a task that has an item in hand."""


class Wordless(Exception):
    """What has no words."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Alarm(Exception):
    """What the handler of a signal raises."""


class Losses(logging.Handler):
    """Notes when the package says that events were missed."""

    def __init__(self, history: History) -> None:
        super().__init__(logging.WARNING)
        self._history = history

    def emit(self, record: logging.LogRecord) -> None:
        if "missed" in record.getMessage():
            self._history.note("x", [(0, 0)])


def memory() -> int:
    """Resident memory of this process, in bytes."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def spoiled(number: int) -> Any:
    """By turns an answer that can be had, what a function may raise, and what cannot be sent."""
    raised = (ValueError("as asked"), SystemExit(1), KeyboardInterrupt(), MemoryError(), Wordless())
    too_deep: list[Any] = []
    for _ in range(300):
        too_deep = [too_deep]
    answers = ("x" * (17 << 20), too_deep, threading.Lock(), number * 2)
    turn = number % (len(raised) + len(answers) + 1)
    if turn == 0:
        raise ValueError("x" * (17 << 20))
    if turn <= len(raised):
        raise raised[turn - 1]
    return answers[turn - len(raised) - 1]


def stay_if(here: bool) -> None:
    """Wait for the killer, or for the end of the input."""
    if here:
        threading.Event().wait()


def stay_until(sign: str | None) -> None:
    """Wait until that file is there."""
    while sign and not os.path.exists(sign):
        time.sleep(BREATH)


def place(url: str) -> Any:
    """The address as it is where it says more than any peer understands, else host and port."""
    address = urlsplit(url)
    if address.query or address.scheme != "redis":
        return url
    user = {"username": address.username, "password": address.password} if address.username else {}
    return RedisConfig(host=address.hostname, port=address.port, **user)


def main(role: str, url: str, history: str, options: list[str]) -> None:
    worker = Worker(url, History(history), dict(option.split("=", 1) for option in options))
    while True:
        try:
            pymq.init(place(url))
            break
        except Exception:
            time.sleep(BREATH)
    threading.Thread(target=wait_for_end, daemon=True).start()
    if role == "interrupted":
        # Handlers of signals run on the main thread only.
        worker.interrupted()
        pymq.shutdown()
        return
    work = threading.Thread(target=role_of(worker, role), daemon=True)
    work.start()
    while work.is_alive() and not ENDED.is_set():
        work.join(0.05)
    begun = time.monotonic_ns()
    pymq.shutdown()
    # Whose end others depend on.
    if role in ("serve", "churn"):
        worker.history.note("n", [(0, (time.monotonic_ns() - begun) // 1000)])


def role_of(worker: Worker, role: str) -> Callable[[], None]:
    """What a worker does; jobs are what the original knows nothing of."""
    own = getattr(worker, role, None)
    if own is not None:
        return own
    import jobs

    return functools.partial(jobs.ROLES[role], worker)


ENDED = threading.Event()


def wait_for_end() -> None:
    # Not by `sys.stdin`, whose lock a child would wait for when it closes it.
    while os.read(0, 4096):
        pass
    ENDED.set()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
