"""Looks at pages in a headless Chromium, as one that is as narrow as a phone would show them."""

import html
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import axe_core_python
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DARK = "--blink-settings=preferredColorScheme=0"

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

# Looks at the page as the browser has laid it out, and notes it where --dump-dom prints it.
MEASURE = """
const page = document.querySelector("iframe").contentDocument;
const all = [...page.querySelectorAll("body *")]
  .filter(one => !one.closest(".scroll, details, nav, .unseen"));
const found = {
  width: page.documentElement.scrollWidth,
  wide: all.filter(one => one.getBoundingClientRect().right > page.documentElement.clientWidth + 1)
    .map(one => one.tagName + "." + one.className),
  hidden: all.filter(one => /^(H[123]|P|TD|SVG)$/i.test(one.tagName))
    .filter(one => !one.getClientRects().length).map(one => one.outerHTML),
  loaded: [...page.images].filter(one => one.complete && one.naturalWidth > 0).length,
  images: page.images.length,
  headings: [...page.querySelectorAll("h1, h2")].map(one => one.textContent),
  background: getComputedStyle(page.body).backgroundColor,
  requests: document.querySelector("iframe").contentWindow.performance.getEntriesByType("resource")
    .map(one => one.name).filter(name => !name.startsWith("data:")),
  reachable: page.querySelectorAll("a[href], summary, button, [tabindex='0']").length,
};
document.body.textContent = "MEASURED" + JSON.stringify(found) + "MEASURED";
"""

# Runs axe-core with everything open that can be opened.
CHECK = """(async () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
  const found = await axe.run();
  const failed = found.incomplete.filter(one => !one.nodes.length).map(one => one.id);
  return [found.passes.length, failed, found.violations.map(
    one => [one.id, one.nodes.map(node => node.html.slice(0, 200)).slice(0, 3)])];
})()"""

# Becomes Chromium, which has its pipe at 3 and 4.
START = """
import fcntl, os, sys
for given, wanted in [(fcntl.fcntl(int(one), fcntl.F_DUPFD, 10), n) for n, one in
                      enumerate(sys.argv[1:3], 3)]:
    os.dup2(given, wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""


def browse(tmp_path, url, *flags):
    """What a headless Chromium prints of a page, and what it logs."""
    profile = tmp_path / "profile"
    done = subprocess.run(
        [
            CHROMIUM,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--enable-logging=stderr", f"--user-data-dir={profile}"),
            *flags,
            url,
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def measure(tmp_path, page, width, *flags):
    """The page in a frame of that width, as a headless window cannot be as narrow as a phone."""
    frame = tmp_path / f"frame-{width}.html"
    frame.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><body><iframe width="{width}" height="800" '
        f'srcdoc="{html.escape(page)}"></iframe><script>addEventListener("load", () => {{'
        f"{MEASURE}}})</script>"
    )
    printed, log = browse(tmp_path, frame.as_uri(), "--dump-dom", *flags)
    return json.loads(html.unescape(printed.split("MEASURED")[1])), log


def violations(browser, *pages):
    """What axe-core finds wrong with pages: at a desk and on a phone, in light and in dark.

    Args:
      browser: a ``Browser``.
      *pages: paths.
    """
    axe = Path(axe_core_python.__file__).with_name("axe.min.js").read_text("utf-8")
    found = []
    for page in pages:
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                browser.open(page, width, scheme)
                browser.evaluate(f"{axe};0")
                passes, failed, violated = browser.evaluate(CHECK)
                assert passes > 15 and not failed  # else it has not looked
                found += [(width, scheme, rule, nodes) for rule, nodes in violated]
    return found


class Browser:
    """A Chromium that is spoken to in its DevTools protocol, through a pipe.

    Args:
      folder: gets its files.
    """

    def __init__(self, folder):
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        command = [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-dev-shm-usage", "--remote-debugging-pipe"),
            f"--user-data-dir={folder}/devtools",
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(to_read), str(to_write), *command],
            pass_fds=(to_read, to_write),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._session, self._calls, self._read = None, 0, b""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self._call("Page.setBypassCSP", enabled=True)  # or scripts of tests would not run

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(30)
        os.close(self._to)
        os.close(self._from)

    def open(self, page, width, scheme="light"):
        """Show a page, and wait until it is there."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", features=features)
        self._call("Page.navigate", url=Path(page).as_uri())
        until = time.monotonic() + 60
        while not self.evaluate(
            "location.protocol == 'file:' && document.readyState == 'complete'"
        ):
            assert time.monotonic() < until
            time.sleep(0.05)

    def evaluate(self, script):
        """Return what a script returns, or what it promises."""
        options = {"returnByValue": True, "awaitPromise": True}
        answer = self._call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _call(self, method, **parameters):
        self._calls += 1
        call = {"id": self._calls, "method": method, "params": parameters}
        if self._session is not None:
            call["sessionId"] = self._session
        data = json.dumps(call).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            while b"\0" not in self._read:
                some = os.read(self._from, 2**16)
                assert some, "Chromium has ended"
                self._read += some
            message, _, self._read = self._read.partition(b"\0")
            answer = json.loads(message)
            if answer.get("id") == self._calls:
                assert "error" not in answer, answer
                return answer["result"]
