"""The tutorial's comparison on the Python originals, in the same JSON lines as `callboard compare --json`.

    python3 benches/python_originals.py [--workers 4] [--exponent 24] [--loops 15] [--tasks 20000] [--only NAME,..]

Makes a virtual environment under target/ with pinned packages, once, and runs itself in it. Each result is checked
against the one that is computed here. What is measured: the 16 norms of numpy arrays (ms/loop), tasks that do nothing,
submitted one by one and gathered (tasks/s), and one such task and its result (us, p50).
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

PACKAGES = ["numpy==2.2.1", "ipyparallel==9.0.0", "ipykernel==6.29.5", "distributed==2026.8.0", "dask==2026.8.0"]
HOME = pathlib.Path(__file__).resolve().parent.parent / "target" / "python-originals"
RUNS = 3


def in_environment():
    """Runs this program again with the packages, if it does not have them yet."""
    python = HOME / "bin" / "python"
    if pathlib.Path(sys.prefix).resolve() == HOME.resolve():
        return
    stamp = HOME / "packages.txt"
    if not stamp.exists() or stamp.read_text() != "\n".join(PACKAGES):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True, stdout=sys.stderr)
        stamp.write_text("\n".join(PACKAGES))
    # One thread in each worker: they are what is compared.
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    os.execve(str(python), [str(python), *sys.argv], {**os.environ, **threads})


def norm(n):
    import numpy

    return float(numpy.linalg.norm(numpy.ones(int(n))))


def noop(_=None):
    return None


class Futures:
    """An executor of concurrent.futures, or one with its interface."""

    def __init__(self, executor):
        self.executor = executor

    def norms(self, sizes):
        return list(self.executor.map(norm, sizes))

    def burst(self, count):
        futures = [self.executor.submit(noop) for _ in range(count)]
        for future in futures:
            future.result()

    def close(self):
        self.executor.shutdown()


class Pool:
    def __init__(self, workers):
        self.pool = multiprocessing.Pool(workers)

    def norms(self, sizes):
        return self.pool.map(norm, sizes, chunksize=1)

    def burst(self, count):
        results = [self.pool.apply_async(noop) for _ in range(count)]
        for result in results:
            result.get()

    def close(self):
        self.pool.terminate()
        self.pool.join()


class Ipyparallel(Futures):
    def __init__(self, workers):
        import ipyparallel

        self.cluster = ipyparallel.Cluster(n=workers, log_level=40)
        client = self.cluster.start_and_connect_sync()
        client[:].use_cloudpickle().get()
        super().__init__(client.executor())

    def close(self):
        self.cluster.stop_cluster_sync()


class Dask:
    def __init__(self, workers):
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, host="127.0.0.1", silence_logs=40
        )
        self.client = Client(self.cluster)

    def norms(self, sizes):
        return self.client.gather(self.client.map(norm, sizes, pure=False))

    def burst(self, count):
        self.client.gather([self.client.submit(noop, pure=False) for _ in range(count)])

    def close(self):
        self.client.close()
        self.cluster.close()


SYSTEMS = {
    "python-thread-pool": lambda n: Futures(ThreadPoolExecutor(n)),
    "python-process-pool": lambda n: Futures(ProcessPoolExecutor(n)),
    "multiprocessing-pool": Pool,
    "ipyparallel": Ipyparallel,
    "dask": Dask,
}

# Those that take a millisecond and more for a task get fewer.
SLOW = {"ipyparallel": 20, "dask": 20}


def line(system, test, params, values, unit):
    runs = {"n": len(values), "median": statistics.median(values), "min": min(values), "max": max(values)}
    series = {"system": system, "test": test, "params": params, "value": runs["median"], "unit": unit, "runs": runs}
    print(json.dumps(series), flush=True)


def measure(name, options):
    tasks = max(10, options.tasks // SLOW.get(name, 1))
    params = {"executor": name, "engines": options.workers}
    sizes = [int(2 ** (options.exponent - 4 + 4 * i / 15)) for i in range(16)]
    expected = [norm(n) for n in sizes]
    system = SYSTEMS[name](options.workers)
    try:
        loops = []
        for loop in range(options.loops + 1):
            start = time.perf_counter()
            norms = system.norms(sizes)
            if loop > 0:
                loops.append((time.perf_counter() - start) * 1e3)
            assert norms == expected, f"{name}: its norms are not those that were computed here"
        line(name, "norms", {**params, "largest": sizes[-1]}, loops, "ms/loop")
        rates, waits = [], []
        for _ in range(RUNS):
            system.burst(100)
            start = time.perf_counter()
            system.burst(tasks)
            rates.append(tasks / (time.perf_counter() - start))
            times = []
            for _ in range(max(10, tasks // 10)):
                start = time.perf_counter()
                system.burst(1)
                times.append((time.perf_counter() - start) * 1e6)
            waits.append(statistics.median(times))
        line(name, "noop_throughput", {**params, "tasks": tasks}, rates, "tasks/s")
        line(name, "latency", {**params, "quantile": "p50"}, waits, "us")
    finally:
        system.close()


def main():
    in_environment()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--exponent", type=int, default=24)
    parser.add_argument("--loops", type=int, default=15)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--only", default=",".join(SYSTEMS))
    options = parser.parse_args()
    for name in options.only.split(","):
        measure(name, options)


if __name__ == "__main__":
    main()
