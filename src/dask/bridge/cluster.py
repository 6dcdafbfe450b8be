

class Cluster:
    """The cluster, as a client of it: found, prepared for the program, and left as it was."""

    def __init__(self, config):
        self.config, self.session = config, config["session"]
        self.client = None
        # Set once the connection was lost, and for good: Dask's client makes another by itself, and knows nothing of what it had.
        self.lost = asyncio.Event()

    async def connect(self):
        config = self.config
        address, timeout = config["address"], config["timeout_s"]
        if address.startswith("tls://") and not config["security"]:
            raise Refused(f"{address} is reached by TLS, which needs the cluster's files: tls(ca, cert, key) of its builder")
        security = distributed.Security(**config["security"]) if config["security"] else None
        # By this name the scheduler takes the plugin back when the client is gone.
        name = "callboard-" + self.session
        client = distributed.Client(
            address, asynchronous=True, security=security, timeout=timeout, set_as_default=False, name=name
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
        except ValueError as error:
            raise Refused(f"{address} is no address of a scheduler: {error}; write it as tcp://host:8786") from None
        except Exception as error:
            told = str(error) or type(error).__name__
            raise Refused(f"no scheduler was found at {address} within {timeout:g} s: {told}") from None
        self.client = client

    async def clear(self, session):
        """Has the workers forget what was before: a bridge that was lost has not taken its plugin back."""
        try:
            await self.take_back(session)
        except Exception as error:
            print(f"the workers could not be cleared of what was lost: {error!r}", file=sys.stderr)

    async def take_back(self, session):
        try:
            await asyncio.wait_for(self.client.unregister_worker_plugin("callboard-" + session), END_S)
        except ValueError as error:
            # It was taken back before, or the scheduler is another one.
            if "does not exist" not in str(error):
                raise

    def is_there(self):
        return self.client.status == "running" and not self.lost.is_set()

    def on_cancelled(self, error):
        """A future is cancelled, by nobody here: notes whether the connection was lost. Dask's client cancels all that it has then."""
        if self.client.status != "running" or getattr(error, "reason", None) == "scheduler-connection-lost":
            self.lost.set()

    def loss(self):
        return f"the connection to the scheduler at {self.config['address']} was lost"

    async def prepare(self, workers):
        """Has the workers hold what makes calls."""
        client, program = self.client, dict(self.config["program"])
        await self.deliver_code()
        needs = self.config["needs"] or plugin.machine()
        program["needs"] = needs
        program["sha256"] = await asyncio.to_thread(plugin.digest_of, program["path"])
        if program["sha256"] is None:
            raise Refused(f"the program {program['path']} cannot be read here")
        await workers.count()
        seen = workers.only_able(await client.run(plugin.look, program["path"]))
        others = {a: s["machine"] for a, s in seen.items() if not plugin.is_for(needs, s["machine"])}
        if others:
            named = ", ".join(f"{a} is {plugin.in_words(machine)}" for a, machine in sorted(others.items()))
            raise Refused(f"the program is built for {plugin.in_words(needs)}, and {named}")
        has_all = seen and all(s["program"] == program["sha256"] for s in seen.values())
        program["bytes"], program["is_copy"] = None, self.config["deliver"] == "always"
        if self.config["deliver"] == "always" or self.config["deliver"] == "needed" and not has_all:
            program["bytes"] = await asyncio.to_thread(_read, program["path"])
        await client.register_plugin(plugin.EnginesPlugin(self.session, program))
        problems = workers.only_able(await client.run(plugin.problem_of, self.session))
        problems = {problem for problem in problems.values() if problem}
        if problems:
            raise Refused("; ".join(sorted(problems)))
        await workers.look()
        if self.config["engines"] is not None:
            await self.start_engines(workers, **self.config["engines"])

    async def deliver_code(self):
        """Has the scheduler and all workers load the code, once for all programs of this version."""
        for code in (plugin.SchedulerCode(), plugin.WorkerCode()):
            await self.client.register_plugin(code, name=plugin.__name__)

    async def start_engines(self, workers, n, file):
        """Starts engines that dial, on each worker about as many as it has threads for."""
        nthreads = workers.able
        if not nthreads:
            raise Refused("the cluster has no workers on which engines could be started")
        engines = dict.fromkeys(nthreads, 0)
        for _ in range(n):
            engines[min(engines, key=lambda address: engines[address] / nthreads[address])] += 1
        problems = await self.client.run(plugin.start_engines, self.session, engines, file)
        problems = sorted(problem for problem in problems.values() if problem)
        if problems:
            raise Refused("; ".join(problems))

    async def tell_engines(self, what):
        try:
            telling = self.client.run(plugin.tell_engines, self.session, what, on_error="ignore")
            # A worker that stands still is not waited for.
            told = await asyncio.wait_for(telling, CANCEL_S)
        except Exception as error:
            print(f"the engines cannot be told to {what}: {error!r}", file=sys.stderr)
            return
        ends = [end for ends in told.values() for end in ends]
        if all(end is not None for end in ends):
            raise Refused("its engines have ended: " + (", ".join(sorted(set(ends))) or "with their workers"))

    async def leave(self, futures):
        """Has the cluster keep nothing of this program's but the code that all programs share."""
        client = self.client
        if client is None:
            return
        # Where it was lost and Dask's client has made another, that one can clear them as well.
        if client.status == "running":
            try:
                if futures:
                    await asyncio.wait_for(client.cancel(futures), END_S)
                await self.take_back(self.session)
            except Exception as error:
                print(f"the workers could not be cleared: {error!r}", file=sys.stderr)
        try:
            # What was lost and found again does not close in good order, and what is left of it ends with this process.
            await asyncio.wait_for(client.close(), END_S if self.is_there() else CLOSE_S)
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
