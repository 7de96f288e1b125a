"""Makes tables of the benchmarks' figures, for `docs/performance.md` and `docs/reliability.md`.

Where the figures come from is in `scripts/bench` and `scripts/bench-streams`.
"""

import datetime
import json
import os
import platform
import re
import subprocess
from pathlib import Path

PEERS = ("launchdarkly", "unleash")


def replace(text, part, table):
    """The document with another table."""
    pattern = re.compile(rf"(<!-- figures: {part} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"the document has no place for the figures of `{part}`")
    return pattern.sub(lambda found: f"{found[1]}\n{table}\n{found[2]}", text)


def target_folder():
    metadata = run("cargo", "metadata", "--format-version=1", "--no-deps")
    return Path(json.loads(metadata)["target_directory"])


def built_program(messages, name):
    """The program of this name among cargo's messages, which tell of others too."""
    built = [json.loads(line) for line in messages.splitlines() if line.startswith("{")]
    found = [each["executable"] for each in built if each.get("executable") and each["target"]["name"] == name]
    return found[-1]


def machine():
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1]) / 1024 / 1024
    rows = [
        ("date", datetime.date.today().isoformat()),
        ("commit", run("git", "describe", "--always", "--dirty").strip()),
        ("processor", f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores"),
        ("memory", f"{memory:.0f} GiB"),
        ("system", f"{platform.system()} {platform.release()}"),
        ("toolchain", run("rustc", "--version").strip()),
    ]
    return table(("what", "which"), rows)


def engines(results):
    """A row for each case, from criterion's medians."""
    cases = {}
    for path in results.glob("*/*/new/benchmark.json"):
        names = json.loads(path.read_text())
        estimates = json.loads((path.parent / "estimates.json").read_text())
        cases.setdefault(names["group_id"], {})[names["function_id"]] = estimates["median"]["point_estimate"]
    order = re.findall(r'name: "([a-z0-9-]+)"', Path("benches/engines/case.rs").read_text())
    rows = [engine_row(name, cases[name]) for name in order if name in cases]
    heads = ("case", "Vexil", "… SHA-1", "… without look-up", "LaunchDarkly", "Unleash", "LaunchDarkly ÷ Vexil", "Unleash ÷ Vexil")
    return table(heads, rows)


def engine_row(name, case):
    nanos = lambda row: f"{case[row]:,.0f} ns" if row in case else "—"
    # As LaunchDarkly's engine hashes with SHA-1 and is given the flag, Vexil's slowest row is set against both.
    own = max(time for row, time in case.items() if row not in PEERS)
    ratios = [f"{case[peer] / own:,.1f}" if peer in case else "—" for peer in PEERS]
    return (name, *map(nanos, ("vexil", "vexil-sha1", "vexil-at-hand", *PEERS)), *ratios)


def scale(lines):
    """A row for each figure, a column for each size."""
    sizes, rows = set(), {}
    for line in lines.splitlines():
        n_flags, what, value, unit = line.split("\t")
        sizes.add(int(n_flags))
        rows.setdefault(what, {})[int(n_flags)] = f"{float(value):,.3g} {unit}" if float(value) < 100 else f"{float(value):,.0f} {unit}"
    sizes = sorted(sizes)
    heads = ("figure", *(f"{size:,} flag{'s' if size > 1 else ''}" for size in sizes))
    return table(heads, [(what, *(values.get(size, "—") for size in sizes)) for what, values in rows.items()])


def http(compared):
    heads = ("workload", "bare: requests/s", "p99", "Vexil: requests/s", "p99", "requests/s, ratio", "p99, ratio", "evaluations/min")
    return table(heads, [http_row(*each) for each in compared])


def http_row(workload, bare, vexil):
    return (
        workload.name,
        f"{bare.per_second:,.0f}",
        f"{bare.p99_micros / 1e3:.2f} ms",
        f"{vexil.per_second:,.0f}",
        f"{vexil.p99_micros / 1e3:.2f} ms",
        f"{vexil.per_second / bare.per_second:.2f}",
        f"{vexil.p99_micros / bare.p99_micros:.2f}",
        f"{vexil.per_second * workload.evaluations * 60 / 1e6:,.1f} million",
    )


def streams(held):
    heads = (
        "streams", "of them stalled, cut off", "changes", "memory of one", "and after the changes",
        "to each client: p50", "p99", "max", "processor time of a change", "lost, repeated, backwards",
    )
    return table(heads, [streams_row(*each) for each in held])


def streams_row(part, figures):
    delivery, after = figures["delivery"], (figures["endKib"] - figures["emptyKib"]) * 1024 / figures["streams"]
    name = {"http1": "HTTP/1.1", "http2": "HTTP/2", "burst": "HTTP/1.1, burst"}[part]
    return (
        f"{figures['streams']:,} {name}",
        f"{figures['stalled']:,}, {figures['killed']:,}",
        figures["changes"],
        f"{figures['bytesPerStream'] / 1e3:.1f} KB",
        f"{after / 1e3:.1f} KB",
        *latencies(delivery),
        f"{figures['cpuMillisPerChange']:,.0f} ms",
        f"{delivery['lost']}, {delivery['repeated']}, {delivery['backwards']}",
    )


def streams_failover(failed_over):
    heads = (
        "streams of the killed server", "already at the other", "all back after", "refused meanwhile",
        "to those already there: p50", "p99", "max", "at the last version in the end", "lost, repeated, backwards",
    )
    return table(heads, [streams_failover_row(figures) for _, figures in failed_over])


def streams_failover_row(figures):
    delivery = figures["delivery"]
    return (
        f"{figures['streams']:,}",
        f"{figures['staying']:,}",
        f"{figures['backSecs']:.1f} s",
        f"{figures['refusals']:,}",
        *latencies(delivery),
        f"{figures['atLastVersion']:,} of {figures['all']:,}",
        f"{delivery['lost']}, {delivery['repeated']}, {delivery['backwards']}",
    )


def latencies(delivery):
    return (f"{delivery['sinceAnswerMs'][quantile]:,.0f} ms" for quantile in ("p50", "p99", "max"))


def table(heads, rows):
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
