"""Report: what the page holds, that names cannot break it, that films run in step in a browser."""

import json
import os
import re
import shutil
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from fixtalk.media import write_video
from fixtalk.sheet import write_picture
from metrics import Protocol
from pipelines.files import read_table, write_table
from pipelines.forest import LEFT, RIGHT, Estimate, forest
from pipelines.gallery import write_gallery
from tests.scored_systems import CLIPS, spread, write_system

FRAMES = 50
PEOPLE = 12  # enough to tell systems apart
HOSTILE = """</script><script>alert(1)</script>.mp4"'&"""
SHADES = 4  # of grey between a frame and the next: a screenshot tells which one is shown


def scored(root, name, psnr, **facts):
    """A scored folder with a film of every pair; the generated tile of frame k has shade k."""
    values = {"psnr": spread(psnr, people=PEOPLE), "ssim": spread(psnr / 40, 1, PEOPLE)}
    folder = write_system(root / f"folder {psnr}", values, name=name, frames=FRAMES, **facts)
    shades = [[60, 90, 20 + SHADES * frame, 120] for frame in range(FRAMES)]
    strips = np.repeat(shades, 32, axis=1).astype(np.uint8)[:, None, :, None]
    first, *others = (folder / "preview/self" / f"{n}.mp4" for n in range(CLIPS * PEOPLE))
    write_video(first, np.broadcast_to(strips, (FRAMES, 32, 128, 3)))
    for film in others:
        shutil.copyfile(first, film)
    return folder


class Page(HTMLParser):
    """Tags of a page with their attributes, its text, and the data of its script."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.inside = [], {}, ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.data = json.loads(self.text["data"])

    def handle_starttag(self, tag, attrs):
        """Keep the tag, and where the text that follows stands."""
        self.tags.append((tag, dict(attrs)))
        self.inside = dict(attrs).get("id") or tag

    def handle_data(self, data):
        """Add text to that of its id or tag."""
        self.text[self.inside] = self.text.get(self.inside, "") + data

    def all(self, tag):
        """Attributes of every tag of a name."""
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A page of a system and a better one, with pictures beside it."""
    root = tmp_path_factory.mktemp("gallery")
    write_picture(root / "contact_sheet.png", np.zeros((8, 8, 3), np.uint8))
    write_picture(root / "localise.png", np.zeros((8, 8, 3), np.uint8))
    facts = {"chosen": 32, "separable": False, "people": 8}
    (root / "localise.json").write_text(json.dumps(facts))
    folders = [scored(root, "edtalk", 24.0), scored(root, "fixtalk", 26.0)]
    return write_gallery(folders, root / "report", "A report")


def test_page_has_every_part_and_says_it_to_those_who_do_not_see(two):
    page = Page(two)

    assert page.all("html") == [{"lang": "en"}]
    assert {"header", "nav", "main", "form"} <= {tag for tag, _ in page.tags}
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    targets = {link["href"].removeprefix("#") for link in page.all("a")}
    assert targets <= ids
    assert {
        "numbers",
        "intervals",
        "watch",
        "clips",
        "slices",
        "published",
        "provenance",
    } <= targets
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(picture["alt"] for picture in page.all("img"))
    assert "the leak map is the one of 32 pixels a side, not separable" in page.source
    assert all(drawing["role"] in ("img", "group") for drawing in page.all("svg"))
    assert "psnr ↑ (dB), difference from edtalk: fixtalk +2.00 [" in page.source
    assert re.search(r"difference from edtalk: fixtalk \+2.00 \[[^\"]*\] better", page.source)
    assert page.text["title"].strip() == "A report"


def test_page_needs_nothing_but_its_folder(two):
    page = Page(two)

    films = [film for one in page.data.values() for of in one["films"].values()
             for film in of.values()]  # fmt: skip
    files = [*films, *(picture["src"] for picture in page.all("img"))]

    assert len(films) == 2 * CLIPS * PEOPLE
    assert all((two.parent / name).is_file() for name in files)
    assert "http" not in page.source
    assert not page.all("link")[1:]
    assert not any("src" in script for script in page.all("script"))


def test_names_are_data_and_never_markup(tmp_path):
    folder = scored(tmp_path, HOSTILE, 24.0)
    rows, facts = read_table(folder / "scores.parquet")
    rows["pair"] = rows["pair"].replace("0", HOSTILE)
    rows = rows.astype(object).where(rows.notna(), None).to_dict("records")
    write_table(folder / "scores.parquet", rows, facts)

    page = Page(write_gallery([folder, scored(tmp_path, "b", 26.0)], tmp_path / "out", HOSTILE))

    (contest,) = page.data.values()
    assert HOSTILE in [one["pair"] for one in contest["pairs"]]
    assert contest["systems"] == [HOSTILE, "b"]
    assert len(page.all("script")) == 2
    assert page.source.count("alert(1)") == page.source.count(
        "alert(1)\\u003c"
    ) + page.source.count("alert(1)&lt;")


def test_films_and_metrics_may_be_absent_and_infinite_values_stay_out(tmp_path):
    other = write_system(
        tmp_path / "other",
        {"psnr": [np.inf, *spread(25.0, people=PEOPLE)[1:]]},
        name="other",
        frames=FRAMES,
    )

    page = Page(write_gallery([scored(tmp_path, "a", 24.0), other], tmp_path / "out", "t"))

    (contest,) = page.data.values()
    assert contest["films"]["other"] == {}
    psnr, ssim = (one["values"] for one in contest["metrics"])
    assert len(psnr["other"]) == CLIPS * PEOPLE - 1
    assert set(ssim) == {"a"}
    assert "These clips carry no labels to slice by" in page.source
    assert not page.all("img")


def test_numbers_of_different_protocols_stand_apart(tmp_path):
    other = Protocol(name="self", resolution="8x8", codec="h264", detector="none", inputs="0")
    folders = [scored(tmp_path, "a", 24.0), scored(tmp_path, "b", 26.0, protocol=other)]

    page = Page(write_gallery(folders, tmp_path / "out", "t"))

    assert [one["systems"] for one in page.data.values()] == [["a"], ["b"]]
    assert len({one["label"] for one in page.data.values()}) == 2
    assert "difference from" not in page.source


def test_slices_are_shown(tmp_path):
    folder = scored(tmp_path, "a", 24.0)
    means = json.loads((folder / "metrics.json").read_text())
    of_slice = {"pairs": 3, "people": 2, "psnr": 21.5, "psnr_low": 20.5, "psnr_high": 22.5}
    means["self"]["slices"] = {"yaw": {"above 30°": of_slice}}
    (folder / "metrics.json").write_text(json.dumps(means))

    page = Page(write_gallery([folder], tmp_path / "out", "t"))

    assert "above 30° <small>3 pairs, 2 people</small>" in page.source
    assert "<td>21.50<small>[20.50, 22.50]</small></td>" in page.source


def test_old_page_stays_until_the_new_one_is_complete(tmp_path):
    folder = scored(tmp_path, "a", 24.0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    (tmp_path / "empty").mkdir()

    with pytest.raises(FileNotFoundError, match=r"empty/metrics\.json"):
        write_gallery([folder, tmp_path / "empty"], tmp_path / "out", "t")
    with pytest.raises(ValueError, match=r"of c too, got \['a'\]"):
        write_gallery([folder], tmp_path / "out", "t", against="c")
    assert (tmp_path / "out" / "old").exists()

    write_gallery([folder], tmp_path / "out", "t")

    assert {path.name for path in (tmp_path / "out").iterdir()} == {"index.html", "videos"}
    assert not list(tmp_path.glob(".out*"))


def test_marks_of_a_forest_stand_in_proportion():
    drawn = forest([Estimate("a", 1.0, 0.0, 2.0, "1"), Estimate("b", 2.0, None, None, "2")], 1.0)

    first, second = drawn["lines"]
    assert LEFT < first["low"] < first["x"] < first["high"] == second["x"] < RIGHT
    assert first["x"] - first["low"] == pytest.approx(first["high"] - first["x"], abs=0.02)
    assert drawn["reference"] == first["x"]
    assert second["low"] is None
    assert drawn["words"] == "a 1; b 2"
    assert forest([Estimate("a", 0.0, None, None, "0")], None)["lines"][0]["x"] < RIGHT


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = os.environ.get("FIXTALK_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium on PATH: install one or set FIXTALK_CHROMIUM")
    with api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(params=[1400, 390])
def opened(two, browser, request):
    """The page in a window, with all that it complains about."""
    page = browser.new_page(viewport={"width": request.param, "height": 844})
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("requestfailed", lambda request: page.complaints.append(request.url))
    page.goto(two.as_uri())
    page.wait_for_selector("#view-b[data-frame='0']")
    yield page
    assert page.complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= request.param
    page.close()


def seen(page):
    """Frames that the views of A and B show, read from the pixels of one screenshot."""
    page.locator(".views").scroll_into_view_if_needed()
    picture = np.asarray(Image.open(BytesIO(page.screenshot())).convert("L"), dtype=float)
    shown = []
    for side in "ab":
        box = page.locator(f"#view-{side}").bounding_box()
        x, y = round(box["x"] + box["width"] / 2), round(box["y"] + box["height"] / 2)
        shown.append((picture[y - 8 : y + 8, x - 8 : x + 8].mean() - 20) / SHADES)
    return shown


@pytest.mark.slow
def test_films_keep_within_a_frame_while_they_play(opened):
    opened.click("#play")
    opened.wait_for_function("document.getElementById('film-a').currentTime > 0.1")
    heads, drawn = opened.evaluate(
        """async () => {
          const of = (name) => ["a", "b"].map((side) => document.getElementById(`${name}-${side}`));
          const [[a, b], views, heads, drawn] = [of("film"), of("view"), [], []];
          for (let n = 0; n < 240; n += 1) { // more than the film: over its end and from its start
            await new Promise(requestAnimationFrame);
            drawn.push(views.map((view) => Number(view.dataset.frame)));
            if (!a.paused && !a.seeking && !b.seeking) heads.push(a.currentTime - b.currentTime);
          }
          return [heads, drawn];
        }"""
    )
    screens = [seen(opened) for _ in range(6)]

    assert len(heads) > 100
    assert np.percentile(np.abs(heads), 90) * 25 <= 1
    assert max(abs(a - b) for a, b in drawn) <= 1  # also while the play heads come together
    assert max(abs(a - b) for a, b in screens) <= 1.25  # a frame, and what the codec blurs
    assert len({a for a, _ in drawn}) > FRAMES / 2
    assert len({round(a) for a, _ in screens}) > 1


@pytest.mark.slow
def test_seeks_and_keys_show_the_same_frame_on_both_sides(opened):
    for frame in (31, 7, 8, FRAMES - 1, 0):
        opened.locator("#seek").evaluate(
            "(seek, to) => { seek.value = to; seek.dispatchEvent(new Event('input')); }", frame
        )
        opened.wait_for_selector(f"#view-a[data-frame='{frame}']")
        assert seen(opened) == pytest.approx([frame, frame], abs=0.4)
    opened.focus("#play")
    for key, frame in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", FRAMES - 1)):
        opened.keyboard.press(key)
        opened.wait_for_selector(f"#view-b[data-frame='{frame}']")
        assert seen(opened) == pytest.approx([frame, frame], abs=0.4)


@pytest.mark.slow
def test_keyboard_sorts_tables_and_chooses_clips(opened):
    table = opened.locator("table.sortable").first
    table.locator("thead button").nth(1).focus()
    for order in ("fixtalk", "edtalk"):  # highest psnr first, then lowest
        opened.keyboard.press("Enter")
        assert table.locator("tbody th").first.inner_text() == order
    opened.locator("#worst button:enabled").first.focus()
    opened.keyboard.press("Enter")
    chosen = opened.input_value("#pair")
    assert opened.locator("#worst tr[aria-current] button").inner_text() == chosen
    assert opened.evaluate("document.activeElement.id") == "play"
    opened.locator("#scatter circle[tabindex='0']").focus()
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("Enter")
    name = opened.evaluate("document.querySelector('#scatter [aria-current]').dataset.pair")
    assert opened.input_value("#pair") == name
