

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
        # Notified when nothing runs any more.
        self.rest = threading.Condition(self.lock)
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
        seq, attempt = TASK.unpack_from(call)
        with self.lock:
            engine = self.idle.pop() if self.idle else None
        if engine is None or not engine.is_there():
            engine = self.start()
        with self.lock:
            if self.unwanted.pop(seq, self) is None or self.is_over:
                self.idle.append(engine)
                return b""
            self.running[seq] = engine
            engine.attempt = attempt
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
                if not self.running:
                    self.rest.notify_all()
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
                continue
            try:
                engine.tell(CANCEL, SEQ.pack(seq))
            except OSError:
                # It has just died, which its call is told of.
                pass

    def await_end(self, within_s):
        with self.rest:
            self.rest.wait_for(lambda: not self.running, within_s)

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
                self.worker.log_event(TOPIC, [self.session, [[seq, engine.attempt, engine.process.pid] for seq, engine in told]])
