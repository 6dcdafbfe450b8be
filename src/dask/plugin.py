"""The workers' side: keeps engines on a Dask worker, one for each of its threads, and has them make calls.

Every worker and the scheduler load this file, so that what a task is can be named instead of sent. It holds nothing
by itself: what there is belongs to the plugin of one program.

A plugin that fails when a worker starts keeps that worker from starting, for everybody. So what is registered here
brings the code that it needs, and no setup raises.
"""

import asyncio
import collections
import errno
import hashlib
import os
import platform
import select
import signal
import struct
import subprocess
import threading
import time

from distributed import SchedulerPlugin, WorkerPlugin, get_worker

# What an engine says first, when it is one.
HELLO = b"callboard engine 1\n"
# How long an engine may take to say it, in seconds: a program without callboard::init() never does.
HELLO_S = 20.0
# A call that runs for so long is told of, in seconds; of shorter ones the outcome tells enough.
TOLD_AFTER_S = 0.005
# What is told there all programs hear, and the scheduler keeps a bounded part of it; with one for each it would keep that for ever.
TOPIC = "callboard"
# Ids of calls that nobody waits for any more, and may still come. Beyond that the oldest are forgotten.
UNWANTED_MAX = 100_000
# How long engines may be idle that no living program has asked for, in seconds.
UNCLAIMED_S = 60.0
# Between the plugin and an engine: length and kind, little-endian.
HEAD = struct.Struct("<IB")
SEQ = struct.Struct("<Q")
CALL, CANCEL = 0, 1


class TaskFailed(Exception):
    """A task ended without a value; the second argument is what its engine said, for the program."""

    def __str__(self):
        return self.args[0]


class EngineLost(Exception):
    """An engine ended while it made a call, or could not be started: its process id, and what became of it."""

    def __str__(self):
        return self.args[1]


def make(call):
    """The Dask task: one call of a function of the program's. Returns its encoded value."""
    worker = get_worker()
    plugin = worker.plugins.get("callboard-" + call[:8].hex())
    if plugin is None:
        raise EngineLost(0, f"worker {worker.address} has no engines of this program")
    return plugin.make(call[8:])


def start_engines(session, engines, file, dask_worker):
    """Starts so many engines here, by address, which dial with a connection file. Returns why they cannot be started."""
    plugin = dask_worker.plugins.get("callboard-" + session)
    try:
        return plugin and plugin.start_dialling(engines.get(dask_worker.address, 0), file)
    except OSError as error:
        return f"{plugin.path} cannot be started on worker {dask_worker.address}: {error}"


def tell_engines(session, what, dask_worker):
    """Tells the engines here to leave, or kills them; or looks which are there. Returns how each has ended, or None."""
    plugin = dask_worker.plugins.get("callboard-" + session)
    return [] if plugin is None else plugin.tell_dialling(what)


def problem_of(session, dask_worker):
    """Why this worker can make no calls of this program; None if it can."""
    plugin = dask_worker.plugins.get("callboard-" + session)
    return None if plugin is None else plugin.problem


def look(path):
    """Tells what this machine is, and which program is there under this path."""
    return {"machine": machine(), "program": digest_of(path)}


def cancel(session, seqs, by_force, dask_worker):
    """Has calls not begin here any more; tells those that run to stop, or ends their engines."""
    plugin = dask_worker.plugins.get("callboard-" + session)
    if plugin is not None:
        plugin.cancel(seqs, by_force)


def machine():
    """What a program must be built for to run here: system, processor, and the C library on Linux."""
    system, processor = platform.system(), platform.machine().lower()
    processor = {"amd64": "x86_64", "arm64": "aarch64"}.get(processor, processor)
    libc = (platform.libc_ver()[0] or "musl") if system == "Linux" else ""
    return [system, processor, libc]


def is_for(needs, has):
    """Whether a program that needs such a machine runs on one that is so. One that needs no C library has none named."""
    return needs[:2] == has[:2] and needs[2] in ("", has[2])


def in_words(machine):
    return " ".join(word for word in machine if word)


def digest_of(path):
    """The SHA-256 of a file, in hexadecimal; None if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while portion := file.read(1 << 20):
                digest.update(portion)
    except OSError:
        return None
    return digest.hexdigest()


# Makes an object of a class of this file, which is loaded first where it is not.
LOAD = """[
    m := __import__('sys').modules.setdefault(name, __import__('types').ModuleType(name)),
    hasattr(m, 'SOURCE') or (setattr(m, 'SOURCE', source), exec(compile(source, name + '.py', 'exec'), m.__dict__)),
    getattr(m, kind)(*args),
][-1]"""


class Carried:
    """What brings this file with it to wherever it is sent."""

    made_of = ()

    def __reduce__(self):
        name = type(self).__module__
        what = {"name": name, "source": SOURCE, "kind": type(self).__name__, "args": self.made_of}
        return eval, (LOAD, what)


class SchedulerCode(Carried, SchedulerPlugin):
    idempotent = True


class WorkerCode(Carried, WorkerPlugin):
    idempotent = True


class EnginesPlugin(Carried, WorkerPlugin):
    """The engines of one program on one worker."""

    def __init__(self, session, program):
        self.made_of = (session, program)
        self.name = "callboard-" + session
        self.session = session
        # Its path, arguments, whether its engines dial, SHA-256, what machine it needs; its bytes, if they are delivered, and whether these are to be
        # taken in any case.
        self.program = program

    async def setup(self, worker):
        self.worker = worker
        self.lock = threading.Lock()
        self.idle = []
        self.dialling = []
        self.running = {}
        self.unwanted = collections.OrderedDict()
        self.problem = None
        self.is_over = False
        self.claim = f"callboard-claim-{self.session}-{worker.address}"
        self.is_claimed = False
        self.busy = threading.Event()
        try:
            self.check_machine()
            self.path = await asyncio.to_thread(self.install, worker.local_directory)
            self.program["bytes"] = self.made_of = None
            if not self.program["dials"]:
                await asyncio.to_thread(self.warm)
        except Exception as error:
            # The program is told of it; and so is a task that comes here all the same.
            self.problem = str(error)
            return
        threading.Thread(target=self.tell, name="callboard-tell", daemon=True).start()

    def teardown(self, worker):
        self.is_over = True
        self.busy.set()
        self.end_all()

    def transition(self, key, start, finish, **kwargs):
        # The claim is a value that the program's client holds. However that ends, Dask lets go of it.
        if key != self.claim:
            return
        if finish == "memory":
            self.is_claimed = True
        elif self.is_claimed:
            self.is_claimed = False
            self.end_all()

    def check_machine(self):
        needs, has = self.program["needs"], machine()
        if not is_for(needs, has):
            raise RuntimeError(
                f"the program is built for {in_words(needs)}, and worker {self.worker.address} is {in_words(has)}"
            )

    def install(self, directory):
        """Returns where the program is: under its own path, or under its hash among this worker's files."""
        path, digest = self.program["path"], self.program["sha256"]
        if not self.program["is_copy"] and digest_of(path) == digest:
            return path
        if self.program["bytes"] is None:
            raise RuntimeError(
                f"{path} on worker {self.worker.address} is not there, or is another program; have it delivered"
            )
        target = os.path.join(directory, "callboard-" + digest[:16])
        if digest_of(target) != digest:
            partial = f"{target}.{os.getpid()}-{self.session}"
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700), "wb") as file:
                file.write(self.program["bytes"])
            os.rename(partial, target)
        return target

    def warm(self):
        """Starts an engine for each thread of the worker."""
        missing = self.worker.state.nthreads - len(self.idle)
        engines = [self.start() for _ in range(missing)]
        with self.lock:
            self.idle.extend(engines)
        if self.is_over:
            # It was taken back meanwhile.
            self.end_idle()

    def start(self):
        return Engine(self.path, self.program["args"], self.worker.address)

    def make(self, call):
        if self.problem is not None:
            raise EngineLost(0, self.problem)
        (seq,) = SEQ.unpack_from(call)
        with self.lock:
            engine = self.idle.pop() if self.idle else None
        if engine is None or not engine.is_there():
            engine = self.start()
        with self.lock:
            if self.unwanted.pop(seq, self) is None or self.is_over:
                self.idle.append(engine)
                return b""
            self.running[seq] = engine
        engine.since = time.monotonic()
        if not self.busy.is_set():
            self.busy.set()
        try:
            outcome = engine.call(call)
        finally:
            with self.lock:
                del self.running[seq]
                if engine.is_well:
                    self.idle.append(engine)
        if outcome[0] == 0:
            return outcome[1:]
        (length,) = struct.unpack_from("<I", outcome, 1)
        raise TaskFailed(outcome[5 : 5 + length].decode("utf-8", "replace"), bytes(outcome[5 + length :]))

    def cancel(self, seqs, by_force):
        with self.lock:
            running = [(seq, self.running[seq]) for seq in seqs if seq in self.running]
            self.unwanted.update((seq, None) for seq in seqs if seq not in self.running)
            while len(self.unwanted) > UNWANTED_MAX:
                self.unwanted.popitem(last=False)
        for seq, engine in running:
            if by_force:
                engine.kill()
            else:
                engine.tell(CANCEL, SEQ.pack(seq))

    def start_dialling(self, n, file):
        for _ in range(n):
            command = [self.path, "--callboard-dial", *self.program["args"]]
            engine = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, start_new_session=True)
            self.dialling.append(engine)
            # It stays open: its end tells the engine to leave, however this process ends.
            try:
                engine.stdin.write(file.encode())
            except BrokenPipeError:
                # It has ended already; how, is told when somebody looks.
                pass

    def tell_dialling(self, what):
        for engine in self.dialling:
            if what == "kill" and engine.poll() is None:
                os.killpg(engine.pid, signal.SIGKILL)
                engine.wait()
            elif what == "leave":
                engine.stdin.close()
        return [None if engine.poll() is None else in_status(engine.returncode) for engine in self.dialling]

    def end_all(self):
        self.tell_dialling("leave")
        with self.lock:
            running = list(self.running.values())
        for engine in running:
            # Its call is told of it.
            engine.kill()
        self.end_idle()

    def end_idle(self):
        with self.lock:
            engines, self.idle = self.idle, []
        for engine in engines:
            engine.end()

    def tell(self):
        """Tells the program what runs. Sleeps while nothing does."""
        unclaimed_since = time.monotonic()
        while True:
            self.busy.wait(None if self.is_claimed else UNCLAIMED_S / 4)
            if self.is_over:
                return
            now = time.monotonic()
            if self.is_claimed:
                unclaimed_since = now
            elif now - unclaimed_since > UNCLAIMED_S:
                self.end_idle()
            if not self.busy.is_set():
                continue
            time.sleep(TOLD_AFTER_S)
            self.busy.clear()
            with self.lock:
                running, by = list(self.running.items()), time.monotonic() - TOLD_AFTER_S
            told = [(seq, engine) for seq, engine in running if not engine.is_told and engine.since <= by]
            for _, engine in told:
                engine.is_told = True
            if any(not engine.is_told for _, engine in running):
                self.busy.set()
            if told:
                self.worker.log_event(TOPIC, [self.session, [[seq, engine.process.pid] for seq, engine in told]])


class Engine:
    """A process that is the program, and makes one call after the other."""

    def __init__(self, path, args, address):
        self.address = address
        self.is_well = True
        self.is_told = False
        self.since = 0.0
        self.writing = threading.Lock()
        self.ending = threading.Lock()
        command = [path, "--callboard-resident", *args]
        for attempt in range(100):
            try:
                # It leads a group of its own, which ends with it.
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
                )
                break
            except OSError as error:
                # Another thread forked while the program was written, and has it open for a moment yet.
                if error.errno != errno.ETXTBSY or attempt == 99:
                    raise EngineLost(0, f"{path} cannot be started on worker {address}: {error}") from None
                time.sleep(0.01)
        self.stdin, self.stdout = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.greet(path)

    def greet(self, path):
        said, until = b"", time.monotonic() + HELLO_S
        while len(said) < len(HELLO) and HELLO.startswith(said):
            ready, _, _ = select.select([self.stdout], [], [], max(0.0, until - time.monotonic()))
            portion = os.read(self.stdout, len(HELLO) - len(said)) if ready else b""
            if not portion:
                break
            said += portion
        if said != HELLO:
            ended = self.end()
            raise EngineLost(
                self.process.pid,
                f"{path} on worker {self.address} is no engine ({in_status(ended)} before it said so); "
                "call callboard::init() first in its main",
            )

    def call(self, call):
        """Has the engine make a call; returns what it says of it."""
        self.is_told = False
        try:
            self.tell(CALL, call)
            (length,) = struct.unpack("<I", self.read(4))
            return self.read(length)
        except (OSError, EOFError):
            pid, ended = self.process.pid, self.end()
            raise EngineLost(
                pid, f"its process {pid} on worker {self.address} ended with {in_status(ended)}"
            ) from None

    def tell(self, kind, body):
        head = HEAD.pack(len(body), kind)
        parts = [head, body] if len(body) > 65_536 else [head + body]
        with self.writing:
            for part in parts:
                left = memoryview(part)
                while left:
                    left = left[os.write(self.stdin, left) :]

    def read(self, length):
        portion = os.read(self.stdout, min(length, 1 << 20))
        if len(portion) == length:
            return portion
        read = bytearray(portion)
        while portion and len(read) < length:
            portion = os.read(self.stdout, min(length - len(read), 1 << 20))
            read += portion
        if len(read) < length:
            raise EOFError
        return bytes(read)

    def kill(self):
        """Ends the process, and what its tasks have started. Whoever waits for an outcome hears of it."""
        with self.ending:
            self.is_well = False
            # Until it is waited for, its number is that of its group.
            if self.process.returncode is None:
                try:
                    os.killpg(self.process.pid, signal.SIGKILL)
                except OSError:
                    pass

    def end(self):
        """As kill, and waits for its end; returns with what status."""
        self.kill()
        with self.ending:
            return self.process.wait()

    def is_there(self):
        with self.ending:
            return self.process.poll() is None


def in_status(returncode):
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"signal {-returncode} ({signal.Signals(-returncode).name})"
    except ValueError:
        return f"signal {-returncode}"
