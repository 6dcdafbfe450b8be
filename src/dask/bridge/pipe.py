"""The bridge: a client of a Dask cluster for a program in another language, which speaks with it by frames.

The program holds both ends: it writes to the standard input and reads from the standard output, and when it is gone
these end, and so does this. The standard error is for people. Of Dask only what its documentation names is used.

The files of this folder are one, in this order: pipe.py, cluster.py, workers.py, tasks.py, main.py.

A frame is a length (u32), a kind (u8) and a body of that length, little-endian. What there is to say is in
frames.rs, beside this folder.
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
# A task's number, and the attempt as that it is submitted.
TASK = struct.Struct("<QI")
LENGTH = struct.Struct("<H")

# From the program.
CONFIGURE, CALL, CANCEL, KILL, ASK, FINISH, LEAVE, KILL_ENGINES = range(8)
# To it.
FAILED, READY, VALUE, TASK_FAILED, ENGINE_LOST, DASK_FAILED, RUNNING, CANCELLED, WORKERS, ANSWER, CONNECTED = range(11)

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
# How long what was asked to stop may go on, in seconds, before its engine ends with the program.
STOP_S = 2.0
# How long a connection that was lost may take to close, in seconds.
CLOSE_S = 0.25
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
