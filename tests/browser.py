"""A headless Chromium for the tests of the page, driven by Selenium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1280,900"
)
WAIT_SECONDS = 20


class Browser:
    """A page in a browser, and what a person does with it.

    Args:
        downloads: the folder of files that are saved.
    """

    def __init__(self, driver: Chrome, downloads: Path) -> None:
        self.driver, self.downloads = driver, downloads

    def open(self, address: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a page in a window of so many pixels; it is there when the server was asked about its model."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}  # what is pressed does not move
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme, still]})
        self.told(), self.requested()
        self.driver.get(address)
        self.until("return document.readyState === 'complete' && !document.getElementById('state').textContent")

    def run(self, script: str, *values: Any) -> Any:
        """What a script returns that a test runs in the page."""
        return self.driver.execute_script(script, *values)

    def until(self, script: str, *values: Any) -> None:
        WebDriverWait(self.driver, WAIT_SECONDS, 0.03).until(lambda _: self.run(script, *values), script)

    def shows(self, selector: str, text: str) -> None:
        """Wait for what is told a moment after the keys that changed it."""
        self.until("return document.querySelector(arguments[0]).textContent === arguments[1]", selector, text)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """What is read of each element, shown or not."""
        found = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)"
        return list(self.run(found, selector))

    def text(self, selector: str) -> str:
        (found,) = self.texts(selector)
        return found

    def fill(self, selector: str, text: str) -> None:
        """A text as it is pasted: keys of the driver have no emoji."""
        self.run("document.querySelector(arguments[0]).value = arguments[1]", selector, text)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def predict(self, text: str) -> None:
        """Enter a text, and wait for the answer."""
        self.fill("#text", text)
        self.send("#ask")

    def send(self, form: str) -> None:
        """Press the button of a form, and wait until it has done its work."""
        self.click(f"{form} [type=submit]")
        self.until("return document.querySelector(arguments[0]).ariaBusy === 'false'", form)

    def press(self, *keys: str) -> None:
        """Keys for what has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    @property
    def focus(self) -> str:
        """Identifier, or else text, of what has the focus."""
        return str(self.run("const on = document.activeElement; return on.id || on.textContent"))

    def told(self) -> list[str]:
        """Warnings and errors on the browser's console since the last look."""
        log: Any = self.driver.get_log("browser")
        return [line["message"] for line in log if line["level"] in ("WARNING", "SEVERE")]

    def requested(self) -> list[str]:
        """Addresses that were asked for since the last look."""
        log: Any = self.driver.get_log("performance")
        messages = [json.loads(line["message"])["message"] for line in log]
        sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent]

    def downloaded(self, name: str) -> Path:
        """A file that the page saves."""
        WebDriverWait(self.driver, WAIT_SECONDS, 0.03).until(lambda _: (self.downloads / name).exists(), name)
        return self.downloads / name


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with a profile of its own; a test is skipped, with the reason, where there is none."""
    programs = [shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")]
    if None in programs:
        pytest.skip("needs Chromium and its driver (Debian: apt-get install chromium chromium-driver)")
    downloads = folder / "downloads"
    options = ChromeOptions()
    options.binary_location = str(programs[0])
    for flag in [*FLAGS.split(), f"--user-data-dir={folder / 'profile'}"]:
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, ChromeService(programs[1]))
    try:
        yield Browser(driver, downloads)
    finally:
        driver.quit()
