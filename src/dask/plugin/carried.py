

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
    idempotent = True


class WorkerCode(Carried, WorkerPlugin):
    idempotent = True
