

class Workers:
    """Which workers there are, which of them may run tasks of the program's, and what is to be said where none may."""

    def __init__(self, cluster, config):
        self.cluster, self.client, self.session = cluster, cluster.client, config["session"]
        self.chosen = config["submit"].get("workers", [])
        # As Dask has them: a host with a port may be a name.
        self.addresses = set()
        # Engines that dial run no tasks of Dask's.
        self.resources = config["submit"].get("resources", {}) if config["engines"] is None else {}
        self.patience = config["unsatisfiable_after_s"]
        # Threads by address: of all, and of those that may run tasks.
        self.all, self.able = {}, {}
        # What the scheduler tells of each, where that matters.
        self.known = {}
        self.claims = {}
        # Set, and another one, each time that one is lost.
        self.loss = asyncio.Event()
        self.alone_since = self.told_at = time.monotonic()

    async def look(self):
        """Counts them, and claims those that are new."""
        await self.count()
        for address in [address for address in self.claims if address not in self.all]:
            del self.claims[address]
        gone = [address for address, claim in self.claims.items() if claim is not None and claim.cancelled()]
        # The connection was lost, or the worker: then another one has its address.
        for claim in [self.claims.pop(address) for address in gone]:
            self.cluster.on_cancelled(await _why(claim))
        if not self.cluster.is_there():
            return
        for address in self.all:
            if address not in self.claims:
                self.claims[address] = None
                try:
                    claim = f"callboard-claim-{self.session}-{address}"
                    # One that stands still is tried again.
                    claiming = self.client.scatter({claim: True}, workers=[address], hash=False)
                    self.claims[address] = (await asyncio.wait_for(claiming, END_S))[claim]
                except Exception as error:
                    print(f"worker {address} could not be claimed: {error!r}", file=sys.stderr)
                    self.claims.pop(address, None)

    async def count(self):
        before, self.all = self.all, await self.client.nthreads()
        if before.keys() - self.all.keys():
            self.loss.set()
            self.loss = asyncio.Event()
        if not self.chosen and not self.resources:
            self.able = self.all
            return
        if self.known.keys() != self.all.keys() or not self.able:
            # What a client has in store of this says nothing of workers, where it is asynchronous.
            self.known = (await self.client.scheduler.identity())["workers"]
            self.addresses = {await asyncio.to_thread(_resolved, chosen) for chosen in self.chosen}
        self.able = {address: threads for address, threads in self.all.items() if self.may_run(address)}

    def may_run(self, address):
        """Whether Dask gives tasks to this worker: by address, host or name, and with enough of each resource."""
        worker = self.known.get(address)
        if worker is None:
            return False
        names = (address.split("://")[-1], worker["host"], worker["name"])
        is_chosen = not self.chosen or address in self.addresses or any(name in self.chosen for name in names)
        return is_chosen and all(worker["resources"].get(of, 0) >= amount for of, amount in self.resources.items())

    def only_able(self, by_address):
        return {address: of for address, of in by_address.items() if address in self.able}

    def facts(self):
        return len(self.able), sum(self.able.values())

    def wait_begins(self):
        """Whoever waits, waits from here on."""
        self.alone_since = self.told_at = time.monotonic()

    def look_for_one(self, waiting):
        """Says so where nobody may run what waits; returns why it is to be given up, where that has lasted long enough."""
        if self.able or not waiting:
            self.wait_begins()
            return None
        now = time.monotonic()
        alone = now - self.alone_since
        if now - self.told_at >= TELL_S:
            self.told_at = now
            print(f"{waiting} tasks wait, and {self.lack(f'{alone:.0f}')}", file=sys.stderr)
        is_enough = self.patience is not None and alone >= self.patience
        return self.lack(f"{self.patience:g}") if is_enough else None

    def lack(self, seconds):
        told = f"the cluster has had no worker for {seconds} s"
        if not self.all:
            return told
        chosen = ["workers " + ", ".join(self.chosen)] if self.chosen else []
        needed = [f"resource {name} {amount:g}" for name, amount in self.resources.items()]
        return f"{told} that may run them ({'; '.join(chosen + needed)}), among {len(self.all)}"


def _resolved(chosen):
    """Returns the address that Dask makes of this; what has no port is none, and stays a host or a name."""
    try:
        return distributed.comm.resolve_address(chosen)
    except Exception:
        return chosen


async def _why(cancelled):
    """Returns the error of a future that is cancelled."""
    try:
        await cancelled
    except (asyncio.CancelledError, concurrent.futures.CancelledError) as error:
        return error
