"""A page in a real browser, where there is one: what it draws, how wide it is, and what it reports as errors."""

import json
import re
import shutil
import subprocess

from experiments.report import pages

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Reports through the title, after everything has loaded.
REPORT = """<script>onload = () => {
  const drawn = [...document.images].filter(image => image.naturalWidth > 0).length;
  const isSet = math => math.getBoundingClientRect().height > 0;
  const formulas = [...document.querySelectorAll("math")].filter(isSet).length;
  const room = document.documentElement;
  document.title = JSON.stringify({images: document.images.length, drawn: drawn, formulas: formulas,
    window: room.clientWidth, width: room.scrollWidth, paper: getComputedStyle(document.body).backgroundColor});
}</script>"""


def opened(path, folder, width=500, dark=False):
    """(report, errors) of a page made by `pages.render`, opened from file:// in a window of this width.

    The page itself forbids scripts, so a copy is opened that allows the one that reports.
    """
    text = path.read_text()
    assert text.count(pages.POLICY) == 1
    copy = folder / "opened.html"
    copy.write_text(text.replace(pages.POLICY, f"{pages.POLICY}; script-src 'unsafe-inline'") + REPORT)
    assert BROWSER is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-extensions", "--enable-logging=stderr"]
    flags += [f"--user-data-dir={folder}/profile", f"--window-size={width},900", "--virtual-time-budget=5000"]
    flags += ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run([BROWSER, *flags, "--dump-dom", copy.as_uri()], capture_output=True, text=True, timeout=300)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert title is not None, done.stderr
    return json.loads(title[1].replace("&amp;", "&")), errors
