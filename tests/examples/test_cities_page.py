"""The cities demo's page, in a real browser."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.waiting import until

from . import Demo, free_url, hook_server

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver import Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="chromium and chromedriver, Debian's chromium-driver, are not installed"
)


PATIENCE = 20  # seconds for what takes a fraction of one; only a liveness bound


class Page:
    """The page as a person sees it; whatever takes a moment is waited for."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self.browser = browser
        browser.get(url)
        browser.get_log("browser")  # what other tests left there
        self.input = browser.find_element(By.ID, "query")
        self.wait_for("count", "The 10 biggest cities")
        self.wait_until(lambda: browser.switch_to.active_element == self.input, "one cannot type at once")

    def type(self, *keys: str) -> None:
        self.browser.switch_to.active_element.send_keys(*keys)

    def text(self, id_: str) -> str:
        return self.browser.find_element(By.ID, id_).text

    def wait_for(self, id_: str, text: str) -> str:
        """Return the text of an element as soon as it contains `text`."""
        self.wait_until(lambda: text in self.text(id_), f"no {text!r} in #{id_}, but {self.text(id_)!r}")
        return self.text(id_)

    def wait_until(self, holds: Callable[[], bool], complaint: str = "") -> None:
        WebDriverWait(self.browser, PATIENCE, poll_frequency=0.02).until(lambda _: holds(), complaint)

    def cities(self) -> list[str]:
        return [name.text for name in self.browser.find_elements(By.CSS_SELECTOR, "#results .name")]

    def link(self, text: str, within: str = "body") -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, within).find_element(By.PARTIAL_LINK_TEXT, text)

    def focused(self) -> str:
        return self.browser.switch_to.active_element.text

    def complaints(self) -> list[str]:
        """What the browser's console has to say."""
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cities") / "cities.sqlite3")


@pytest.fixture(scope="module")
def demo(database: str) -> Iterator[Demo]:
    with Demo({"CITIES_DB": database}) as demo:
        yield demo.wait_until_up()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in [
        "headless=new",
        "no-sandbox",  # its sandbox refuses to run for root
        "disable-dev-shm-usage",  # too small in containers
        "disable-gpu",
        "disable-quic",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "no-first-run",
        "lang=en-US",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ]:
        options.add_argument(f"--{flag}")
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    browser = Chrome(options=options, service=Service(executable_path=CHROMEDRIVER, env=environment))
    yield browser
    browser.quit()


@pytest.fixture
def page(demo: Demo, browser: Chrome) -> Page:
    return Page(browser, demo.url)


def test_typing_shows_cities(page: Page) -> None:
    """Typing shows the cities that begin with what is typed, without any further key or click."""
    page.type("san")
    page.wait_for("count", "“san”")

    assert len(page.cities()) == 20
    assert {"Santiago", "Santo Domingo", "Sanaa"} <= set(page.cities())


def test_row_tells_country_and_population(page: Page) -> None:
    """A city stands there with its country and its population, grouped by thousands."""
    page.type("shangh")
    page.wait_for("count", "“shangh”")

    city, country, population = page.text("results").splitlines()[:3]
    assert (city, country) == ("Shanghai", "China")
    assert population == f"{int(population.replace(',', '')):,}"


def test_no_match_is_said(page: Page) -> None:
    """When no city begins with what is typed, the page says so."""
    page.type("qqqq")

    assert page.wait_for("count", "“qqqq”") == "No city begins with “qqqq”"
    assert page.cities() == []


def test_emptied_input_shows_the_biggest_again(page: Page) -> None:
    """With nothing in the input the page shows the biggest cities, as at first."""
    first = page.cities()
    page.type("san")
    page.wait_for("count", "“san”")
    page.type(*[Keys.BACKSPACE] * 3)
    page.wait_for("count", "The 10 biggest cities")

    assert page.cities() == first


def test_reloading_keeps_the_search(page: Page) -> None:
    """A search can be reloaded and kept as a bookmark."""
    page.type("zürich")
    page.wait_for("count", "“zürich”")
    page.browser.refresh()
    page.wait_for("count", "“zürich”")

    assert page.cities()[0] == "Zürich"


def test_country_panel(page: Page) -> None:
    """A click on a country shows its data and its largest cities, on the same page."""
    page.type("santiago")
    page.wait_for("count", "“santiago”")
    page.link("Chile").click()

    panel = page.wait_for("country", "Chile")
    assert "South America" in panel
    assert "Largest cities" in panel
    assert "Valparaíso" in panel
    assert "/country/" not in page.browser.current_url


def test_country_panel_leads_on(page: Page) -> None:
    """A click on another country in the panel shows that one there."""
    page.type("santiago")
    page.wait_for("count", "“santiago”")
    page.link("Chile").click()
    page.wait_for("country", "Also in South America")
    page.link("Brazil", within="#country").click()

    page.wait_for("country-name", "Brazil")
    assert "Rio de Janeiro" in page.text("country-cities")
    assert "/country/" not in page.browser.current_url


def test_country_panel_tells_an_error(database: str, browser: Chrome) -> None:
    """When another country cannot be shown the panel closes, and the page says why."""
    with Demo({"CITIES_DB": database}, "--worker", "thread") as other:
        page = Page(browser, other.wait_until_up().url)
        page.link("China").click()
        page.wait_for("country", "Also in Asia")
        other.stop()
    page.link("India", within="#country").click()

    assert page.wait_for("error", "server") == "The server cannot be reached."
    assert not page.browser.find_element(By.ID, "country").is_displayed()


def test_link_to_the_export(page: Page, demo: Demo) -> None:
    """The page has a link to all cities as CSV."""
    assert page.link("CSV").get_attribute("href") == f"{demo.url}/export.csv"
    assert demo.request("/export.csv").headers.get_content_type() == "text/csv"


def test_keyboard_only(page: Page) -> None:
    """All goes by keyboard: down to a city, Enter for its country, Escape back to the same city."""
    page.type("santiago")
    page.wait_for("count", "“santiago”")
    page.type(Keys.ARROW_DOWN)
    page.type(Keys.ENTER)
    page.wait_for("country", "Chile")
    page.type(Keys.ESCAPE)

    page.wait_until(lambda: page.focused() == "Chile")
    page.type(Keys.ARROW_UP)
    assert page.browser.switch_to.active_element == page.input


def test_late_answers_are_discarded(page: Page) -> None:
    """An answer that arrives after that to a later search is never shown."""
    page.browser.execute_script(
        """
        const fetched = window.fetch
        window.fetch = async (url, options) => {
          const answer = await fetched(url)  // without the signal: the worst case, a request that cannot be stopped
          if (url.endsWith("=san")) await new Promise(release => window.release = release)
          return answer
        }
        """
    )
    page.type("san")
    page.wait_until(lambda: page.browser.execute_script("return 'release' in window"))
    page.type("tiago")
    page.wait_for("count", "“santiago”")
    page.browser.execute_async_script("window.release(); setTimeout(arguments[0], 0)")

    assert "“santiago”" in page.text("count")
    assert page.cities()[0] == "Santiago"


def test_footer_names_the_worker(page: Page) -> None:
    """At its foot the page tells what runs the queries."""
    assert page.wait_for("worker", "Worker") == ", by DjangoHttpWorker"


def test_error_answer_is_shown(page: Page) -> None:
    """What the server says about a bad search is shown in place of the cities."""
    page.type("a" * 101)

    assert page.wait_for("error", "100") == "Please type at most 100 characters, not 101"
    assert page.cities() == []


def test_error_goes_with_the_next_search(page: Page) -> None:
    """The next good answer takes the error away."""
    page.type("a" * 101)
    page.wait_for("error", "100")
    page.type(*[Keys.BACKSPACE] * 101, "san")
    page.wait_for("count", "“san”")

    assert page.text("error") == ""


def test_console_is_silent(page: Page) -> None:
    """The browser has nothing to complain about, from the first search to the country."""
    page.type("santiago")
    page.wait_for("count", "“santiago”")
    page.link("Chile").click()
    page.wait_for("country", "Chile")

    assert page.complaints() == []


def test_server_gone(database: str, browser: Chrome) -> None:
    """When the server is gone the page says so."""
    with Demo({"CITIES_DB": database}, "--worker", "thread") as other:
        page = Page(browser, other.wait_until_up().url)
        other.stop()
    page.type("san")

    assert page.wait_for("error", "server") == "The server cannot be reached."


def test_query_server_gone(database: str, browser: Chrome) -> None:
    """While the query server is gone the page says so, and afterwards it works on, without being loaded again."""
    settings, url = {"CITIES_DB": database, "SLACKER_KEY": secrets.token_hex(32)}, free_url()
    with Demo(settings, "--hook", url) as other:
        other.wait_until_up()
        with hook_server(settings, url):
            until(lambda: other.request("/biggest").status == 200, "the hook is not used")
            page = Page(browser, other.url)
        page.type("san")
        page.wait_for("error", "The query server cannot answer now.")
        with hook_server(settings, url):
            until(lambda: other.request("/biggest").status == 200, "the hook is not used")
            page.type("tiago")
            page.wait_for("count", "“santiago”")

    assert page.text("error") == ""
