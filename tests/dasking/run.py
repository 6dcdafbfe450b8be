"""A part of a Dask cluster of a test's: `scheduler` or `worker`, with the arguments of that command.

It ends with the test that holds its standard input, however that ends, and after ten minutes at the latest.
"""

import os
import signal
import sys
import threading


def end():
    os.killpg(os.getpgid(0), signal.SIGKILL)


def wait():
    while os.read(0, 4096):
        pass
    end()


if __name__ == "__main__":
    threading.Thread(target=wait, daemon=True).start()
    timer = threading.Timer(600, end)
    timer.daemon = True
    timer.start()
    part = sys.argv.pop(1)
    if part == "scheduler":
        from distributed.cli.dask_scheduler import main
    else:
        from distributed.cli.dask_worker import main
    main()
