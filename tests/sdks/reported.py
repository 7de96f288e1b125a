#!/usr/bin/env python3
"""Checks that the server has written each custom event that a program has tracked, once for each part of its context.

    reported.py

No route tells of custom events, so the server is stopped and its database is read. A unit in it is a hash under a secret key;
to know which one is whose, an event of each is reported here, over HTTP. Reads the variables of the programs and those of
`server`; prints `failed <what is wrong>` and ends with 1 if anything differs. Needs nothing but Python 3.8.
"""

import collections
import json
import os
import sqlite3
import subprocess
import sys
import urllib.request

# What each program tracks: the event, the kind and the key of whom it is about, the metric's value, and how often.
TRACKED = {
    ("bought", "user", "live-user", 19.5): 2,
    ("looked", "user", "other-user", None): 1,
    ("looked", "organization", "live-shop", None): 1,
}
REFERENCE = "whose this is"


def report_references(world):
    events = [
        {"kind": "custom", "key": f"{REFERENCE}: {key}", "contextKeys": {kind: key}, "creationDate": 0}
        for _, kind, key, _ in TRACKED
    ]
    headers = {"Authorization": world["token"], "Content-Type": "application/json", "X-LaunchDarkly-Event-Schema": "4"}
    urllib.request.urlopen(urllib.request.Request(f"{world['url']}/bulk", json.dumps(events).encode(), headers)).close()


def read_events(path):
    database = sqlite3.connect(path)
    rows = database.execute("select key, unit_kind, unit, value from event where kind = 'custom'").fetchall()
    database.close()
    return rows


def main():
    with open(os.environ["SDKS_WORLD"], encoding="utf-8") as file:
        report_references(json.load(file))
    subprocess.run([os.environ["SDKS_SERVER"], "stop"], check=True)
    rows = read_events(os.path.join(os.environ["SDKS_FOLDER"], "data", "vexil.db"))
    names = {unit: key.split(": ")[1] for key, _, unit, _ in rows if key.startswith(REFERENCE)}
    tracked = [row for row in rows if not row[0].startswith(REFERENCE)]
    found = dict(collections.Counter((key, kind, names.get(unit, unit.hex()), value) for key, kind, unit, value in tracked))
    if found != TRACKED:
        print(f"failed custom events: {found} instead of {TRACKED}")
        return 1
    return 0


sys.exit(main())
