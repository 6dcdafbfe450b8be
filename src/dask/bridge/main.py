

class Bridge:
    """What the program says, and how long there is somebody to say it to."""

    def __init__(self, pipe, config):
        self.pipe, self.config = pipe, config
        self.cluster = Cluster(config)
        self.tasks = None
        self.is_over = asyncio.Event()
        self.wish, self.is_wished = "look", asyncio.Event()

    async def begin_unless_over(self):
        """Begins, unless the program is gone or wants it to end before that; returns whether it does not."""
        beginning, over = asyncio.ensure_future(self.begin()), asyncio.ensure_future(self.is_over.wait())
        await asyncio.wait([beginning, over], return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if beginning.done():
            await beginning
            return True
        beginning.cancel()
        await asyncio.wait([beginning], timeout=END_S)
        return False

    async def begin(self):
        """Connects, and has the workers prepared; says that it has."""
        cluster = self.cluster
        await cluster.connect()
        if self.config["left"] is not None:
            await cluster.clear(self.config["left"])
        self.pipe.say(CONNECTED)
        self.pipe.flush()
        self.workers = Workers(cluster, self.config)
        self.tasks = Tasks(self.pipe, self.config, cluster, self.workers)
        cluster.client.subscribe_topic(plugin.TOPIC, self.tasks.on_running)
        try:
            await asyncio.wait_for(cluster.prepare(self.workers), PREPARE_S)
        except asyncio.TimeoutError:
            raise Refused(f"the workers did not start their engines within {PREPARE_S:g} s") from None
        self.tasks.tell_of_workers()
        facts = {"version": distributed.__version__, "dashboard": cluster.client.dashboard_link, "python": sys.executable}
        self.pipe.say(READY, json.dumps(facts).encode())
        self.pipe.flush()

    def on_frames(self, frames):
        """Hands on what came together, in order. Calls that come together are given to Dask together."""
        for kind, bodies in itertools.groupby(frames, lambda frame: frame[0]):
            bodies = [body for _, body in bodies]
            if kind == CALL:
                self.tasks.submit(bodies)
            elif kind in (CANCEL, KILL):
                seqs = [seq for (seq,) in SEQ.iter_unpack(b"".join(bodies))]
                self.tasks.begin_cancel(seqs, kind == KILL)
            elif kind == ASK:
                self.tasks.begin_answer(bodies)
            elif kind in (LEAVE, KILL_ENGINES):
                self.wish = "leave" if kind == LEAVE else "kill"
                self.is_wished.set()
            elif kind == FINISH:
                self.is_over.set()

    async def run(self):
        ended = asyncio.ensure_future(self.is_over.wait())
        lost = asyncio.ensure_future(self.cluster.lost.wait())
        looking = self.tasks.start(self.tasks.count_workers())
        while not ended.done():
            wished = asyncio.ensure_future(self.is_wished.wait())
            await asyncio.wait([ended, wished, lost], timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            wished.cancel()
            self.tasks.look_for_workers()
            await self.grant()
            if not self.cluster.is_there():
                raise Refused(self.cluster.loss())
            if looking.done():
                # Not waited for: a worker that stands still takes its time.
                looking = self.tasks.start(self.tasks.count_workers())
        if self.wish != "look":
            # It came together with the end.
            await self.grant()

    async def grant(self):
        """Tells engines that dial what was wished of them last; has a look at them, if nothing was."""
        if self.config["engines"] is not None and self.cluster.is_there():
            self.is_wished.clear()
            wish, self.wish = self.wish, "look"
            await self.cluster.tell_engines(wish)

    async def leave(self):
        if self.tasks is None:
            return await self.cluster.leave([])
        await self.tasks.let_stop()
        await self.cluster.leave(self.tasks.take_all())


async def main(pipe, frames, config):
    loop, bridge = asyncio.get_running_loop(), Bridge(pipe, config)

    def read():
        try:
            for frames_ in frames:
                loop.call_soon_threadsafe(bridge.on_frames, frames_)
        except OSError:
            pass
        loop.call_soon_threadsafe(bridge.is_over.set)

    threading.Thread(target=read, name="callboard-frames", daemon=True).start()
    try:
        if await bridge.begin_unless_over():
            await bridge.run()
    except Refused as refused:
        pipe.say(FAILED, str(refused).encode())
    except Exception as error:
        pipe.say(FAILED, f"{type(error).__name__}: {error}".encode())
        raise
    finally:
        try:
            pipe.flush()
        finally:
            # Also where the program is gone.
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
