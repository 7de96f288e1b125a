"""OpenFeature's SDK for Python with its provider for OFREP.

What every program does and how it is run is in ../README.md.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

PATIENCE_SECS = 45
OUTAGE_SECS = float(os.environ["SDKS_OUTAGE_SECS"])
with open(os.environ["SDKS_WORLD"], encoding="utf-8") as file:
    WORLD = json.load(file)
USER = EvaluationContext("live-user", {"plan": "gold"})
WORDS = {
    "OFF": ["DEFAULT"],
    "FALLTHROUGH": ["STATIC", "DEFAULT", "SPLIT"],
    "RULE_MATCH": ["TARGETING_MATCH", "SPLIT"],
    "TARGET_MATCH": ["TARGETING_MATCH"],
    "PREREQUISITE_FAILED": ["DEFAULT"],
}

n_checks = 0


def check(what, found, expected):
    global n_checks
    if found != expected:
        raise AssertionError(f"{what}: {found!r} instead of {expected!r}")
    n_checks += 1


def send(method, path, body=None):
    headers = {"Authorization": f"Bearer {WORLD['admin']}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    url = f"{WORLD['url']}/api/v1/projects/shop{path}"
    urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method)).close()


def change(flag, *instructions):
    send("PATCH", f"/environments/production/flags/{flag}", {"instructions": instructions})


def fallthrough(variation):
    return {"kind": "updateFallthroughVariationOrRollout", "variation": variation}


def server(what):
    subprocess.run([os.environ["SDKS_SERVER"], what], check=True)


def detail(flag, otherwise, context=USER):
    client = api.get_client()
    if isinstance(otherwise, bool):
        return client.get_boolean_details(flag, otherwise, context)
    if isinstance(otherwise, str):
        return client.get_string_details(flag, otherwise, context)
    if isinstance(otherwise, int):
        return client.get_integer_details(flag, otherwise, context)
    if isinstance(otherwise, float):
        return client.get_float_details(flag, otherwise, context)
    return client.get_object_details(flag, otherwise, context)


def evaluates():
    found = detail("live-boolean", True)
    check("boolean", [found.value, found.variant, found.reason], [False, "v1", "STATIC"])
    check("string", detail("live-string", "none").value, "red")
    check("number", detail("live-number", 0).value, 1)
    check("json", detail("live-json", {}).value, {"a": [1, {"b": None}]})
    unknown = detail("unknown", "none")
    check("unknown flag", [unknown.value, unknown.error_code], ["none", "FLAG_NOT_FOUND"])
    mistyped = detail("live-string", True)
    check("wrong type", [mistyped.value, mistyped.error_code], [True, "TYPE_MISMATCH"])
    malformed = detail("live-malformed", "none")
    check("malformed", [malformed.value, malformed.error_code], ["none", "PARSE_ERROR"])
    nobody = detail("flag-19", {}, EvaluationContext(None, {"plan": "gold"}))
    check("divided without a key", [nobody.value, nobody.error_code], [{}, "TARGETING_KEY_MISSING"])


def agrees():
    kinds = set()
    for each in WORLD["expected"]:
        context = EvaluationContext(None, each["context"])
        for key, (value, reason, rule_index, _) in each["flags"].items():
            found = detail(key, value, context)
            is_ = [found.value, found.flag_metadata.get("reason"), found.flag_metadata.get("ruleIndex")]
            if is_ != [value, reason, rule_index]:
                check(f"{key} for {each['context']}", is_, [value, reason, rule_index])
            if found.reason not in WORDS[reason]:
                check(f"why {key} for {each['context']}", found.reason, WORDS[reason])
            kinds.add(reason)
    check("every reason was among them", kinds, set(WORDS))


def follows():
    """Each change is there as soon as it has been acknowledged."""
    change("live-boolean", fallthrough("v0"))
    check("another fallthrough", detail("live-boolean", False).value, True)
    clauses = [{"contextKind": "user", "attribute": "plan", "op": "in", "values": ["gold"]}]
    change("live-rule", {"kind": "addRule", "clauses": clauses, "variation": "v0"})
    rule = detail("live-rule", False)
    check("a rule", [rule.value, rule.reason], [True, "TARGETING_MATCH"])
    change("live-string", {"kind": "turnFlagOff"})
    check("off", detail("live-string", "none").reason, "DEFAULT")
    send("PUT", "/environments/production/segments/live", {"key": "live", "included": ["live-user"]})
    check("in the segment", detail("live-segment", False).reason, "TARGETING_MATCH")
    send("DELETE", "/flags/live-gone")
    check("a flag that was deleted", detail("live-gone", True).error_code, "FLAG_NOT_FOUND")


def survives():
    server("kill")
    end = time.monotonic() + OUTAGE_SECS
    while True:
        found = detail("live-boolean", False)
        check("the default and an error in an outage", [found.value, found.reason, found.error_code], [False, "ERROR", "GENERAL"])
        time.sleep(0.2)
        if time.monotonic() > end:
            break
    server("start")
    deadline = time.monotonic() + PATIENCE_SECS
    while not detail("live-boolean", False).value and time.monotonic() < deadline:
        time.sleep(0.02)
    check("answers after an outage", detail("live-boolean", False).value, True)
    change("live-boolean", fallthrough("v1"))
    check("follows after an outage", detail("live-boolean", True).value, False)


def main():
    headers = {"Authorization": f"Bearer {WORLD['token']}"}
    api.set_provider(OFREPProvider(WORLD["url"], headers_factory=lambda: headers))
    try:
        for part in (evaluates, agrees, follows, survives):
            part()
        print(f"passed {n_checks} checks")
        return 0
    except Exception as error:  # whatever it is, it is told in one line
        print(f"failed {error}")
        return 1


sys.exit(main())
