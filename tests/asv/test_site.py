"""The published site, opened in a browser: no foreign server, and the axes can be selected."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asv", reason="the extra `asv` is not installed")

from refbench import dashboard

PATIENCE = 30.0
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1280,1000",
)  # fmt: skip
SUITE = {
    "touch.py": """
        class Touch:
            params = (("host", "later"), ("anon", "memset"), ("dense", "sparse"))
            param_names = ("target", "mechanism", "case")
            version = "1"
            type = "time"
            unit = "seconds"

            def track_time(self, target, mechanism, case):
                return {"samples": [1.0, 2.0, 3.0 + len(mechanism)], "number": 1}
    """
}


@pytest.fixture(scope="module")
def published(new_project: Callable[..., Any]) -> Any:
    """A project with two commits, measured and published."""
    project = new_project(SUITE, plugins=[".refbench.dashboard"])
    project.run()
    project.commit("second")
    project.run()
    if shutil.which("npm") is None and not Path(sys.executable).with_name("npm").exists():
        pytest.skip("npm is not installed: make test as root installs it")
    project.asv("publish", "--no-pull")
    return project


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder on a loopback port."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """Headless Chromium with a profile of its own."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromium-driver are not installed: make test as root does it")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chrome.set_page_load_timeout(PATIENCE)
    yield chrome
    chrome.quit()


def requested(browser: Any) -> dict[str, int]:
    """Every address that the page asked for, with the status of the answer."""
    answers: dict[str, int] = {}
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            answers.setdefault(message["params"]["request"]["url"], 0)
        if message["method"] == "Network.responseReceived":
            response = message["params"]["response"]
            answers[response["url"]] = response["status"]
    return answers


def test_pages_open_with_every_axis_selectable(published: Any, browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def wait(condition: Callable[[Any], Any]) -> Any:
        return WebDriverWait(browser, PATIENCE).until(condition)

    def panel(name: str) -> Any:
        """The panel of the navigation that is headed NAME."""
        heading = (
            "//*[@id='graphdisplay-navigation-params']"
            f"//div[contains(@class, 'panel-heading') and normalize-space(.)='{name}']/.."
        )
        return wait(lambda found: found.find_element(By.XPATH, heading))

    def button(name: str, text: str) -> Any:
        (one,) = [b for b in panel(name).find_elements(By.TAG_NAME, "a") if b.text == text]
        return one

    with served(published.root / ".asv/html") as site:
        browser.get(site)
        grid = wait(lambda b: b.find_element(By.CSS_SELECTOR, "#summarygrid-display a"))
        assert "touch.Touch.track_time" in grid.get_attribute("href")
        browser.get(f"{site}#/summarylist")
        wait(lambda b: "track_time" in b.find_element(By.ID, "summarylist-body").text)
        browser.get(f"{site}#/regressions")
        wait(lambda b: b.find_element(By.ID, "regressions-body").is_displayed())

        browser.get(f"{site}#touch.Touch.track_time")
        wait(lambda b: b.find_element(By.CSS_SELECTOR, "#main-graph canvas"))
        for name, values in {
            "target": ["host", "later"],
            "mechanism": ["anon", "memset"],
            "case": ["dense", "sparse"],
        }.items():
            assert [b.text for b in panel(name).find_elements(By.TAG_NAME, "a")] == values
        button("mechanism", "anon").click()
        wait(lambda b: "p-mechanism=" in b.current_url and "anon" not in b.current_url)
        button("x-axis", "mechanism").click()
        wait(lambda b: "x-axis=mechanism" in b.current_url)
        wait(lambda b: b.find_element(By.CSS_SELECTOR, "#main-graph canvas"))

        severe = [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
        answers = {u: s for u, s in requested(browser).items() if u.startswith("http")}
    assert not severe
    assert len(answers) > 15
    assert {url: status for url, status in answers.items() if not url.startswith(site)} == {}
    assert {url: status for url, status in answers.items() if status not in (200, 304)} == {}


PREVIEW = """
import fcntl, socket, struct, subprocess, sys, urllib.request
interface = struct.pack("16sH14s", b"lo", 0x1 | 0x40, b"")  # SIOCSIFFLAGS: up and running
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, 0x8914, interface)
preview = subprocess.Popen(
    [sys.executable, "-u", "-m", "asv", "preview", "--port", "8080"],
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
)
try:
    for line in preview.stdout:
        if "Press" in line:
            break
    print(urllib.request.urlopen("http://127.0.0.1:8080/", timeout=20).read().decode())
finally:
    preview.kill()
"""


def test_preview_serves_it(published: Any) -> None:
    # asv preview listens on every address, so it gets a network of its own.
    alone = ["unshare", "--net", "--map-root-user"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode != 0:
        pytest.skip("network namespaces are not available here")
    done = subprocess.run(
        [*alone, sys.executable, "-c", PREVIEW],
        cwd=published.root,
        env=published.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "vendor/jquery-3.3.1/jquery.min.js" in done.stdout, done.stderr


def test_asv_loads_nothing_that_is_not_known() -> None:
    import asv

    html = (Path(asv.__file__).parent / "www/index.html").read_text()
    text, used = dashboard.rewritten(html)
    assert set(used) == set(dashboard.ASSETS)
    assert "integrity=" not in text


def test_an_unknown_script_stops_publishing(tmp_path: Path) -> None:
    from refbench.errors import StorageError

    page = '<script src="https://example.org/new.js"></script>'
    (tmp_path / "index.html").write_text(page)
    with pytest.raises(StorageError, match=r"example\.org/new\.js"):
        dashboard.make_self_contained(tmp_path)
    assert (tmp_path / "index.html").read_text() == page


def test_without_npm_the_remedy_is_named(new_project: Callable[..., Any], tmp_path: Path) -> None:
    project = new_project(SUITE, plugins=[".refbench.dashboard"])
    project.run()
    only_git = tmp_path / "bin"
    only_git.mkdir()
    (only_git / "git").symlink_to(str(shutil.which("git")))
    # A Python elsewhere than the npm that pip may have installed beside ours.
    program = (
        "import sys; sys.executable = '/nowhere/python'; from asv.main import main; "
        "sys.argv = ['asv', 'publish', '--no-pull']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project.root,
        env={**project.environment, "PATH": str(only_git), "REFBENCH_CACHE": str(tmp_path / "c")},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "Install it" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
