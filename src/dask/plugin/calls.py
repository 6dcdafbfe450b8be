"""The workers' side: keeps engines on a Dask worker, one for each of its threads, and has them make calls.

Every worker and the scheduler load this, so that what a task is can be named instead of sent. It holds nothing
by itself: what there is belongs to the plugin of one program.

A plugin that fails when a worker starts keeps that worker from starting, for everybody. So what is registered here
brings the code that it needs, and no setup raises.

The files of this folder are one, in this order: calls.py, machine.py, carried.py, engines.py, engine.py.
"""

import asyncio
import collections
import errno
import hashlib
import os
import platform
import re
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
# A call begins with its task's number and the attempt as that it was submitted.
TASK = struct.Struct("<QI")
CALL, CANCEL = 0, 1
# The name of a plugin, in that of the client that has registered it.
BRIDGE = re.compile("callboard-[0-9a-f]{16}")


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


async def await_end(session, within_s, dask_worker):
    """Waits until no call of this program runs here, for so long at most."""
    plugin = dask_worker.plugins.get("callboard-" + session)
    if plugin is not None:
        await asyncio.to_thread(plugin.await_end, within_s)
