"""The page of results: what is in the file, what is not, and (drills) what a real browser makes of it."""

import json
import re
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixmix_ray
from pixmix_ray.benchmarks import Clean
from pixmix_ray.errors import RequestError
from pixmix_ray.experiment.file import read_experiment
from pixmix_ray.metrics import Measurement, Predictions
from pixmix_ray.report.page import page
from pixmix_ray.report.serve import server
from pixmix_ray.storage.cell import predictions_table
from pixmix_ray.storage.store import Store
from tests.stored_cells import put

CHROMIUM = shutil.which("chromium")
ERRORS = {"baseline": 0.3, "pixmix": 0.1, "mixup": 0.2, "cutout": 0.25}
HOSTILE = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
N = 300


def fill(folder: Path, errors: dict[str, float] = ERRORS, **about: object) -> Store:
    """Cells of clean with predictions, of corruptions with figures alone, and the files of trained trials."""
    store, clean, hard = Store(folder), Clean(), np.random.default_rng(7).permutation(N) / N
    for number, (method, error) in enumerate(errors.items()):
        found = Predictions(
            condition=np.full(N, ""),
            severity=np.zeros(N, np.int8),
            index=np.arange(N, dtype=np.int32),
            label=np.zeros(N, np.int16),
            predicted=(hard >= 1 - error).astype(np.int16),
            confidence=(0.5 + hard / 2).astype(np.float32),
            extras={name: np.zeros(N, np.float32) for name in Clean.extras},
        )
        key = str(number)
        settings = {
            "dataset": {"name": "digits", "version": "digits-1"},
            "model": {"name": "wide_resnet", "depth": 10, "width": 1},
            "method": {"name": method if method in ERRORS else "baseline"},
            "training": {"epochs": 2},
        }
        common: dict[str, object] = {
            "method": method,
            "trial_id": f"trial-{key}",
            "settings": json.dumps(settings),
            **about,
        }
        clean_settings = json.dumps({"name": "clean", "limit": 300})
        put(
            store,
            f"trial-{key}/clean-1",
            *clean.measure(found),
            rows=predictions_table(found, clean.extras),
            **{"benchmark_settings": clean_settings, **common},
        )
        rows = [
            Measurement(metric="ce", value=error * scale, n=9, condition=name)
            for name, scale in (("fog", 1), ("snow", 2))
        ]
        rows += [Measurement(metric="error", value=error + s / 50, n=9, severity=s) for s in (1, 2)]
        mce = Measurement(metric="mce", value=0.5 - error, n=9, standard_error=0.01)
        benchmark = {"benchmark": "corruptions", "benchmark_settings": '{"name": "corruptions"}'}
        put(store, f"trial-{key}/corruptions-1", mce, *rows, **{**common, **benchmark})
        done = {"losses": [2.0, 1.0], "epoch_seconds": [1.0, 1.0], "finished_at": "2026-01-01T00:00:00+00:00"}
        store.write_json(f"trials/trial-{key}/done.json", done)
    return store


def data_of(text: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    values: dict[str, Any] = json.loads(found)
    return values


def test_the_page_holds_entries_objectives_draws_conditions_tables_and_failures(tmp_path: Path) -> None:
    store = fill(tmp_path)
    store.write_json("trials/ipmix-1/failed.json", {"failed_at": "now", "error": "it diverged"})
    data = data_of(page(store, pixmix_ray.read(tmp_path).measurements))
    (part,) = data["parts"]
    assert sorted(part["entries"]["label"]) == sorted(ERRORS)
    names = [one["name"] for one in part["objectives"]]
    assert [names[index] for index in part["chosen"]] == ["clean.error", "corruptions.mce"]
    assert {"clean.soft_f1", "clean.brier_score"} <= set(names)
    place = part["entries"]["label"].index("pixmix")
    assert part["values"][0][place] == pytest.approx(0.1)
    assert part["low"][0][place] < 0.1 < part["high"][0][place]
    assert part["marks"][0][place] == 1 and part["draws"]["count"] > 100
    assert part["conditions"][0]["names"] == ["fog", "snow"] and part["severities"][0]["severities"] == [1, 2]
    assert part["curves"][place] == [[2.0, 1.0]] and part["epochs"][place] == [1, 2]
    assert len(data["paper"]) == 15 and data["failures"][0][0] == "ipmix-1"
    assert any(line.startswith("nothing improves on baseline") for line in part["claims"])


def test_what_repeats_an_entry_is_a_valid_experiment(tmp_path: Path) -> None:
    (part,) = data_of(page(fill(tmp_path), pixmix_ray.read(tmp_path).measurements))["parts"]
    asked = part["entries"]["repeat"][part["entries"]["label"].index("mixup")]
    experiment = read_experiment({**asked, "benchmarks": [{"name": "clean", "limit": 300}]})
    assert [trial.method.own_name for trial in experiment.trials()] == ["mixup"]
    assert asked["benchmarks"] == [{"limit": 300, "name": "clean"}, {"name": "corruptions"}]


def test_the_file_asks_nobody_for_anything_and_names_are_no_markup(tmp_path: Path) -> None:
    store = fill(tmp_path, {**ERRORS, HOSTILE: 0.15})
    text = page(store, pixmix_ray.read(tmp_path).measurements)
    without_names = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(
        r"https?://|@import|url\(|src=", re.sub(r'id="data">.*?</script>', "", without_names, flags=re.S)
    )
    assert text.count("</script>") == 2 and "onerror=" not in text.replace("onerror=\\", "")
    assert HOSTILE in data_of(text)["parts"][0]["entries"]["label"]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy and "default-src 'none'" in policy[1] and "unsafe" not in policy[1]


def test_an_unwritable_place_is_one_line(tmp_path: Path) -> None:
    fill(tmp_path)
    with pytest.raises(RequestError, match=r"cannot write .*report\.html"):
        pixmix_ray.read(tmp_path).report(tmp_path / "nowhere" / "report.html")
    assert pixmix_ray.read(tmp_path).report(tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_the_server_answers_this_machine_alone_and_follows_what_changes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with server(store, 0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{running.server_port}"

        def get(path: str, **headers: str) -> str:
            request = urllib.request.Request(f"{address}{path}", headers=headers)
            with urllib.request.urlopen(request) as answer:
                return str(answer.read().decode())

        assert "Nothing has been measured here yet" in get("/")
        before = get("/stamp")
        fill(tmp_path)
        data = data_of(get("/"))
        assert data["live"] == get("/stamp") != before and len(data["parts"][0]["entries"]["label"]) == 4
        for path, headers, code in (("/", {"Host": "evil.example"}, 421), ("/../etc/passwd", {}, 404)):
            with pytest.raises(urllib.error.HTTPError) as error:
                get(path, **headers)
            assert error.value.code == code
        with pytest.raises(RequestError, match=r"cannot listen on port .*--port"):
            server(store, running.server_port)
        running.shutdown()


@pytest.fixture
def tab(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A tab of a real browser that notes what goes wrong and what is asked of the network."""
    from playwright.sync_api import sync_playwright

    options = getattr(request, "param", {"viewport": {"width": 1200, "height": 900}})
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened: Any = browser.new_context(**options).new_page()
        opened.noted = []
        opened.on("console", lambda message: opened.noted.append(message.text))
        opened.on("pageerror", lambda error: opened.noted.append(str(error)))
        opened.on(
            "request", lambda asked: opened.noted.append(asked.url) if not asked.url.startswith("file:") else None
        )
        yield opened
        browser.close()


def shown(tab: Any, folder: Path, errors: dict[str, float] = ERRORS, **about: object) -> Any:
    fill(folder, errors, **about)
    tab.goto(f"file://{pixmix_ray.read(folder).report(folder / 'report.html')}")
    tab.wait_for_selector("body[data-ready]")
    return tab


def rows(tab: Any) -> list[str]:
    texts: list[str] = tab.locator("#entries tbody th").all_inner_texts()
    return texts


needs_browser = [
    pytest.mark.drill,
    pytest.mark.skipif(CHROMIUM is None or find_spec("playwright") is None, reason="needs playwright and chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
in_browser = lambda test: needs_browser[0](needs_browser[1](needs_browser[2](test)))  # noqa: E731  # three marks in one


@in_browser
def test_the_table_is_sorted_and_filtered_by_mouse_and_keyboard(tab: Any, tmp_path: Path) -> None:
    shown(tab, tmp_path)
    tab.click("#entries th button >> text=clean")
    assert rows(tab) == ["pixmix", "mixup", "cutout", "baseline"]
    assert tab.get_attribute("#entries th:nth-child(3)", "aria-sort") == "ascending"
    tab.keyboard.press("Enter")  # the same button has the focus
    assert rows(tab) == ["baseline", "cutout", "mixup", "pixmix"]
    tab.fill("#filter", 'method.name="mixup"')
    assert rows(tab) == ["mixup"] and tab.inner_text("#shown") == "1 of 4 rows"
    assert tab.noted == []


@in_browser
def test_objectives_are_chosen_and_a_point_tells_what_dominates_it(tab: Any, tmp_path: Path) -> None:
    shown(tab, tmp_path)
    assert tab.inner_text("#size").startswith("4 of 4 on the front in 2 objectives")  # of made-up figures the reverse
    tab.click("#table summary")
    tab.click("#objectives label >> text=corruptions.mce")
    assert tab.inner_text("#size").startswith("1 of 4 on the front in 1 objective")
    assert tab.locator("#entries thead th").count() == 4
    point = tab.locator('#scatter .point[aria-label^="baseline"]')
    point.focus()
    tab.keyboard.press("Enter")
    details = tab.inner_text("#details")
    assert "It is dominated." in details and "pixmix dominates it: in 100 % of the draws" in details
    assert '"methods": [{"name":"baseline"}]' in details and "pixmix-ray run experiment.yaml" in details
    tab.click('#details button >> text="pixmix"')
    assert "Nothing dominates it" in tab.inner_text("#details")
    tab.select_option("#x", "0")
    tab.select_option("#paper-table", "7")
    assert "Table 8" in tab.locator("#paper-table option:checked").inner_text()
    assert tab.noted == []


@in_browser
def test_other_results_are_compared_and_another_file_is_refused(tab: Any, tmp_path: Path) -> None:
    fill(tmp_path / "other", {**ERRORS, "baseline": 0.6})
    other = pixmix_ray.read(tmp_path / "other").report(tmp_path / "other" / "report.html")
    shown(tab, tmp_path / "here")
    tab.set_input_files("#other", str(other))
    tab.wait_for_selector("#changes tbody tr")
    changes = [row.split("\t") for row in tab.locator("#changes tbody tr").all_inner_texts()]
    assert ["baseline", "clean.error", "30.0", "60.0", "30.0", "worse there"] in changes
    assert ["pixmix", "clean.error", "10.0", "10.0", "0.0", "no significant difference"] in changes
    (tmp_path / "strange.html").write_text("<p>hello")
    tab.set_input_files("#other", str(tmp_path / "strange.html"))
    tab.get_by_text("is not a report.html").wait_for()
    assert tab.noted == []


@in_browser
def test_names_of_somebody_hostile_run_nothing(tab: Any, tmp_path: Path) -> None:
    shown(tab, tmp_path, {**ERRORS, HOSTILE: 0.15})
    assert tab.title() != "run" and HOSTILE in rows(tab)
    tab.click(f"#entries tbody tr:nth-child({rows(tab).index(HOSTILE) + 1}) th button")
    assert tab.title() != "run" and "onerror" in tab.inner_text("#details h3") and tab.noted == []


@in_browser
@pytest.mark.parametrize("tab", [{"viewport": {"width": 360, "height": 740}, "is_mobile": True}], indirect=True)
def test_on_a_phone_nothing_is_wider_than_the_screen(tab: Any, tmp_path: Path) -> None:
    shown(tab, tmp_path)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    assert tab.noted == []


@in_browser
def test_every_control_has_a_name_for_a_screen_reader(tab: Any, tmp_path: Path) -> None:
    shown(tab, tmp_path)
    named = "!(one.labels?.length || one.textContent.trim() || one.ariaLabel)"
    nameless = f"[...document.querySelectorAll('select, input, button')].filter((one) => {named}).length"
    assert tab.evaluate(nameless) == 0
    assert tab.evaluate(
        "[...document.querySelectorAll('#scatter .point')].every((one) => one.getAttribute('aria-label'))"
    )
    assert tab.evaluate("document.documentElement.lang") == "en"
