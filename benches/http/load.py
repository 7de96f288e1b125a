"""Drives a bare handler and Vexil with the same requests, and compares them.

Starts both on free ports of the loopback, gives Vexil 100 flags through its admin API, and lets wrk ask both in turn,
in several short rounds of which the medians count. Ends both, however it ends. What is written down is decided in
`scripts/bench`; the flags are in `flags.py`.
"""

import json
import os
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import flags

HERE = Path(__file__).parent
ADMIN_TOKEN = "only-for-the-benchmark-which-ends-with-it"
CONNECTIONS = 32
START_SECS = 30
STOP_SECS = 20
N_CONTEXTS = 100


@dataclass
class Workload:
    """Requests of one kind: a body for some paths, of which each is asked in turn."""

    name: str
    paths: list
    body: dict
    evaluations: int


@dataclass
class Figures:
    """The medians of all rounds."""

    per_second: float
    p50_micros: float
    p99_micros: float


class Server:
    """A process that listens, and is ended at the end of the `with`."""

    def __init__(self, command, environment=None):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % probe.getsockname()[1]
        self.url = "http://" + self.address
        command = [part.replace("{address}", self.address) for part in command]
        self.process = subprocess.Popen(command, env={**os.environ, **(environment or {})}, stderr=subprocess.DEVNULL)

    def __enter__(self):
        host, port = self.address.split(":")
        deadline = time.monotonic() + START_SECS
        while True:
            try:
                socket.create_connection((host, int(port))).close()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__()
                    raise SystemExit(f"{self.process.args[0]} did not start")
                time.sleep(0.05)

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(STOP_SECS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, method, path, body=None, token=ADMIN_TOKEN):
        """The answer's body as bytes; an error ends the benchmark."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=START_SECS) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{method} {path}: {error.code} {error.read().decode()}")


def vexil(program, data_dir):
    """A server with SQLite in `data_dir`."""
    settings = {"VEXIL_DATA_DIR": data_dir, "VEXIL_ADMIN_TOKEN": ADMIN_TOKEN, "VEXIL_LOG": "warn"}
    settings["VEXIL_LIMIT_REPLICA_RPS"] = "0"  # The server is to be measured, not its limit.
    return Server([program, "serve", "--listen", "{address}"], settings)


def wait_until_ready(server):
    deadline = time.monotonic() + START_SECS
    while True:
        try:
            urllib.request.urlopen(server.url + "/readyz").close()
            return
        except urllib.error.HTTPError:
            if time.monotonic() > deadline:
                raise SystemExit("the server did not become ready")
            time.sleep(0.05)


def make_flags(server):
    """Fills the server, and returns a token of an SDK."""
    server.ask("POST", "/api/v1/projects", {"key": "bench", "name": "bench"})
    environment = "/api/v1/projects/bench/environments/production"
    server.ask("POST", "/api/v1/projects/bench/environments", {"key": "production", "name": "production"})
    for definition, instructions in flags.all_flags():
        server.ask("POST", "/api/v1/projects/bench/flags", definition)
        server.ask("PATCH", f"{environment}/flags/{definition['key']}", {"instructions": instructions})
    token = server.ask("POST", f"{environment}/tokens", {"name": "bench", "kind": "server"})
    return json.loads(token)["token"]


def workloads(with_batch):
    """What is asked; the batch only if the server has the route."""
    context = {"targetingKey": "user-42", **flags.ATTRIBUTES}
    contexts = [{"targetingKey": f"user-{i}", **flags.ATTRIBUTES} for i in range(N_CONTEXTS)]
    n_flags = len(flags.all_flags())
    single = [f"/ofrep/v1/evaluate/flags/{definition['key']}" for definition, _ in flags.all_flags()]
    yield Workload("OFREP, one flag", single, {"context": context}, 1)
    yield Workload(f"OFREP, all {n_flags} flags", ["/ofrep/v1/evaluate/flags"], {"context": context}, n_flags)
    if with_batch:
        name = f"batch, {N_CONTEXTS} contexts × {n_flags} flags"
        yield Workload(name, ["/api/v1/evaluate"], {"contexts": contexts}, N_CONTEXTS * n_flags)


def has_batch(server):
    """Whether the server has the route for batches: its API document names it."""
    return b"/api/v1/evaluate:" in server.ask("GET", "/openapi.yaml")


def wrk(server, token, paths, body_file, seconds):
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", HERE / "post.lua", server.url, "--"]
    done = subprocess.run([*command, body_file, token, *paths], capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    if figures["failed"] or not figures["requests"]:
        raise SystemExit(f"{figures['failed']} requests to {paths[0]} failed")
    return Figures(figures["requests"] / figures["micros"] * 1e6, figures["p50"], figures["p99"])


def median(rounds):
    of = lambda name: statistics.median(getattr(figures, name) for figures in rounds)
    return Figures(of("per_second"), of("p50_micros"), of("p99_micros"))


def compare(vexil_program, bare_program, n_rounds, seconds):
    """Yields each workload with the bare handler's figures and Vexil's."""
    with tempfile.TemporaryDirectory(prefix="vexil-bench.") as folder:
        with vexil(vexil_program, folder + "/data") as real, Server([bare_program, "{address}"]) as bare:
            wait_until_ready(real)
            token = make_flags(real)
            body_file = folder + "/body.json"
            for workload in workloads(has_batch(real)):
                Path(body_file).write_text(json.dumps(workload.body))
                answers = [real.ask("POST", path, workload.body, token) for path in workload.paths]
                bare_paths = [f"/{len(answer)}" for answer in answers]
                rounds = {"bare": [], "vexil": []}
                for _ in range(n_rounds):
                    rounds["bare"].append(wrk(bare, token, bare_paths, body_file, seconds))
                    rounds["vexil"].append(wrk(real, token, workload.paths, body_file, seconds))
                yield workload, median(rounds["bare"]), median(rounds["vexil"])
