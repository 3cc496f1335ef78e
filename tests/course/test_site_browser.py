"""The site in a browser, at the width of a desk and of a phone: what AppTest cannot see.

Needs Chromium or Chrome on PATH. The server is ours, on a free port, with a progress file of its own.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

from refract.paths import all_sections
from refract.progress import Store, open_store
from streamlit_app.content.pages import url_path
from tests.course import site_toy_course as toy

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
SIZES = {1280: 900, 390: 844}
PATIENCE = 30_000  # milliseconds; the first page loads torch
# Opened at /page, Streamlit looks for its server at /page/_stcore first, then at /_stcore: a 404 that it expects.
PROBE = re.compile(r"/[\w-]+/_stcore/(health|host-config)$")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(f"No browser on PATH (looked for {', '.join(BROWSERS)}). On Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Site:
    """A running site."""

    address: str
    store: Store


@contextmanager
def serve(home: Path, course: Path | None = None) -> Iterator[Site]:
    """The site on a free port, ready when its server says so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "REFRACT_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    environment.pop("REFRACT_ROOT", None)
    if course is not None:
        environment["REFRACT_ROOT"] = str(course)
    command = [
        *(sys.executable, "-m", "streamlit", "run", str(ROOT / "streamlit_app" / "app.py")),
        *("--server.port", str(port), "--server.address", "127.0.0.1"),
        *("--server.headless", "true", "--server.fileWatcherType", "none"),
    ]
    server = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert server.stdout is not None
    said: list[str] = []
    try:
        for line in server.stdout:
            said.append(line)
            if "URL:" in line:
                break
        else:
            pytest.fail("The site did not start:\n" + "".join(said))
        drain = threading.Thread(target=said.extend, args=(server.stdout,), daemon=True)  # or its pipe would fill up
        drain.start()
        yield Site(f"http://127.0.0.1:{port}", open_store(home / "progress.db"))
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="session")
def toy_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    course = toy.build(tmp_path_factory.mktemp("course"))
    with serve(tmp_path_factory.mktemp("home"), course) as site:
        yield site


@pytest.fixture
def site(toy_site: Site) -> Site:
    """The small course, with nothing done in it."""
    for section in (toy.FIRST, toy.SECOND):
        toy_site.store.add("reset", section, "")
    return toy_site


@dataclass
class Watched:
    """What went wrong while a page was open."""

    origin: str
    problems: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.on("request", self._request)
        page.on("requestfailed", self._failed)
        page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not PROBE.search(message.location.get("url", "")):
            self.problems.append(f"console: {message.text} ({message.location})")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.problems.append(f"fetched from elsewhere: {request.url}")

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # leaving a page aborts what it was still loading
            self.problems.append(f"failed: {request.url} ({request.failure})")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and not PROBE.search(response.url):
            self.problems.append(f"{response.status}: {response.url}")


Profiles = Callable[[int, str], BrowserContext]


@pytest.fixture(scope="session")
def profiles(chromium: Browser) -> Profiles:
    """A browser profile for each width and colour scheme; its cache makes all pages but the first one quick."""

    @functools.cache
    def profile(width: int, scheme: str) -> BrowserContext:
        context = chromium.new_context(
            viewport={"width": width, "height": SIZES[width]},
            reduced_motion="reduce",
            color_scheme="dark" if scheme == "dark" else "light",
        )
        context.set_default_timeout(PATIENCE)
        return context

    return profile


@contextmanager
def tab(profiles: Profiles, site: Site, width: int, scheme: str = "light") -> Iterator[Page]:
    """A new tab; fails if anything went wrong in it."""
    watched = Watched(site.address)
    page = profiles(width, scheme).new_page()
    watched.listen(page)
    try:
        yield page
        assert page.locator(".katex-error").count() == 0
        assert watched.problems == []
    finally:
        page.close()


@pytest.fixture(params=SIZES, ids=lambda width: f"{width}px")
def page(request: pytest.FixtureRequest, profiles: Profiles, site: Site) -> Iterator[Page]:
    with tab(profiles, site, request.param) as opened:
        yield opened


def go(page: Page, site: Site, address: str) -> None:
    page.goto(site.address + address)
    settle(page)


def settle(page: Page) -> None:
    """Until the script has run and everything it sent is drawn."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    page.wait_for_selector("h1")
    expect(page.locator('[data-testid="stSkeleton"]')).to_have_count(0, timeout=PATIENCE)


def in_view(page: Page, name: str) -> None:
    """Until the element is in the upper part of the window, or as far up as the page's end allows, and stays there."""
    page.wait_for_function(
        """name => {
            const target = document.getElementById(name);
            const main = document.querySelector('[data-testid="stMain"]');
            if (!target || !main || !target.getClientRects().length) return false; // what is not drawn is at 0, 0
            const top = target.getBoundingClientRect().top;
            const atEnd = main.scrollTop + main.clientHeight >= main.scrollHeight - 2;
            const good = top >= 0 && (top < innerHeight / 3 || (atEnd && top < innerHeight));
            window.goodSince = good ? (window.goodSince ?? performance.now()) : undefined;
            return good && performance.now() - window.goodSince > 400;
        }""",
        arg=name,
    )


def no_sideways_scroll(page: Page) -> None:
    wide = page.evaluate(
        """() => [document.documentElement, document.querySelector('[data-testid="stMain"]')]
            .map(box => box.scrollWidth - box.clientWidth)"""
    )
    assert wide == [0, 0]


def figure(page: Page, key: str) -> Locator:
    return page.locator(f".st-key-{key} .main-svg").first


# --- pages -------------------------------------------------------------------------------------


def test_home_leads_to_the_first_section(page: Page, site: Site) -> None:
    go(page, site, "/")
    assert page.locator("html").get_attribute("lang") == "en"
    expect(page.locator("h1")).to_have_text("Refract")
    no_sideways_scroll(page)
    page.get_by_test_id("stMain").get_by_role("link", name="First light").first.click()
    expect(page.locator("h1")).to_have_text("First light")
    page.wait_for_url("**/ch1-first-light")
    settle(page)


def test_a_section_is_drawn_whole_and_fits_the_screen(page: Page, site: Site) -> None:
    go(page, site, "/ch1-first-light")
    expect(page.locator("h1")).to_have_count(1)
    expect(page.locator(".katex").first).to_be_visible()
    expect(page.locator(".katex-display")).to_have_count(2)
    expect(figure(page, "figure-open_plot")).to_be_visible()
    expect(page.locator('img[alt="A red dot"]')).to_be_visible()
    expect(page.get_by_text('<script>alert("no")</script>')).to_be_visible()
    no_sideways_scroll(page)
    levels = page.eval_on_selector_all("h1, h2, h3, h4", "found => found.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))


def test_a_table_with_maths_and_a_lab_fit_the_screen(page: Page, site: Site) -> None:
    go(page, site, "/ch1-second-look")
    expect(page.locator("td .katex")).to_have_count(2)
    for wide in (page.locator("table", has_text="breaks_nowhere"), page.locator(".katex-display")):
        # Its right edge comes into view by scrolling within its own box; Streamlit's box around it would cut it off.
        room = wide.evaluate(
            """box => {
                box.scrollLeft = 10000;
                const last = [...box.querySelectorAll("td, .base")].map(part => part.getBoundingClientRect().right);
                return innerWidth - Math.max(...last);
            }"""
        )
        assert room >= 0
    expect(figure(page, "toy-lab-loss")).to_be_visible(timeout=PATIENCE)
    no_sideways_scroll(page)


@pytest.mark.parametrize("page", [1280], indirect=True, ids=["1280px"])
def test_a_malformed_section_shows_its_error_and_the_site_goes_on(page: Page, site: Site) -> None:
    go(page, site, "/ch2-broken")
    expect(page.get_by_text("This section cannot be shown.")).to_be_visible()
    expect(page.get_by_text("s1_broken.md:3").first).to_be_visible()
    no_sideways_scroll(page)


@pytest.mark.parametrize("address", ["/search?q=feature", "/progress"])
def test_the_other_pages_fit_the_screen(page: Page, site: Site, address: str) -> None:
    go(page, site, address)
    no_sideways_scroll(page)


def test_the_progress_page_fits_with_its_table_and_its_figure(page: Page, site: Site) -> None:
    for name, confidence, correct in (("survivors", 0.9, True), ("how_many", 0.6, False)):
        site.store.add_prediction(toy.FIRST, name, "b", confidence=confidence, correct=correct)
    site.store.add_solution(toy.FIRST, "sample_things")
    go(page, site, "/progress")
    expect(page.locator(".st-key-calibration .scatterlayer .point")).to_have_count(2)
    table = page.locator("table").first
    table.locator("code").first.evaluate("code => { code.textContent = 'importance_weighted_mse'; }")
    assert table.evaluate("table => table.scrollWidth - table.clientWidth") == 0
    no_sideways_scroll(page)


# --- links -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["double_it", "open_plot", "what-is-shown"])
def test_a_deep_link_opened_fresh_arrives(page: Page, site: Site, name: str) -> None:
    go(page, site, f"/ch1-first-light#{name}")
    in_view(page, name)


@pytest.mark.parametrize("page", [1280], indirect=True, ids=["1280px"])
def test_a_link_between_sections_stays_in_its_tab_and_arrives(page: Page, site: Site) -> None:
    go(page, site, "/ch1-first-light")
    tabs = len(page.context.pages)
    page.get_by_test_id("stMain").get_by_role("link", name="second look", exact=True).click()
    expect(page.locator("h1")).to_have_text("Second look")
    in_view(page, "tables")
    assert len(page.context.pages) == tabs


def test_the_contents_lead_and_follow(page: Page, site: Site) -> None:
    go(page, site, "/ch1-first-light")
    if page.viewport_size and page.viewport_size["width"] < 768:
        page.locator(".refract-toc-folded summary").click()
        page.locator(".refract-toc-folded").get_by_text("What will happen").click()
        in_view(page, "what-will-happen")
        return
    current = page.locator('.refract-toc a[aria-current="true"]')
    expect(current).to_have_text("Sparse features")
    page.locator(".refract-toc").get_by_text("What will happen").click()
    in_view(page, "what-will-happen")
    expect(current).to_have_text("What will happen")
    page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, main.scrollHeight)")
    expect(current).to_have_text("What is shown")


def test_search_finds_and_a_result_leads_to_its_place(page: Page, site: Site) -> None:
    go(page, site, "/search")
    box = page.get_by_label("Words to look for")
    box.fill("zebra")
    box.press("Enter")
    page.wait_for_url("**/search?q=zebra")
    page.locator(".refract-hits a").first.click()
    in_view(page, "sample_things")
    assert page.url.endswith("/ch1-first-light#sample_things")


# --- working -----------------------------------------------------------------------------------


def test_hints_open_one_at_a_time_by_keyboard_and_stay(page: Page, site: Site) -> None:
    go(page, site, "/ch1-first-light")
    box = page.locator(".st-key-exercise-sample_things")
    expect(box.get_by_text("quokka")).to_have_count(0)
    button = box.get_by_role("button", name="Show hint 1 of 3")
    button.focus()
    page.keyboard.press("Enter")
    expect(box.get_by_text("quokka")).to_be_visible()
    expect(box.get_by_text("wombat")).to_have_count(0)
    box.get_by_role("button", name="Show hint 2 of 3").click()
    expect(box.get_by_text("wombat")).to_be_visible()
    go(page, site, "/ch1-first-light")
    expect(box.get_by_text("wombat")).to_be_visible()
    assert site.store.hints_opened(toy.FIRST, "sample_things") == 2


@pytest.mark.parametrize("page", [1280], indirect=True, ids=["1280px"])
def test_focus_is_visible(page: Page, site: Site) -> None:
    go(page, site, "/ch1-first-light")
    page.locator("h1").click()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    style = page.evaluate(
        "() => { const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.boxShadow]; }"
    )
    assert page.evaluate("document.activeElement !== document.body")
    assert style[0] != "none" or style[1] != "none"


@pytest.mark.parametrize("page", [1280], indirect=True, ids=["1280px"])
def test_a_prediction_reveals_its_figure(page: Page, site: Site) -> None:
    go(page, site, "/ch1-first-light")
    expect(page.locator(".st-key-figure-survivors_plot .main-svg")).to_have_count(0)
    box = page.locator(".st-key-predict-survivors")
    box.get_by_text("b. Two").click()
    box.get_by_role("button", name="Predict", exact=True).click()
    expect(box.get_by_text("that is right")).to_be_visible()
    expect(figure(page, "figure-survivors_plot")).to_be_visible()
    (made,) = site.store.predictions(toy.FIRST)
    assert (made.answer, made.confidence, made.correct) == ("b", 0.5, True)


def test_the_labs_sliders_change_its_figure_and_its_link(page: Page, profiles: Profiles, site: Site) -> None:
    go(page, site, "/ch1-second-look")
    labels = page.locator(".st-key-toy-lab-features .textpoint")
    expect(labels).to_have_count(5, timeout=PATIENCE)
    slider = page.locator(".st-key-toy-lab-n").get_by_role("slider")
    slider.focus()
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    expect(labels).to_have_count(7, timeout=PATIENCE)
    expect(page.get_by_text("of 7 features stored")).to_be_visible()
    page.wait_for_url(re.compile(r"[?&]n=7(&|$)"))
    assert page.viewport_size is not None
    with tab(profiles, site, page.viewport_size["width"]) as other:
        go(other, site, page.url.removeprefix(site.address))
        expect(other.locator(".st-key-toy-lab-features .textpoint")).to_have_count(7, timeout=PATIENCE)


# --- themes, and the real course ---------------------------------------------------------------


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(…)``, as WCAG defines it."""
    shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("scheme", "light"), [("light", True), ("dark", False)])
def test_the_theme_follows_the_reader(profiles: Profiles, site: Site, scheme: str, light: bool) -> None:
    with tab(profiles, site, 1280, scheme) as page:
        go(page, site, "/ch1-first-light")
        expect(figure(page, "figure-open_plot")).to_be_visible()
        colours = page.evaluate(
            """() => [getComputedStyle(document.querySelector('[data-testid="stApp"]')).backgroundColor,
                getComputedStyle(document.querySelector('.st-key-figure-open_plot .xtick text')).fill,
                getComputedStyle(document.querySelector('.st-key-figure-open_plot .js-line')).stroke]"""
        )
        paper, *inks = (luminance(colour) for colour in colours)
        assert (paper > 0.5) == light
        for ink in inks:  # the line is drawn dark, for paper
            assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) > 3  # the contrast that WCAG asks of graphics


@pytest.fixture(scope="session")
def real_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serve(tmp_path_factory.mktemp("home")) as site:
        yield site


@pytest.mark.parametrize("width", SIZES)
def test_every_section_of_the_course_is_drawn_without_an_error(profiles: Profiles, real_site: Site, width: int) -> None:
    for paths in all_sections():
        with tab(profiles, real_site, width) as page:
            go(page, real_site, f"/{url_path(paths)}")
            assert page.get_by_test_id("stAlertContentError").count() == 0
            expect(page.locator(".katex").first).to_be_visible()
            no_sideways_scroll(page)


LABS = {  # the section of a lab, one of its sliders, what it says, and what its address holds three steps to the right
    "polytope-lab": ("s4_geometry", "length", re.compile(r"features? in \d dimensions?"), r"[?&]length=1\.15(&|$)"),
    "phase-lab": ("s2_phase_change", "p", re.compile(r"Best of ten: "), r"[?&]p=0\.07(&|$)"),
}


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("lab", LABS)
def test_a_sections_lab_answers_and_its_link_brings_the_same_back(
    profiles: Profiles, real_site: Site, lab: str, width: int
) -> None:
    section, field, words, query = LABS[lab]
    (address,) = [f"/{url_path(paths)}" for paths in all_sections() if paths.section == section]
    with tab(profiles, real_site, width) as page:
        go(page, real_site, address)
        sentence = page.get_by_test_id("stMarkdown").get_by_text(words).first
        expect(sentence).to_be_visible(timeout=PATIENCE)
        before = sentence.inner_text()
        figures = page.locator(f'[class*="st-key-{lab}-"] .main-svg')
        expect(figures.first).to_be_visible()
        drawn = page.locator(f'[class*="st-key-{lab}-"] .js-plotly-plot').evaluate_all(DATA)
        slider = page.locator(f".st-key-{lab}-{field}").get_by_role("slider")
        slider.focus()
        for _ in range(3):
            slider.press("ArrowRight")
        expect(sentence).not_to_have_text(before, timeout=PATIENCE)
        page.wait_for_url(re.compile(query))  # of the last step: a slow page may show the others on the way
        settle(page)
        after = sentence.inner_text()
        assert page.locator(f'[class*="st-key-{lab}-"] .js-plotly-plot').evaluate_all(DATA) != drawn
        no_sideways_scroll(page)
        with tab(profiles, real_site, width) as other:
            go(other, real_site, page.url.removeprefix(real_site.address))
            expect(other.get_by_test_id("stMarkdown").get_by_text(words).first).to_have_text(after, timeout=PATIENCE)


# What the plots hold, not how they are drawn; their numbers may be typed arrays, hence the spreading.
DATA = """plots => plots.map(plot => plot.data.map(trace =>
    ['x', 'y', 'z', 'text'].map(axis => Array.from(trace[axis]?._inputArray ?? trace[axis] ?? []).join())).join(';'))"""
