

class Engine:
    """A process that is the program, and makes one call after the other."""

    def __init__(self, path, args, address):
        self.address = address
        self.is_well = True
        self.is_told = False
        self.attempt, self.since = 0, 0.0
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
