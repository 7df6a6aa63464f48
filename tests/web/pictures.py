"""The pictures in docs/, from a running server with three levels of one model, the original first.

    pictures.py http://127.0.0.1:8080
"""
import pathlib
import shutil
import sys

from playwright.sync_api import sync_playwright

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PROMPT = "Why does bread rise?"


def chat(page):
    page.get_by_role("textbox", name="Your message").fill(PROMPT + " Answer in a short list.")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Regenerate").wait_for()
    page.keyboard.press("Tab")
    page.screenshot(path=DOCS / "chat.png")


def compare(page, name):
    page.get_by_role("link", name="Compare").click()
    page.locator(".settings:visible summary").click()
    page.get_by_label("Most tokens").locator("visible=true").fill("90")
    page.locator(".settings:visible summary").click()
    page.get_by_role("textbox", name="One prompt for all of them").fill(PROMPT)
    page.keyboard.press("Enter")
    page.locator(".columns:not(:has(.column[aria-busy=true]))").wait_for()
    page.locator(".column >> nth=2 >> text=%").wait_for()
    page.get_by_text("Disagreement").click()
    last = page.get_by_role("listbox").last
    last.focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.evaluate("y => scrollTo(0, y)", page.locator(".asked").bounding_box()["y"] + page.evaluate("scrollY") - 100 if name == "compare" else
                  last.bounding_box()["y"] + page.evaluate("scrollY") - 260)
    page.screenshot(path=DOCS / f"{name}.png")


def advise(page):
    page.get_by_role("link", name="Advise").click()
    page.get_by_role("button", name="Advise").click()
    page.locator(".verdict").wait_for()
    page.screenshot(path=DOCS / "advise.png")


def main():
    DOCS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])

        def visit(width, height, scheme):
            page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce").new_page()
            page.set_default_timeout(300000)
            page.goto(sys.argv[1])
            return page

        page = visit(1100, 720, "light")
        chat(page)
        compare(page, "compare")
        advise(page)
        compare(visit(360, 740, "dark"), "phone")
        browser.close()


if __name__ == "__main__":
    main()
