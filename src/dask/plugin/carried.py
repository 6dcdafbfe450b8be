

# Makes an object of a class of this source, which is loaded first where it is not.
LOAD = """[
    m := __import__('sys').modules.setdefault(name, __import__('types').ModuleType(name)),
    hasattr(m, 'SOURCE') or (setattr(m, 'SOURCE', source), exec(compile(source, name + '.py', 'exec'), m.__dict__)),
    getattr(m, kind)(*args),
][-1]"""


class Carried:
    """What brings this source with it to wherever it is sent."""

    made_of = ()

    def __reduce__(self):
        name = type(self).__module__
        what = {"name": name, "source": SOURCE, "kind": type(self).__name__, "args": self.made_of}
        return eval, (LOAD, what)


class SchedulerCode(Carried, SchedulerPlugin):
    """On the scheduler: takes the plugin of a program back whose client is gone, however that ended."""

    idempotent = True

    def __init__(self):
        self.taking = set()

    def remove_client(self, scheduler, client):
        # A bridge's client has the name of the plugin that it registers, and there is no other of that name.
        name = BRIDGE.search(client)
        if name is not None:
            taking = asyncio.ensure_future(take_back(scheduler, name.group()))
            # Held, or it may end before it is done.
            self.taking.add(taking)
            taking.add_done_callback(self.taking.discard)


async def take_back(scheduler, name):
    try:
        await scheduler.unregister_worker_plugin(None, name)
    except ValueError:
        # The program did it itself.
        pass


class WorkerCode(Carried, WorkerPlugin):
    idempotent = True
