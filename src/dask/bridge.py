"""The bridge: a client of a Dask cluster for a program in another language, which speaks with it by frames.

The program holds both ends: it writes to the standard input and reads from the standard output, and when it is gone
these end, and so does this. The standard error is for people. Of Dask only what its documentation names is used.

A frame is a length (u32), a kind (u8) and a body of that length, little-endian. What there is to say is in
frames.rs, beside this file.
"""

import asyncio
import collections
import concurrent.futures
import functools
import itertools
import json
import os
import socket
import struct
import sys
import threading
import time
import types

HEAD = struct.Struct("<IB")
SEQ = struct.Struct("<Q")
LENGTH = struct.Struct("<H")

# From the program.
CONFIGURE, CALL, CANCEL, KILL, ASK, FINISH, LEAVE, KILL_ENGINES = range(8)
# To it.
FAILED, READY, VALUE, TASK_FAILED, ENGINE_LOST, DASK_FAILED, RUNNING, CANCELLED, WORKERS, ANSWER = range(10)

# Calls that are given to Dask together, at most.
BATCH_MAX = 1_000
# Values are fetched together where more tasks than that are pending, so often, in seconds.
FEW, PACE_S = 8, 0.02
# How often the workers are counted, in seconds.
LOOK_S = 0.5
# How often it is told that there are none, in seconds.
TELL_S = 10.0
# How long the workers may take to get the program and start engines, in seconds.
PREPARE_S = 120.0
# How long workers may take to hear that calls are cancelled, in seconds; one that stands still is not waited for.
CANCEL_S = 5.0
# How long the end in good order may take, in seconds.
END_S = 5.0


class Refused(Exception):
    """The cluster cannot be used; why, in words."""


class Pipe:
    """Both ends of the program. What else prints goes to the standard error."""

    def __init__(self):
        self.stdin, self.stdout = os.dup(0), os.dup(1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        self.said = bytearray()

    def read_frames(self):
        """Yields lists of frames, as they come together."""
        read = bytearray()
        while portion := os.read(self.stdin, 1 << 20):
            read += portion
            at, frames = 0, []
            while len(read) - at >= HEAD.size:
                length, kind = HEAD.unpack_from(read, at)
                if len(read) - at - HEAD.size < length:
                    break
                at += HEAD.size
                frames.append((kind, bytes(read[at : at + length])))
                at += length
            del read[:at]
            if frames:
                yield frames

    def say(self, kind, *parts):
        """Says something, together with what is said before the next flush."""
        self.said += HEAD.pack(sum(map(len, parts)), kind)
        for part in parts:
            self.said += part

    def flush(self):
        said, self.said = memoryview(self.said), bytearray()
        while said:
            said = said[os.write(self.stdout, said) :]


class Bridge:
    def __init__(self, pipe, config):
        self.pipe, self.config = pipe, config
        self.session = config["session"]
        self.pending = {}
        self.claims = {}
        self.loop = asyncio.get_running_loop()
        self.done = collections.deque()
        self.is_waking = False
        self.tasks = set()
        self.cancels = []
        self.facts = None
        self.alone_since = self.told_at = time.monotonic()
        self.is_flushing = False
        self.is_over = asyncio.Event()
        self.wish, self.is_wished = "look", asyncio.Event()

    def say(self, kind, *parts):
        self.pipe.say(kind, *parts)
        if not self.is_flushing:
            self.is_flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self):
        self.is_flushing = False
        self.pipe.flush()

    # ---- the beginning

    async def connect(self):
        config = self.config
        address, timeout = config["address"], config["timeout_s"]
        security = distributed.Security(**config["security"]) if config["security"] else None
        client = distributed.Client(
            address, asynchronous=True, security=security, timeout=timeout, set_as_default=False, name="callboard"
        )
        connecting = asyncio.ensure_future(_awaited(client))
        try:
            await asyncio.wait([connecting], timeout=1.0)
            if not connecting.done() and await asyncio.to_thread(speaks_http, address):
                raise Refused(
                    f"what listens at {address} speaks HTTP: that is the port of a dashboard, by default 8787; "
                    "the scheduler's is another, by default 8786"
                )
            await connecting
        except Refused:
            connecting.cancel()
            raise
        except Exception as error:
            told = str(error) or type(error).__name__
            raise Refused(f"no scheduler was found at {address} within {timeout:g} s: {told}") from None
        self.client = client
        return client

    async def prepare(self):
        """Has the workers hold what makes calls; says how many there are."""
        client, program = self.client, dict(self.config["program"])
        await self.deliver_code()
        needs = self.config["needs"] or plugin.machine()
        program["needs"] = needs
        program["sha256"] = await asyncio.to_thread(plugin.digest_of, program["path"])
        if program["sha256"] is None:
            raise Refused(f"the program {program['path']} cannot be read here")
        seen = self.of_ours(await client.run(plugin.look, program["path"]))
        others = {a: s["machine"] for a, s in seen.items() if not plugin.is_for(needs, s["machine"])}
        if others:
            named = ", ".join(f"{a} is {plugin.in_words(machine)}" for a, machine in sorted(others.items()))
            raise Refused(f"the program is built for {plugin.in_words(needs)}, and {named}")
        has_all = seen and all(s["program"] == program["sha256"] for s in seen.values())
        program["bytes"], program["is_copy"] = None, self.config["deliver"] == "always"
        if self.config["deliver"] == "always" or self.config["deliver"] == "needed" and not has_all:
            program["bytes"] = await asyncio.to_thread(_read, program["path"])
        client.subscribe_topic(plugin.TOPIC, self.on_running)
        await client.register_plugin(plugin.EnginesPlugin(self.session, program))
        problems = self.of_ours(await client.run(plugin.problem_of, self.session))
        problems = {problem for problem in problems.values() if problem}
        if problems:
            raise Refused("; ".join(sorted(problems)))
        await self.look_at_workers()
        if self.config["engines"] is not None:
            await self.start_engines(**self.config["engines"])

    async def start_engines(self, n, file):
        """Starts engines that dial, on each worker about as many as it has threads for."""
        nthreads = self.of_ours(await self.client.nthreads())
        if not nthreads:
            raise Refused("the cluster has no workers on which engines could be started")
        engines = dict.fromkeys(nthreads, 0)
        for _ in range(n):
            engines[min(engines, key=lambda address: engines[address] / nthreads[address])] += 1
        problems = await self.client.run(plugin.start_engines, self.session, engines, file)
        problems = sorted(problem for problem in problems.values() if problem)
        if problems:
            raise Refused("; ".join(problems))

    def of_ours(self, by_address):
        """Leaves those of the workers that the program has chosen, by address or host; all, if by none of these."""
        chosen = self.config["submit"].get("workers", ())
        ours = {a: of for a, of in by_address.items() if a in chosen or a.split("://")[-1].rsplit(":", 1)[0] in chosen}
        return ours or by_address

    async def tell_engines(self, what):
        try:
            told = await self.client.run(plugin.tell_engines, self.session, what, on_error="ignore")
        except Exception as error:
            print(f"the engines cannot be told to {what}: {error!r}", file=sys.stderr)
            return
        ends = [end for ends in told.values() for end in ends]
        if all(end is not None for end in ends):
            raise Refused("its engines have ended: " + (", ".join(sorted(set(ends))) or "with their workers"))

    async def deliver_code(self):
        """Has the scheduler and all workers load the code, once for all programs of this version."""
        for code in (plugin.SchedulerCode(), plugin.WorkerCode()):
            await self.client.register_plugin(code, name=plugin.__name__)

    async def look_at_workers(self):
        nthreads = await self.client.nthreads()
        for address in [address for address in self.claims if address not in nthreads]:
            del self.claims[address]
        for address in nthreads:
            if address not in self.claims:
                self.claims[address] = None
                try:
                    claim = f"callboard-claim-{self.session}-{address}"
                    self.claims[address] = await self.client.scatter({claim: True}, workers=[address], hash=False)
                except Exception as error:
                    print(f"worker {address} could not be claimed: {error}", file=sys.stderr)
                    self.claims.pop(address, None)
        facts = (len(nthreads), sum(nthreads.values()))
        if facts != self.facts:
            self.facts = facts
            self.say(WORKERS, struct.pack("<II", *facts))

    def look_for_workers(self):
        """Says so where there is nobody to run what waits; gives it up where that has lasted long enough."""
        now = time.monotonic()
        if self.facts[0] > 0 or not self.pending:
            self.alone_since = self.told_at = now
            return
        alone, patience = now - self.alone_since, self.config["unsatisfiable_after_s"]
        if now - self.told_at >= TELL_S:
            self.told_at = now
            print(f"{len(self.pending)} tasks wait, and the cluster has had no worker for {alone:.0f} s", file=sys.stderr)
        if patience is not None and alone >= patience:
            seqs = list(self.pending)
            self.start(self.give_up(seqs, f"the cluster has had no worker for {patience:g} s"))

    async def give_up(self, seqs, why):
        futures = [self.pending.pop(seq) for seq in seqs if seq in self.pending]
        for seq in seqs:
            self.say(DASK_FAILED, SEQ.pack(seq), why.encode())
        await self.client.cancel(futures)

    # ---- what the program says

    def on_frames(self, frames):
        """Hands on what came together, in order. Calls that come together are given to Dask together."""
        for kind, bodies in itertools.groupby(frames, lambda frame: frame[0]):
            bodies = [body for _, body in bodies]
            if kind == CALL:
                self.submit(bodies)
            elif kind in (CANCEL, KILL):
                seqs = [seq for (seq,) in SEQ.iter_unpack(b"".join(bodies))]
                self.cancels.append(self.start(self.cancel(seqs, kind == KILL)))
            elif kind == ASK:
                # What was cancelled before is done when this is answered.
                before, self.cancels = self.cancels, []
                for body in bodies:
                    self.start(self.answer(body, before))
            elif kind in (LEAVE, KILL_ENGINES):
                self.wish = "leave" if kind == LEAVE else "kill"
                self.is_wished.set()
            elif kind == FINISH:
                self.is_over.set()

    def start(self, doing):
        task = asyncio.ensure_future(doing)
        # Held, or it may end before it is done.
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def submit(self, calls):
        by_name = {}
        for body in calls:
            (length,) = LENGTH.unpack_from(body)
            by_name.setdefault(body[2 : 2 + length], []).append(body[2 + length :])
        for name, calls in by_name.items():
            for at in range(0, len(calls), BATCH_MAX):
                self.submit_of(name.decode(), calls[at : at + BATCH_MAX])

    def submit_of(self, name, calls):
        seqs = [SEQ.unpack_from(call)[0] for call in calls]
        session = bytes.fromhex(self.session)
        try:
            futures = self.client.map(
                plugin.make,
                [session + call for call in calls],
                key=[f"{name}-{seq}-{self.session}" for seq in seqs],
                pure=False,
                **self.config["submit"],
            )
        except Exception as error:
            for seq in seqs:
                self.say(DASK_FAILED, SEQ.pack(seq), f"Dask refused it: {error}".encode())
            return
        if not self.pending:
            # Whoever waits, waits from here on.
            self.alone_since = self.told_at = time.monotonic()
        for seq, future in zip(seqs, futures):
            self.pending[seq] = future
            future.add_done_callback(functools.partial(self.on_done, seq))

    def on_done(self, seq, _):
        """A task has ended. Called on a thread of Dask's."""
        self.done.append(seq)
        if not self.is_waking:
            self.is_waking = True
            self.loop.call_soon_threadsafe(self.start, self.collect())

    async def collect(self):
        """Fetches values together: one by one it costs the scheduler and the workers as much again as the tasks."""
        if len(self.pending) > FEW:
            await asyncio.sleep(PACE_S)
        self.is_waking = False
        ended = [self.done.popleft() for _ in range(len(self.done))]
        # Who is cancelled was taken out.
        futures = {seq: self.pending[seq] for seq in ended if seq in self.pending}
        finished = {seq: future for seq, future in futures.items() if future.status == "finished"}
        for seq in futures.keys() - finished.keys():
            self.start(self.follow(seq, futures[seq]))
        if finished:
            try:
                values = await self.client.gather(finished, errors="skip")
            except Exception:
                values = {}
            for seq, future in finished.items():
                if values.get(seq) is None:
                    # It was lost with a worker, and is made again.
                    self.start(self.follow(seq, future))
                elif self.pending.pop(seq, None) is not None:
                    self.say(VALUE, SEQ.pack(seq), values[seq])

    async def follow(self, seq, future):
        """Waits for one task, and says how it ended."""
        try:
            kind, body = VALUE, await future
        except (asyncio.CancelledError, concurrent.futures.CancelledError) as error:
            # What is lost with the scheduler is told by the end.
            is_ours = self.client.status != "running"
            kind, body = (None, b"") if is_ours else (DASK_FAILED, f"it was cancelled in Dask: {error}".encode())
        except plugin.TaskFailed as failed:
            kind, body = TASK_FAILED, failed.args[1]
        except plugin.EngineLost as lost:
            kind, body = ENGINE_LOST, struct.pack("<I", lost.args[0]) + lost.args[1].encode()
        except Exception as error:
            kind, body = DASK_FAILED, f"{type(error).__name__}: {error}".encode()
        if self.pending.pop(seq, None) is not None and kind is not None:
            self.say(kind, SEQ.pack(seq), body)

    async def cancel(self, seqs, by_force):
        futures = [future for future in (self.pending.pop(seq, None) for seq in seqs) if future is not None]
        if futures:
            await self.client.cancel(futures, reason="cancelled", msg="it was cancelled by the program")
        try:
            # Wherever they are by now: once this is answered, none begins any more.
            told = self.client.run(plugin.cancel, self.session, seqs, by_force, on_error="ignore")
            await asyncio.wait_for(told, CANCEL_S)
        except Exception as error:
            print(f"not all workers were told of a cancel: {error!r}", file=sys.stderr)
        self.say(CANCELLED, b"".join(map(SEQ.pack, seqs)))
        self.cancels = [cancel for cancel in self.cancels if not cancel.done()]

    async def answer(self, number, before):
        try:
            await asyncio.gather(*before)
            await self.look_at_workers()
        except Exception as error:
            print(f"the workers cannot be counted: {error!r}", file=sys.stderr)
        self.say(ANSWER, number)

    def on_running(self, event):
        _, (session, told) = event
        if session != self.session:
            return
        self.say(RUNNING, b"".join(struct.pack("<QI", seq, pid) for seq, pid in told))

    # ---- the end

    async def run(self):
        client = self.client
        ended = asyncio.ensure_future(self.is_over.wait())
        while not ended.done():
            wished = asyncio.ensure_future(self.is_wished.wait())
            await asyncio.wait([ended, wished], timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            wished.cancel()
            self.look_for_workers()
            if self.config["engines"] is not None and client.status == "running":
                self.is_wished.clear()
                wish, self.wish = self.wish, "look"
                await self.tell_engines(wish)
            if client.status != "running":
                raise Refused(f"the connection to the scheduler at {self.config['address']} was lost")
            try:
                await self.look_at_workers()
            except Exception as error:
                if client.status != "running":
                    continue
                print(f"the workers cannot be counted: {error!r}", file=sys.stderr)

    async def leave(self):
        """Has the cluster keep nothing of this program's but the code that all programs share."""
        client = self.client
        if client.status == "running":
            try:
                futures = list(self.pending.values())
                self.pending.clear()
                if futures:
                    await client.cancel(futures)
                await asyncio.wait_for(client.unregister_worker_plugin("callboard-" + self.session), END_S)
            except Exception as error:
                print(f"the workers could not be cleared: {error!r}", file=sys.stderr)
        try:
            await asyncio.wait_for(client.close(), END_S)
        except Exception:
            pass


async def _awaited(client):
    return await client


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def speaks_http(address):
    """Whether a web server listens there. A scheduler speaks first; so a moment of silence comes before the question."""
    protocol, _, place = address.rpartition("://")
    name, _, port = place.rpartition(":")
    if protocol not in ("", "tcp") or not port.isdigit():
        return False
    try:
        with socket.create_connection((name.strip("[]") or "127.0.0.1", int(port)), timeout=2) as stream:
            stream.settimeout(0.7)
            try:
                return stream.recv(5) == b"HTTP/"
            except TimeoutError:
                stream.settimeout(2)
                stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return stream.recv(5) == b"HTTP/"
    except OSError:
        return False


async def main(pipe, frames, config):
    loop, bridge = asyncio.get_running_loop(), Bridge(pipe, config)
    try:
        await bridge.connect()
        try:
            await asyncio.wait_for(bridge.prepare(), PREPARE_S)
        except asyncio.TimeoutError:
            raise Refused(f"the workers did not start their engines within {PREPARE_S:g} s") from None
        facts = {"version": distributed.__version__, "dashboard": bridge.client.dashboard_link, "python": sys.executable}
        bridge.say(READY, json.dumps(facts).encode())

        def read():
            try:
                for frames_ in frames:
                    loop.call_soon_threadsafe(bridge.on_frames, frames_)
            except OSError:
                pass
            loop.call_soon_threadsafe(bridge.is_over.set)

        threading.Thread(target=read, name="callboard-frames", daemon=True).start()
        await bridge.run()
    except Refused as refused:
        bridge.say(FAILED, str(refused).encode())
    except Exception as error:
        bridge.say(FAILED, f"{type(error).__name__}: {error}".encode())
        raise
    finally:
        pipe.flush()
        if hasattr(bridge, "client"):
            await bridge.leave()


def start():
    pipe = Pipe()
    frames = pipe.read_frames()
    first = next(frames, None)
    if first is None:
        return
    global distributed, plugin
    config = json.loads(first[0][1])
    try:
        import distributed
    except ImportError as error:
        pipe.say(
            FAILED,
            f"{sys.executable} has no distributed ({error}); install it with: "
            f"{sys.executable} -m pip install distributed".encode(),
        )
        pipe.flush()
        return
    # By this name it is known to the scheduler and to the workers, too.
    plugin = sys.modules[config["module"]] = types.ModuleType(config["module"])
    plugin.SOURCE = config["plugin"]
    exec(compile(plugin.SOURCE, config["module"] + ".py", "exec"), plugin.__dict__)
    try:
        asyncio.run(main(pipe, frames, config))
    except BrokenPipeError:
        # The program is gone.
        pass


start()
