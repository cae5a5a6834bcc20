"""What must hold after every row of the robustness table: alive, the same answer for another, nothing left in use."""
import os
import time
import urllib.request

# What a burst leaves in gRPC's threads and in malloc's arenas, which return little to the system.
SPARE_THREADS = 16
SPARE_DESCRIPTORS = 4
SETTLE_SECONDS = 20


def figure(metrics, name):
    """The sum over a metric's samples at a daemon's metrics address; `name` may have the beginning of labels."""
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + "{", name + " ", name + ",")))


def alive(metrics):
    with urllib.request.urlopen(f"http://{metrics}/livez", timeout=10) as reply:
        return reply.status == 200


class Universal:
    """Of one daemon. `canary` asks it what another tenant would, and returns the answer."""

    def __init__(self, process, metrics, canary):
        self.process, self.metrics, self.canary = process, metrics, canary
        self.answer = canary()
        self.descriptors, self.threads, self.rss_bytes = self.usage()

    def usage(self):
        """Open descriptors, threads, resident bytes."""
        of = f"/proc/{self.process.pid}"
        with open(f"{of}/statm") as statm:
            pages = int(statm.read().split()[1])
        return len(os.listdir(f"{of}/fd")), len(os.listdir(f"{of}/task")), pages * os.sysconf("SC_PAGE_SIZE")

    def rss_growth(self):
        return self.usage()[2] - self.rss_bytes

    def in_use(self):
        return {name: value for name in ("vllm:num_requests_running", "vllm:num_requests_waiting",
                                         "nibble_sequences_paused", "vllm:kv_cache_usage_perc")
                if (value := figure(self.metrics, name)) != 0}

    def leftovers(self):
        """What is not as it was, in words; empty where all is."""
        descriptors, threads, _ = self.usage()
        found = [f"{name} {value}" for name, value in self.in_use().items()]
        if descriptors > self.descriptors + SPARE_DESCRIPTORS:
            found.append(f"{descriptors} descriptors, {self.descriptors} before")
        if threads > self.threads + SPARE_THREADS:
            found.append(f"{threads} threads, {self.threads} before")
        return found

    def check(self, test, spare_bytes):
        """Fails `test` where something does not hold; `spare_bytes` is what memory may have grown by."""
        test.assertIsNone(self.process.poll(), "the daemon ended")
        test.assertEqual(self.canary(), self.answer, "the canary")
        end = time.monotonic() + SETTLE_SECONDS
        while self.leftovers() and time.monotonic() < end:
            time.sleep(0.1)
        test.assertEqual(self.leftovers(), [])
        print(f"{test.id()}: {self.rss_growth() / (1 << 20):.0f} MiB more resident")
        test.assertLessEqual(self.rss_growth(), spare_bytes)
