"""The tables, and the raw figures."""

import json
from statistics import median

from tables import BASELINE, LACKS

# Less than this, and the server had time to spare: its rate is that of the load.
SATURATED = 0.9
FIELDS = ["units_per_second", "cpu_us", "mean_us", "p50_us", "p99_us", "p999_us", "peak_rss_kib",
          "server_busy", "load_busy"]


def as_json(record):
    return json.dumps(record, indent=1) + "\n"


GHZ_FIELDS = ["units_per_second", "cpu_us", "server_busy"]


def summarise(record, load="runs", fields=FIELDS):
    """By workload and server: each field's median, least and greatest value over the rounds."""
    found = {}
    for run in record[load]:
        if "failed" not in run:
            found.setdefault(run["workload"], {}).setdefault(run["server"], []).append(run)
    return {workload: {server: {field: spread([run[field] for run in runs]) for field in fields}
                       for server, runs in servers.items()}
            for workload, servers in found.items()}


def spread(values):
    return {"median": median(values), "min": min(values), "max": max(values)}


def ratio(figures, server, field):
    """How a server's median compares with that of the baseline; None without one."""
    if server not in figures or BASELINE not in figures:
        return None
    base = figures[BASELINE][field]["median"]
    return figures[server][field]["median"] / base if base else None


def markdown(record):
    summary = summarise(record)
    parts = [head(record), overview(record, summary), prices(summary)]
    parts += [section(workload, record, summary[workload["name"]])
              for workload in record["workloads"] if workload["name"] in summary]
    parts += [ghz(record), counts(record, summary), problems(record)]
    return "\n".join(part for part in parts if part)


def head(record):
    machine, versions = record["machine"], record["versions"]
    lines = [
        "# balafon beside other gRPC servers", "",
        f"- {record['date']}: `{record['command']}`, rounds of {record['seconds']:g} s: "
        f"{record['rounds']}; medians, and least to greatest",
        f"- {machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, load average "
        f"{machine['load_before']:.1f} before; server on CPU {machine['server_cpu']}, load on CPU "
        f"{machine['load_cpu']}",
        "- " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        "- fat LTO and mimalloc in all that is Rust; one user service on one store (grpc-go: its "
        "own), 1,000 users; a server's CPU time is that of its process, user and system",
        "",
    ]
    lines += table(["server", "what it is", "without"],
                   [[server["name"], server["about"], ", ".join(server["lacks"])]
                    for server in record["servers"]], "---")
    lacks = {what for server in record["servers"] for what in server["lacks"]}
    lines += [f"- without {what}: {why}" for what, why in LACKS.items() if what in lacks]
    return "\n".join([*lines, ""])


def overview(record, summary):
    names = [server["name"] for server in record["servers"]]
    rows = []
    for workload in record["workloads"]:
        figures = summary.get(workload["name"], {})
        row = [workload["name"]]
        for server in record["servers"]:
            found = times(figures, server["name"], "cpu_us")
            row.append("—" if set(workload["needs"]) & set(server["lacks"]) else found)
        rows.append(row)
    title = (f"## CPU time per call, as a ratio to {BASELINE}\n\nLess is better. —: left out, for the "
             "reason above.\n")
    return "\n".join([title, *table(["workload", *names], rows)])


def prices(summary):
    """What a call costs more with interceptors than without."""
    plain, rows = summary.get("unary-c8m32", {}), []
    for name in ["access-log-c8m32", "production-c8m32"]:
        for server, got in summary.get(name, {}).items():
            if server in plain:
                without, cpu = (it["cpu_us"]["median"] for it in (plain[server], got))
                rows.append([f"{name}, {server}", number(without), number(cpu), f"{cpu / without - 1:+.0%}"])
    if not rows:
        return ""
    title = "## What interceptors cost\n\nCPU µs per call, over unary-c8m32.\n"
    return "\n".join([title, *table(["workload", "without", "with", "more"], rows)])


def section(workload, record, figures):
    unit = workload["unit"]
    header = ["server", f"{unit}s/s", "ratio", "min–max", f"CPU µs per {unit}", "ratio", "min–max",
              "latency of a call: mean", "p50", "p99", "ratio", "p99.9 µs", "peak MiB", "busy"]
    rows = []
    for server in record["servers"]:
        name = server["name"]
        if name not in figures:
            continue
        got = figures[name]
        rate, cpu, p99 = got["units_per_second"], got["cpu_us"], got["p99_us"]
        rows.append([
            name, f"{rate['median']:,.0f}", times(figures, name, "units_per_second"),
            f"{rate['min']:,.0f}–{rate['max']:,.0f}", number(cpu["median"]),
            times(figures, name, "cpu_us"), f"{number(cpu['min'])}–{number(cpu['max'])}",
            number(got["mean_us"]["median"]), number(got["p50_us"]["median"]),
            number(p99["median"]), times(figures, name, "p99_us"),
            number(got["p999_us"]["median"]), f"{got['peak_rss_kib']['median'] / 1024:.0f}",
            busy(got, workload),
        ])
    lines = [f"## {workload['name']}", "", f"{workload['about']}.", "", *table(header, rows)]
    if any(row[-1].endswith("*") for row in rows):
        lines += ["\\* The load was the limit: calls/s are at least that, CPU time still counts.", ""]
    return "\n".join(lines)


def busy(got, workload):
    """How busy the server was, and whether it could have done more than the load asked for."""
    server, load = got["server_busy"]["median"], got["load_busy"]["median"]
    limited = not workload["rate"] and server < SATURATED < load
    return f"{server:.0%}{' *' if limited else ''}"


def ghz(record):
    """The table of the other load generator, which is slower than most servers."""
    rows = []
    for workload, figures in summarise(record, "ghz", GHZ_FIELDS).items():
        for server, got in figures.items():
            rate, cpu = got["units_per_second"], got["cpu_us"]
            rows.append([
                f"{workload}, {server}", f"{rate['median']:,.0f}", f"{rate['min']:,.0f}–{rate['max']:,.0f}",
                number(cpu["median"]), times(figures, server, "cpu_us"),
                f"{number(cpu['min'])}–{number(cpu['max'])}", f"{got['server_busy']['median']:.0%}"])
    if not rows:
        return ""
    header = ["workload", "calls/s", "min–max", "CPU µs per call", "ratio", "min–max", "busy"]
    title = ("## Under ghz\n\nAnother load generator, in Go. It takes a CPU for itself long before a server does, so "
             "calls/s are\nmostly its own limit. Less arrives at once, so a call costs the server more. So\ndo the connections, which are opened while it counts.\n")
    return "\n".join([title, *table(header, rows)])


def counts(record, summary):
    names = [server["name"] for server in record["servers"] if "counts" not in server["lacks"]]
    parts = []
    for field, title, form in [
        ("writes", "Writes per call\n\nSystem calls that write (write, writev, sendto, sendmsg), "
                   "under strace, which slows them", "{:.3f}"),
        ("instructions", "Instructions per call\n\nIn user space, by cachegrind", "{:,.0f}"),
    ]:
        if record[field]:
            rows = [[name, *(cell(found.get(server), form) for server in names)]
                    for name, found in record[field].items()]
            parts += [f"## {title}.\n", *table(["workload", *names], rows)]
    if record["idle"]:
        found = record["idle"]["idle"]
        rows = [[name, cell(got.get("kib"), "{:.1f}"), got.get("connections", got.get("failed"))]
                for name, got in found.items()]
        parts += ["## Idle connections\n\nResident memory that each takes after one call.\n",
                  *table(["server", "KiB", "connections"], rows)]
    return "\n".join(parts)


def cell(value, form):
    if value is None or isinstance(value, dict):
        return "" if value is None else "unavailable"
    return form.format(value)


def problems(record):
    lines = [f"- {name}: {first_line(reason)}" for name, reason in record["left_out"].items()]
    lines += [f"- {run['workload']}, {run['server']}: {first_line(run['failed'])}"
              for run in record["runs"] + record["ghz"] if "failed" in run]
    for field in ("writes", "instructions", "idle"):
        lines += [f"- {field} of {name}, {server}: {first_line(got['failed'])}"
                  for name, found in record[field].items() for server, got in found.items()
                  if isinstance(got, dict) and "failed" in got]
    return "\n".join(["## Left out\n", *lines, ""]) if lines else ""


def first_line(text):
    return text.splitlines()[0]


def times(figures, name, field):
    value = ratio(figures, name, field)
    return "" if value is None else f"{value:.2f}"


def number(value):
    """Three digits, or all those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(header, rows, align="---:"):
    lines = [header, ["---"] + [align] * (len(header) - 1)] + rows
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines] + [""]
