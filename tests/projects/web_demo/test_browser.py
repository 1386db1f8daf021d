"""The page in a real browser: ``make test-browser``.

MMSDPT_SCREENSHOTS names a folder for screenshots.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[3]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
WIDE, NARROW = 1400, 420

pytestmark = [pytest.mark.slow, pytest.mark.browser]
pytest.importorskip("gradio", reason='needs pip install "mmsdpt[web]"')
webdriver = pytest.importorskip("selenium.webdriver", reason="needs pip install selenium")
if not (CHROMIUM and DRIVER):
    pytest.skip("needs Chromium and its driver: apt install chromium-driver", True)

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The page, as its command starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "projects.web_demo", "--port", str(port), "--device", "cpu",
         "--tuners", str(ROOT / "projects/web_demo/tuners")],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + 240
    while True:
        try:
            urllib.request.urlopen(url, timeout=5)
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
            time.sleep(1)
    yield url
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="module")
def browser(address) -> Iterator:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_window_size(WIDE, 1000)
    driver.get(address)
    yield driver
    driver.quit()


def wait(browser, condition, seconds: float = 120):
    return WebDriverWait(browser, seconds, 0.5, [Exception]).until(condition)


def press(browser, name: str) -> None:
    def click(driver):
        for button in driver.find_elements(By.XPATH, f"//button[normalize-space()='{name}']"):
            if button.is_displayed():
                driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
                button.click()
                return True
        return False

    wait(browser, click)


def shown(browser) -> list[str]:
    """Addresses of the pictures that the page's models drew and that can be seen."""
    images = browser.find_elements(By.CSS_SELECTOR, "img")
    return [
        image.get_attribute("src")
        for image in images
        if image.is_displayed() and image.get_property("naturalWidth") > 300
        and any(word in image.get_attribute("src") for word in ("before_", "after_", "attention_"))
    ]  # fmt: skip


def keep(browser, name: str) -> None:
    """A screenshot of the whole page, to be looked at."""
    if folder := os.environ.get("MMSDPT_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        width = browser.get_window_size()["width"]
        height = browser.execute_script("return document.documentElement.scrollHeight")
        browser.set_window_size(width, height + 100)
        time.sleep(1)
        browser.save_screenshot(f"{folder}/{name}.png")
        browser.set_window_size(width, 1000)


def overflow(browser) -> int:
    """Pixels by which the page is wider than its window."""
    return browser.execute_script(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def test_boxes_attention_and_classes_are_shown_wide_and_narrow(browser):
    press(browser, "Find")
    wait(browser, lambda driver: len(shown(driver)) == 2)
    wait(browser, lambda driver: "hot " in driver.find_element(By.TAG_NAME, "body").text)
    press(browser, "Where it looks")
    wait(browser, lambda driver: len(shown(driver)) == 3)
    assert overflow(browser) <= 0
    keep(browser, "boxes_wide")
    browser.set_window_size(NARROW, 1000)
    wait(browser, lambda driver: overflow(driver) <= 0)
    keep(browser, "boxes_narrow")
    browser.set_window_size(WIDE, 1000)
    wait(browser, lambda driver: driver.find_elements(By.CSS_SELECTOR, "button[role=tab]"))
    next(
        tab
        for tab in browser.find_elements(By.CSS_SELECTOR, "button[role=tab]")
        if "CLIP" in tab.text
    ).click()
    drawn = "button img[src*='dress']"
    wait(browser, lambda d: d.find_element(By.CSS_SELECTOR, drawn).is_displayed())
    browser.find_element(By.CSS_SELECTOR, drawn).click()
    press(browser, "Classify")
    wait(browser, lambda driver: len(shown(driver)) == 2)
    keep(browser, "classes_wide")


def test_a_mistake_is_one_sentence_on_the_page(browser):
    browser.refresh()
    fields = wait(browser, lambda d: d.find_elements(By.CSS_SELECTOR, "textarea, input[type=text]"))
    field = next(f for f in fields if f.is_displayed() and "Classes" in f.find_element(
        By.XPATH, "./ancestor::label").text)  # fmt: skip
    field.send_keys(",".join(f"a{i}" for i in range(60)))
    press(browser, "Find")
    wait(browser, lambda driver: "60 classes were given" in driver.page_source)


def test_the_page_talks_to_nobody_else_and_gives_out_no_other_file(browser, address):
    hosts = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.responseReceived":
            hosts.add(urlsplit(message["params"]["response"]["url"]).netloc)
    hosts.discard("")  # data: and blob:, which come from the page itself
    assert {f"http://{host}" for host in hosts} == {address}
    for path in ("/etc/passwd", str(ROOT / "setup.py"), str(ROOT / "projects/web_demo/page.py")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address}/gradio_api/file={path}", timeout=10)
        assert refused.value.code in (403, 404)
    found = subprocess.run(["ss", "-ltn"], capture_output=True, text=True).stdout
    lines = [line for line in found.splitlines() if f":{address.rpartition(':')[2]} " in line]
    assert all("127.0.0.1:" in line for line in lines)
