#!/usr/bin/env python3
"""The page of `nibble-loadtest --html` in a real browser: what it draws, that it complains of nothing, and that it fits.

usage: page_test.py      needs a release build (NIBBLE_BUILD: another), and chromium
"""
import contextlib
import http.server
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / os.environ.get("NIBBLE_BUILD", "build/release") / "bin"
# Shows the page at a width of its own, for a browser's window may not get as narrow, and writes down what does not fit.
FRAME = """<iframe id="page" srcdoc="{page}" style="width: {width}px; height: 5000px; border: 0"></iframe>
<script>
addEventListener("load", () => {{
  const inner = document.getElementById("page").contentDocument;
  const wide = [...inner.querySelectorAll("body *:not(.scroll *)")].filter(node => node.getBoundingClientRect().right > {width} + 1);
  document.body.dataset.overflow = wide.map(node => node.tagName + " " + node.textContent.slice(0, 20)).join("; ");
  document.body.dataset.width = inner.documentElement.clientWidth;
  document.body.dataset.drawn = inner.body.innerText + inner.getElementById("plots").innerHTML;
}});
</script>"""


class Metrics(http.server.BaseHTTPRequestHandler):
    """A metrics port."""
    BODY = b"vllm:kv_cache_usage_perc 0.5\nvllm:num_requests_running 3\nvllm:num_requests_waiting 1\n"

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.BODY)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def metrics_url():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
        server.shutdown()
        thread.join()


def page_of(*flags, server=("20", "5")):
    """The page of a run against a server of known delays. A run that failed, or that a busy machine spoilt, leaves one too."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "page.html"
        with subprocess.Popen([BIN / "fake_server", *server], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True) as process:
            target = f"grpc://{process.stdout.readline().strip()}"
            subprocess.run([BIN / "nibble-loadtest", "--target", target, "--output-tokens", "10", "--html", path, *flags],
                           capture_output=True)
            process.stdin.close()
        return path.read_text(encoding="utf-8")


class Page(unittest.TestCase):
    def browse(self, page, width=1100):
        """The page's document once it has run, framed at `width`, and what it said on the console."""
        quoted = page.replace("&", "&amp;").replace('"', "&quot;")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "frame.html"
            path.write_text(FRAME.format(page=quoted, width=width), encoding="utf-8")
            done = subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
                                   f"--user-data-dir={folder}/profile", "--virtual-time-budget=2000", "--dump-dom",
                                   path.as_uri()], capture_output=True, text=True, timeout=120)
        said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        return done.stdout, said

    def attribute(self, document, name):
        return re.search(f'data-{name}="([^"]*)"', document).group(1)

    def assert_drawn(self, page, titles):
        for width in (360, 1100):
            document, said = self.browse(page, width)
            self.assertEqual(said, [])
            self.assertEqual(self.attribute(document, "width"), str(width))
            self.assertEqual(self.attribute(document, "overflow"), "")
            drawn = self.attribute(document, "drawn")
            for title in titles:
                self.assertIn(title, drawn)
            self.assertNotIn("NaN", drawn)

    def test_a_run_at_desktop_and_phone_width(self):
        page = page_of("--requests", "40", "--rate", "200")
        self.assert_drawn(page, ["Time to first token", "Gaps between outputs", "Output tokens per second"])

    def test_metrics_lie_on_the_same_axis(self):
        with metrics_url() as url:
            page = page_of("--requests", "40", "--rate", "50", "--metrics-url", url)
        self.assert_drawn(page, ["Output tokens per second", "KV cache in use", "Requests in the server"])

    def test_a_sweep_plots_latency_by_rate(self):
        page = page_of("--requests", "20", "--rate", "16384", "--sweep", "--slo", "ttft:10s,tpot:1s")
        self.assert_drawn(page, ["Time to first token by rate", "Time per output token by rate"])

    def test_tenants_have_a_table(self):
        with tempfile.NamedTemporaryFile("w", suffix=".tenants") as tenants:
            tenants.write("first a-key 1\nsecond b-key 1\n")
            tenants.flush()
            page = page_of("--requests", "40", "--tenants", tenants.name)
        self.assert_drawn(page, ["first", "second"])
        self.assertNotIn("a-key", page)

    def test_failures_are_named(self):
        self.assert_drawn(page_of("--requests", "3", server=("0", "0", "4")), ["3 failed with UNAVAILABLE"])

    def test_figures_that_say_nothing_of_the_server_say_that(self):
        page = page_of("--requests", "3")
        self.assertIn('"invalid": null', page)
        self.assert_drawn(page.replace('"invalid": null', '"invalid": "the client was late"'), ["the client was late"])

    def test_one_request_is_enough(self):
        self.assert_drawn(page_of("--requests", "1"), ["Time to first token"])

    def test_an_error_of_the_page_is_noticed(self):
        _, said = self.browse(page_of("--requests", "1").replace("header();", "headerr();"))
        self.assertEqual(len(said), 1, said)


if __name__ == "__main__":
    unittest.main()
