"""LaunchDarkly's server-side SDK for Python: `server_sdk.py streaming|polling|data-system`.

What every program does and how it is run is in ../README.md.
"""

import json
import logging
import os
import subprocess
import sys
import time
import urllib.request

import ldclient
from ldclient import Context
from ldclient.config import Config

MODE = sys.argv[1]
IS_POLLING = MODE == "polling"
# The shortest interval that the SDK allows is 30 s.
PATIENCE_SECS = 75 if IS_POLLING else 45
OUTAGE_SECS = float(os.environ["SDKS_OUTAGE_SECS"])
with open(os.environ["SDKS_WORLD"], encoding="utf-8") as file:
    WORLD = json.load(file)
# An address at which nobody listens.
NOBODY = "http://127.0.0.1:1"
USER = Context.from_dict({"kind": "user", "key": "live-user", "plan": "gold"})

n_checks = 0


def check(what, found, expected):
    global n_checks
    if found != expected or isinstance(found, bool) != isinstance(expected, bool):
        raise AssertionError(f"{what}: {found!r} instead of {expected!r}")
    n_checks += 1


def becomes(what, ask, expected):
    deadline = time.monotonic() + PATIENCE_SECS
    while ask() != expected and time.monotonic() < deadline:
        time.sleep(0.02)
    check(what, ask(), expected)


def send(method, path, body=None):
    headers = {"Authorization": f"Bearer {WORLD['admin']}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    url = f"{WORLD['url']}/api/v1/projects/shop{path}"
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method)) as answer:
        return json.loads(answer.read() or "null")


def change(flag, *instructions):
    send("PATCH", f"/environments/production/flags/{flag}", {"instructions": instructions})


def server(what):
    subprocess.run([os.environ["SDKS_SERVER"], what], check=True)


def connect(url=WORLD["url"], start_wait=20, **events):
    more = {}
    if IS_POLLING:
        more = {"stream": False, "poll_interval": 30}
    elif MODE == "data-system":
        from ldclient import datasystem

        more = {"datasystem_config": datasystem.default().build()}
    config = Config(WORLD["token"], base_uri=url, stream_uri=url, events_uri=url, diagnostic_opt_out=True, **events, **more)
    return ldclient.LDClient(config, start_wait=start_wait)


def fallthrough(variation):
    return {"kind": "updateFallthroughVariationOrRollout", "variation": variation}


def error(kind):
    return {"kind": "ERROR", "errorKind": kind}


def evaluates(client):
    check("initialised", client.is_initialized(), True)
    check("boolean", client.variation("live-boolean", USER, True), False)
    check("string", client.variation("live-string", USER, "none"), "red")
    check("number", client.variation("live-number", USER, 0), 1)
    check("json", client.variation("live-json", USER, {}), {"a": [1, {"b": None}]})
    unknown = client.variation_detail("unknown", USER, "none")
    check("unknown flag", (unknown.value, unknown.reason), ("none", error("FLAG_NOT_FOUND")))
    malformed = client.variation_detail("live-malformed", USER, "none")
    check("malformed", (malformed.value, malformed.reason), ("none", error("MALFORMED_FLAG")))
    nobody = client.variation_detail("live-string", Context.create(""), "none")
    check("for nobody", (nobody.value, nobody.reason), ("none", error("USER_NOT_SPECIFIED")))
    big = client.variation_detail("live-big", USER, "none")
    check("a big segment, which is sent as an ordinary one", (big.value, big.reason), (1, {"kind": "FALLTHROUGH"}))
    # One whose server is not there.
    waiting = connect(NOBODY, start_wait=0, send_events=False)
    early = waiting.variation_detail("live-string", USER, "none")
    waiting.close()
    check("before it is ready", (early.value, early.reason), ("none", error("CLIENT_NOT_READY")))


def agrees(client):
    kinds = set()
    for each in WORLD["expected"]:
        context = Context.from_dict(each["context"])
        for key, (value, _, _, reason) in each["flags"].items():
            detail = client.variation_detail(key, context, None)
            found = [detail.value, detail.reason]
            if found != [value, reason]:
                check(f"{key} for {each['context']}", found, [value, reason])
            kinds.add(reason["kind"])
    all_kinds = ["FALLTHROUGH", "OFF", "PREREQUISITE_FAILED", "RULE_MATCH", "TARGET_MATCH"]
    check("every reason was among them", sorted(kinds), all_kinds)


def count_edges(client):
    """Python reckons in double precision."""
    edges = WORLD["edges"]
    as_server = [client.variation(each["key"], Context.from_dict(each["context"]), None) == each["value"] for each in edges]
    return f"{sum(as_server)} of {len(edges)} at the edge of a slice as on the server"


def follows(client):
    value = lambda flag: client.variation(flag, USER, "none")  # noqa: E731
    kind_of = lambda flag: client.variation_detail(flag, USER, "none").reason["kind"]  # noqa: E731
    change("live-boolean", fallthrough("v0"))
    if not IS_POLLING:
        becomes("another fallthrough", lambda: value("live-boolean"), True)
    clauses = [{"contextKind": "user", "attribute": "plan", "op": "in", "values": ["gold"]}]
    change("live-rule", {"kind": "addRule", "clauses": clauses, "variation": "v0"})
    if not IS_POLLING:
        becomes("a rule", lambda: kind_of("live-rule"), "RULE_MATCH")
    change("live-number", {"kind": "turnFlagOff"})
    becomes("off", lambda: kind_of("live-number"), "OFF")
    becomes("another fallthrough", lambda: value("live-boolean"), True)
    becomes("a rule", lambda: kind_of("live-rule"), "RULE_MATCH")
    check("not in the segment", kind_of("live-segment"), "FALLTHROUGH")
    send("PUT", "/environments/production/segments/live", {"key": "live", "included": ["live-user"]})
    send("DELETE", "/flags/live-gone")
    becomes("in the segment", lambda: kind_of("live-segment"), "RULE_MATCH")
    becomes("a flag that was deleted", lambda: kind_of("live-gone"), "ERROR")


def survives(client):
    value = lambda: client.variation("live-boolean", USER, "none")  # noqa: E731
    server("kill")
    end = time.monotonic() + OUTAGE_SECS
    while True:
        check("values stay through an outage", value(), True)
        time.sleep(0.2)
        if time.monotonic() > end:
            break
    server("start")
    change("live-boolean", fallthrough("v1"))
    becomes("catches up after an outage", value, False)
    change("live-boolean", fallthrough("v0"))
    if not IS_POLLING:
        becomes("follows after an outage", value, True)


def counts(flag):
    usage = send("GET", f"/environments/production/flags/{flag}/usage")
    return {each["variation"]: each["count"] for each in usage["variations"]}


def reports(_):
    # A second client, because the first reports nothing.
    reporter = connect(flush_interval=1)
    other = Context.create_multi(Context.create("other-user"), Context.create("live-shop", "organization"))
    for flag, context, times in [("live-string", USER, 7), ("live-rule", USER, 5)]:
        for _ in range(times):
            reporter.variation(flag, context, "none")
    reporter.flush()
    for flag, context, times in [("live-rule", other, 4), ("nobody-has-it", other, 3)]:
        for _ in range(times):
            reporter.variation(flag, context, "none")
    for _ in range(2):
        reporter.track("bought", USER, {"amount": 2}, 19.5)
    reporter.track("looked", other)
    reporter.close()
    becomes("what was evaluated is counted", lambda: counts("live-string"), {"v0": 7})
    becomes("each variation is counted", lambda: counts("live-rule"), {"v0": 5, "v1": 4})
    unknown = lambda: [each["flag"] for each in send("GET", "/environments/production/unknown-flags")["items"]]  # noqa: E731
    becomes("an unknown flag is told", lambda: "nobody-has-it" in unknown(), True)


def main():
    logging.getLogger("ldclient").addHandler(logging.StreamHandler(sys.stderr))
    client = connect(send_events=False)
    try:
        for part in (evaluates, agrees, follows, survives, reports):
            part(client)
        print(f"passed {n_checks} checks, {count_edges(client)}")
        return 0
    except Exception as error:  # whatever it is, it is told in one line
        print(f"failed {error}")
        return 1
    finally:
        client.close()


sys.exit(main())
