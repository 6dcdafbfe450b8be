

class Tasks:
    """The program's tasks, as tasks of the cluster: given to it, given up, and how they end."""

    def __init__(self, pipe, config, cluster, workers):
        self.pipe, self.config = pipe, config
        self.session = config["session"]
        self.cluster, self.client, self.workers = cluster, cluster.client, workers
        self.pending = {}
        # Of those that were submitted more than once, as which attempt.
        self.again = {}
        # Those that were told to run, on workers that are there as far as is known.
        self.begun = set()
        self.loop = asyncio.get_running_loop()
        self.done = collections.deque()
        self.is_waking = False
        self.running = set()
        self.cancels = []
        # When something was asked to stop last.
        self.asked_at = -STOP_S
        self.told = None
        self.is_flushing = False

    def say(self, kind, *parts):
        self.pipe.say(kind, *parts)
        if not self.is_flushing:
            self.is_flushing = True
            self.loop.call_soon(self.flush)

    def flush(self):
        self.is_flushing = False
        self.pipe.flush()

    def start(self, doing):
        task = asyncio.ensure_future(doing)
        # Held, or it may end before it is done.
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return task

    def look_for_workers(self):
        """Gives up what nobody may run, where that has lasted long enough."""
        # What runs has found one, whatever is known of it here.
        self.begun &= self.pending.keys()
        self.again = {seq: attempt for seq, attempt in self.again.items() if seq in self.pending}
        waiting = [seq for seq in self.pending if seq not in self.begun]
        why = self.workers.look_for_one(len(waiting))
        if why is not None:
            self.start(self.give_up(waiting, why))

    def tell_of_workers(self):
        if self.workers.facts() != self.told:
            self.told = self.workers.facts()
            self.say(WORKERS, struct.pack("<II", *self.told))

    async def count_workers(self):
        loss = self.workers.loss
        try:
            await self.workers.look()
            if loss.is_set():
                # Some of what ran may have run there.
                self.begun.clear()
            self.tell_of_workers()
        except Exception as error:
            if self.cluster.is_there():
                print(f"the workers cannot be counted: {error!r}", file=sys.stderr)

    async def give_up(self, seqs, why):
        futures = [self.pending.pop(seq) for seq in seqs if seq in self.pending]
        for seq in seqs:
            self.say(DASK_FAILED, SEQ.pack(seq), why.encode())
        await self.client.cancel(futures)

    def submit(self, calls):
        by_name = {}
        for body in calls:
            (length,) = LENGTH.unpack_from(body)
            by_name.setdefault(body[2 : 2 + length], []).append(body[2 + length :])
        for name, calls in by_name.items():
            for at in range(0, len(calls), BATCH_MAX):
                self.submit_of(name.decode(), calls[at : at + BATCH_MAX])

    def submit_of(self, name, calls):
        tasks = [TASK.unpack_from(call) for call in calls]
        seqs = [seq for seq, _ in tasks]
        if not self.cluster.is_there():
            # Dask's client may have another connection by now; this is about to end all the same.
            for seq in seqs:
                self.say(DASK_FAILED, SEQ.pack(seq), self.cluster.loss().encode())
            return
        session = bytes.fromhex(self.session)
        try:
            futures = self.client.map(
                plugin.make,
                [session + call for call in calls],
                # Of one whose engine was lost Dask may not have forgotten the key yet.
                key=[f"{name}-{seq}-{self.session}-{attempt}" for seq, attempt in tasks],
                pure=False,
                **self.config["submit"],
            )
        except Exception as error:
            for seq in seqs:
                self.say(DASK_FAILED, SEQ.pack(seq), f"Dask refused it: {error}".encode())
            return
        if not self.pending:
            self.workers.wait_begins()
        for (seq, attempt), future in zip(tasks, futures):
            self.pending[seq] = future
            if attempt > 1:
                self.again[seq] = attempt
                self.begun.discard(seq)
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
            values = await self.fetch(finished)
            for seq, future in finished.items():
                if values.get(seq) is None:
                    # It was lost with a worker, and is made again; or is only to be fetched again.
                    self.start(self.follow(seq, future))
                elif self.pending.pop(seq, None) is not None:
                    self.say(VALUE, SEQ.pack(seq), values[seq])

    async def fetch(self, finished):
        """Returns values; not all of them, or none, where a worker is lost meanwhile."""
        fetching = self.start(self.client.gather(finished, errors="skip"))
        loss = asyncio.ensure_future(self.workers.loss.wait())
        await asyncio.wait([fetching, loss], return_when=asyncio.FIRST_COMPLETED)
        loss.cancel()
        if not fetching.done():
            # Dask may go on to look for that worker for half a minute, and what others have is not to wait for it. It is not cancelled:
            # another one may have joined it.
            fetching.add_done_callback(lambda done: done.cancelled() or done.exception())
            return {}
        try:
            return fetching.result()
        except Exception:
            return {}

    async def follow(self, seq, future):
        """Waits for one task, and says how it ended."""
        try:
            kind, body = VALUE, await future
        except (asyncio.CancelledError, concurrent.futures.CancelledError) as error:
            self.cluster.on_cancelled(error)
            why = f"it was cancelled in Dask: {error}" if self.cluster.is_there() else self.cluster.loss()
            kind, body = DASK_FAILED, why.encode()
        except plugin.TaskFailed as failed:
            kind, body = TASK_FAILED, failed.args[1]
        except plugin.EngineLost as lost:
            kind, body = ENGINE_LOST, struct.pack("<I", lost.args[0]) + lost.args[1].encode()
        except Exception as error:
            kind, body = DASK_FAILED, f"{type(error).__name__}: {error}".encode()
        if self.pending.pop(seq, None) is not None:
            self.say(kind, SEQ.pack(seq), body)

    def begin_cancel(self, seqs, by_force):
        self.cancels.append(self.start(self.cancel(seqs, by_force)))

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
        self.asked_at = time.monotonic()
        self.say(CANCELLED, b"".join(map(SEQ.pack, seqs)))
        self.cancels = [cancel for cancel in self.cancels if not cancel.done()]

    async def let_stop(self):
        """Waits until nothing of the program's runs any more, where something was asked to stop just now; a moment at most."""
        left_s = self.asked_at + STOP_S - time.monotonic()
        if left_s <= 0 or not self.cluster.is_there():
            return
        try:
            stopping = self.client.run(plugin.await_end, self.session, left_s, on_error="ignore")
            await asyncio.wait_for(stopping, left_s)
        except Exception:
            # It does not listen, and ends with its engine.
            pass

    def begin_answer(self, numbers):
        # What was cancelled before is done when this is answered.
        before, self.cancels = self.cancels, []
        for number in numbers:
            self.start(self.answer(number, before))

    async def answer(self, number, before):
        await asyncio.gather(*before, return_exceptions=True)
        await self.count_workers()
        # Where the connection was lost, the end answers.
        if self.cluster.is_there():
            self.say(ANSWER, number)

    def on_running(self, event):
        _, (session, told) = event
        if session != self.session:
            return
        # Of one whose engine was lost it may be told late.
        self.begun.update(seq for seq, attempt, _ in told if attempt == self.again.get(seq, 1))
        self.say(RUNNING, b"".join(struct.pack("<QII", *one) for one in told))

    def take_all(self):
        """Takes out what waits."""
        futures = list(self.pending.values())
        self.pending.clear()
        return futures
