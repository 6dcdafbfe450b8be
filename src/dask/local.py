"""A Dask cluster on this machine, for a program in another language: a scheduler, and workers of one thread each.

It says at which address, and ends with its workers when its standard input ends. The program holds the other end: so it
does also where that is killed. The standard error is for people. Of Dask only what its documentation names is used.
"""

import os
import signal
import struct
import sys
import tempfile
import threading
import time

# As in frames.rs, beside this file.
HEAD = struct.Struct("<IB")
FAILED, READY = range(2)
# How long the end in good order may take, in seconds.
END_S = 10.0


def main(workers):
    stdin, stdout = os.dup(0), os.dup(1)
    # Workers are started with these; what prints goes to the standard error.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    is_over = threading.Event()
    scratch = tempfile.TemporaryDirectory(prefix="callboard-dask-", ignore_cleanup_errors=True)

    def say(kind, text):
        os.write(stdout, HEAD.pack(len(text.encode()), kind) + text.encode())

    def wait():
        while os.read(stdin, 4096):
            pass
        is_over.set()
        time.sleep(END_S)
        # Nobody else removes it any more.
        scratch.cleanup()
        # The workers are in the group that this process leads.
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, name="callboard-wait", daemon=True).start()
    try:
        from distributed import LocalCluster
    except ImportError as error:
        python = sys.executable
        return say(FAILED, f"{python} has no distributed ({error}); install it with: {python} -m pip install distributed")
    try:
        with (
            scratch as directory,
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                # Any port that is free: without one it would be 8787.
                dashboard_address="127.0.0.1:0",
                local_directory=directory,
            ) as cluster,
        ):
            say(READY, cluster.scheduler_address)
            is_over.wait()
    except BrokenPipeError:
        # The program is gone.
        pass
    except Exception as error:
        say(FAILED, f"{workers} workers cannot be started here: {type(error).__name__}: {error}")


# Whoever is started by this process, and loads this file for it, is to start none.
if __name__ == "__main__":
    main(int(sys.argv[2]))
