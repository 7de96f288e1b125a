#!/usr/bin/env python3
"""Runs an example of the native stream as docs/sdks.md shows it: `native.py curl|js|python|go`.

The example is taken from the page, so that what is printed there is what was run. What every program does and how it is run is
in README.md; Rust's example is not run, because it needs a package of its own. Needs nothing but Python 3.8, and what the
example needs.
"""

import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "sdks.md")
HEADING = "## The native stream\n"
PATIENCE_SECS = 60
OUTAGE_SECS = float(os.environ["SDKS_OUTAGE_SECS"])
MODULES = os.environ["SDKS_MODULES"]
with open(os.environ["SDKS_WORLD"], encoding="utf-8") as file:
    WORLD = json.load(file)

n_checks = 0


def example(language):
    """The code that the section has of a language; curl's is a line in its text."""
    with open(PAGE, encoding="utf-8") as file:
        section = file.read().split(HEADING)[1].split("\n## ")[0]
    pattern = r"`(curl [^`]+)`" if language == "curl" else rf"```{language}\n(.*?)```"
    (code,) = re.findall(pattern, section, re.DOTALL)
    return code


def command(language, code, folder):
    """How the example is run; it is written to the folder."""
    if language == "curl":
        return ["bash", "-c", f"exec {code}"]
    path = os.path.join(folder, f"example.{ {'js': 'mjs', 'python': 'py', 'go': 'go'}[language] }")
    with open(path, "w", encoding="utf-8") as file:
        file.write(code)
    if language == "go":
        built = os.path.join(folder, "example")
        subprocess.run(["go", "build", "-o", built, path], check=True)
        return [built]
    return {"js": ["node"], "python": [os.path.join(MODULES, "bin", "python"), "-u"]}[language] + [path]


class Example:
    """An example that runs, and what it prints."""

    def __init__(self, language, folder):
        variables = {**os.environ, "VEXIL_URL": WORLD["url"], "VEXIL_TOKEN": WORLD["token"]}
        self.process = subprocess.Popen(
            command(language, example(language), folder), env=variables, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            print(line, end="", file=sys.stderr)
            self.lines.put(line)

    def prints(self, what, *words):
        """Waits for a line with all the words."""
        global n_checks
        deadline = time.monotonic() + PATIENCE_SECS
        while True:
            try:
                line = self.lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{what}: no line with {words}") from None
            if all(word in line for word in words):
                n_checks += 1
                return


def post(path):
    headers = {"Authorization": f"Bearer {WORLD['admin']}", "Content-Type": "application/json"}
    url = f"{WORLD['url']}/{path}/live-boolean?project=shop&environment=production"
    urllib.request.urlopen(urllib.request.Request(url, b"{}", headers)).close()


def server(what):
    subprocess.run([os.environ["SDKS_SERVER"], what], check=True)


def follows(running, language):
    if language == "curl":
        running.prints("connects", "id: ")
        post("kill")
        running.prints("a kill", "live-boolean")
        return
    running.prints("connects", "connected")
    post("kill")
    running.prints("a kill", "evaluate anew", "live-boolean")
    server("kill")
    time.sleep(OUTAGE_SECS)
    server("start")
    # The change comes before or after the example has connected again; it hears of it all the same.
    post("restore")
    running.prints("connects again", "connected")
    running.prints("what was changed meanwhile", "evaluate anew", "live-boolean")
    post("kill")
    running.prints("a kill after an outage", "evaluate anew", "live-boolean")


def main():
    language = sys.argv[1]
    # A module for Node.js finds packages in the folders above its own.
    above = MODULES if language == "js" else os.environ["SDKS_FOLDER"]
    with tempfile.TemporaryDirectory(dir=above) as folder:
        running = Example(language, folder)
        try:
            follows(running, language)
            print(f"passed {n_checks} checks")
            return 0
        except Exception as error:  # whatever it is, it is told in one line
            print(f"failed {error}")
            return 1
        finally:
            running.process.kill()
            running.process.wait()


sys.exit(main())
