"""The same servers under ghz, a load generator that shares no code with this one."""

import json
import os
import subprocess
from pathlib import Path

import build
from measure import LOAD_CPU, PATIENCE, Failed, Running, on

# Calls before those that count. The rate at which they end sets how many count.
WARMUP = 5_000


def measure(spec, workload, seconds):
    """One round of one workload on one server, freshly started."""
    with Running(spec, workload) as server:
        ids = build.WORK / "ghz-ids.json"
        ids.write_text(json.dumps([{"user_id": user} for user in server.ids.split()]))
        rate = ghz(server, workload, ids, WARMUP)["rps"]
        before = cpu_time(server.pid)
        found = ghz(server, workload, ids, max(WARMUP, int(rate * seconds)))
        cpu = cpu_time(server.pid) - before
    calls, elapsed = found["count"], found["total"] / 1e9
    if found["statusCodeDistribution"] != {"OK": calls}:
        raise Failed(f"ghz: not all calls succeeded: {found['statusCodeDistribution']}")
    return {"calls": calls, "units_per_second": calls / elapsed, "cpu_us": cpu / calls / 1000,
            "server_busy": cpu / 1e9 / elapsed}


def ghz(server, workload, ids, calls):
    """Runs ghz, and returns its report."""
    command = [
        str(build.WORK / "ghz"), "--insecure", "--proto", str(build.ROOT / "proto/user_service.proto"),
        "--call", "ru.tinkoff.kora.example.UserService.GetUser", "--data-file", str(ids),
        "--connections", str(workload.connections),
        "--concurrency", str(workload.connections * workload.streams),
        # Not --duration: at its end, calls are in flight, which fail or do not count.
        "--total", str(calls), "--cpus", "1", "--format", "json",
        f"127.0.0.1:{server.port}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE,
                          preexec_fn=on(LOAD_CPU))
    if done.returncode != 0:
        raise Failed(f"ghz: {done.stderr.strip()}")
    return json.loads(done.stdout)


def cpu_time(pid):
    """Of all threads of a process, in nanoseconds."""
    threads = Path(f"/proc/{pid}/task")
    return sum(int((threads / thread / "schedstat").read_text().split()[0])
               for thread in os.listdir(threads))
