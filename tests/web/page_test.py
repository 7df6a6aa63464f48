"""The page of `nibble serve` in a real Chromium: chat, stop, compare, advise, a phone, the keyboard alone, axe-core.

    page_test.py PROGRAM [CASE...]
"""
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "cli"))
import checkpoint  # noqa: E402

AXE = HERE.parents[1] / "web/node_modules/axe-core/axe.min.js"
TEMPLATE = ("{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}")
CONTEXT = 8192  # so that an answer can take a while
PHONE = {"width": 360, "height": 740}


def make_levels(program, root):
    """Three levels of one small model, which never ends an answer by itself."""
    original = root / "original"
    original.mkdir()
    checkpoint.write(original, random.Random(3))
    settings = json.loads((original / "config.json").read_text())
    del settings["eos_token_id"]
    (original / "config.json").write_text(json.dumps({**settings, "max_position_embeddings": CONTEXT}))
    (original / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    for level in ("Q8_0", "Q4_0"):
        subprocess.run([program, "quantize", original, "-o", root / f"{level}.gguf", "--to", level, "--recipe", "rtn"], check=True,
                       capture_output=True)
    return [original, root / "Q8_0.gguf", root / "Q4_0.gguf"]


@contextlib.contextmanager
def serve(program, models, *options):
    command = [program, "serve", *models, "--port", "0", "--ctx", str(CONTEXT), "--parallel", "2", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Visit:
    """A page in a browser that has never been here, and what it did that it should not."""

    def __init__(self, browser, base, **settings):
        self.base, self.wrong = base, []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, "reduced_motion": "reduce", **settings})
        self.context.on("request", self.check_address)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda said: self.wrong.append(said.text) if "Security Policy" in said.text else None)
        self.page.set_default_timeout(20000)
        self.page.goto(base)

    def check_address(self, request):
        if not request.url.startswith((self.base + "/", "data:")):
            self.wrong.append(f"loads {request.url}")

    def __enter__(self):
        return self.page

    def __exit__(self, kind, *_):
        self.context.close()
        assert kind or not self.wrong, self.wrong


def axe(page):
    """No rule of axe-core is broken in what is shown now."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document).then(r => r.violations.map(v => [v.id, v.help, v.nodes.map(n => n.html.slice(0, 200))]))")
    assert not found, json.dumps(found, indent=1)


def fits(page):
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= page.viewport_size["width"], f"{wide} pixels wide"


def until(page, condition, argument=None):
    """Waits for an expression, or a function of the argument. (Playwright's own way evaluates text in the page, which its policy forbids.)"""
    end = time.monotonic() + 20
    while not page.evaluate(condition, argument):
        assert time.monotonic() < end, f"never true: {condition}"
        page.wait_for_timeout(20)


def composer(page):
    return page.get_by_role("textbox", name="Your message")


def set_number(page, label, value):
    """In the view that is shown."""
    page.locator(".settings:visible summary").click()
    page.get_by_label(label).locator("visible=true").fill(str(value))
    page.locator(".settings:visible summary").click()


def say(page, text):
    composer(page).fill(text)
    composer(page).press("Enter")


def wait_answered(page):
    page.get_by_role("button", name="Regenerate").wait_for()


def answer(page):
    return page.locator(".message.assistant .markdown").last.inner_text()


def idle(page):
    """No sequence is active on the server."""
    until(page, "fetch('nibble/status').then(r => r.json()).then(s => s.models.every(m => !m.active && !m.waiting))")


def chat(browser, base):
    with Visit(browser, base, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.get_by_text("Ask something.").wait_for()
        axe(page)
        set_number(page, "Most tokens", 300)
        composer(page).fill("one")
        composer(page).press("Shift+Enter")
        composer(page).press_sequentially("two")
        composer(page).press("Enter")
        assert page.locator(".own").inner_text() == "one\ntwo"
        wait_answered(page)
        note = page.locator(".message footer .note").inner_text()
        assert re.match(r"original · 300 tokens · [\d.]+ tokens/s · first after [\d.]+ m?s · cut at the limit of tokens$", note), note
        assert page.locator(".visually-hidden[role=status]").inner_text().startswith("Answer: ")
        first = answer(page)
        page.get_by_role("button", name="Copy answer").click()
        page.get_by_text("Copied", exact=True).first.wait_for()
        assert page.evaluate("navigator.clipboard.readText()").strip() != ""
        page.get_by_role("button", name="Regenerate").click()
        until(page, "old => document.querySelector('.message.assistant .markdown').innerText !== old", first)
        wait_answered(page)
        axe(page)
        page.reload()
        wait_answered(page)
        assert page.locator(".own").inner_text() == "one\ntwo"
        page.get_by_role("button", name="Clear").click()
        assert page.locator(".message").count() == 0
        page.reload()
        page.get_by_text("Ask something.").wait_for()


def settings(browser, base):
    """What is set is what is asked."""
    with Visit(browser, base) as page:
        page.locator(".settings:visible summary").click()
        page.get_by_label("System prompt").locator("visible=true").fill("be brief")
        for label, value in (("Temperature", 0), ("Top p", 0.5), ("Most tokens", 7)):
            page.get_by_label(label).locator("visible=true").fill(str(value))
        page.get_by_label("Temperature").locator("visible=true").fill("99")  # out of bounds: not taken
        page.get_by_label("Model").locator("visible=true").select_option("Q8_0")
        axe(page)
        with page.expect_request("**/v1/chat/completions") as asked:
            say(page, "hello")
        body = json.loads(asked.value.post_data)
        assert body["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}], body
        assert (body["temperature"], body["top_p"], body["max_tokens"], body["model"]) == (0, 0.5, 7, "Q8_0"), body
        wait_answered(page)


def stop(browser, base):
    """By the button and by Escape: what is there stays, and the server stops too."""
    for by_key in (False, True):
        with Visit(browser, base) as page:
            set_number(page, "Most tokens", 8000)
            say(page, "go on")
            until(page, "document.querySelector('.message.assistant .markdown')?.innerText.length > 20")
            some = len(answer(page))
            until(page, "n => document.querySelector('.message.assistant .markdown').innerText.length > n", some)
            if by_key:
                page.keyboard.press("Escape")
            else:
                page.get_by_role("button", name="Stop").click()
                assert composer(page).evaluate("e => e === document.activeElement")
            wait_answered(page)
            assert page.locator(".message footer .note").inner_text() == "original · stopped"
            assert some < len(answer(page)) < 7900
            idle(page)
            page.get_by_role("button", name="Send").wait_for()


HOSTILE = """# Title <script>window.hacked = 1</script>
<img src=x onerror="window.hacked = 1"> [click](javascript:window.hacked=1) ![i](https://example.com/x.png)
[fine](https://example.com/a_(b)) **bold *both*** `a < b` ~~gone~~ https://example.com/bare.

- one
  1. inner
- two

> quoted

| a | b |
|---|---|
| 1 | `x` |

```html
<script>window.hacked = 1</script>
```
"""


def answered_with(page, text):
    """The server's answer, for this page, will be `text`."""
    chunks = [{"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]},
              {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": {"completion_tokens": 2}}]
    body = "".join(f"data: {json.dumps(c)}\n\n" for c in chunks) + "data: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(status=200, content_type="text/event-stream", body=body))


def markdown(browser, base):
    with Visit(browser, base) as page:
        answered_with(page, HOSTILE)
        say(page, "x")
        wait_answered(page)
        shown = page.locator(".markdown")
        assert page.evaluate("window.hacked") is None
        assert shown.locator("script, img, iframe").count() == 0
        assert [a.get_attribute("href") for a in shown.locator("a").all()] == [
            "https://example.com/x.png", "https://example.com/a_(b)", "https://example.com/bare"]
        assert "<script>" in shown.locator("h3").inner_text() and "<script>" in shown.locator("pre").inner_text()
        assert shown.locator("strong em").inner_text() == "both" and shown.locator("s").inner_text() == "gone"
        assert shown.locator("ul > li").count() == 2 and shown.locator("ul ol li").inner_text() == "inner"
        assert shown.locator("td").all_inner_texts() == ["1", "x"] and shown.locator("blockquote").inner_text() == "quoted"
        axe(page)
        # Text that could cost a careless renderer seconds.
        page.unroute("**/v1/chat/completions")
        for text in ("`" * 20000, "*" * 20000, "[" * 20000, "**a " * 5000, "> " * 5000, "|" * 20000, "- " * 5000, "_a" * 10000):
            answered_with(page, text)
            say(page, "x")
            wait_answered(page)
            page.unroute("**/v1/chat/completions")


def compare(browser, base):
    with Visit(browser, base) as page:
        page.get_by_role("link", name="Compare").click()
        assert page.get_by_role("heading", name="Compare").evaluate("e => e === document.activeElement")
        set_number(page, "Most tokens", 90)
        page.get_by_role("textbox", name="One prompt for all of them").fill("the model")
        with page.expect_request("**/nibble/compare") as asked:
            page.get_by_role("button", name="Compare").click()
        until(page, "document.querySelectorAll('.column[aria-busy=false]').length === 3")
        columns = page.locator(".column")
        assert [h.split()[0] for h in columns.locator("h3").all_inner_texts()] == ["original", "Q8_0", "Q4_0"]
        assert columns.nth(0).locator(".badge").inner_text() == "original"
        summary = json.loads(page.request.post(f"{base}/nibble/compare", data=asked.value.post_data).text().splitlines()[-1])
        figures = [dict(zip(c.locator("dt").all_inner_texts(), c.locator("dd").all_inner_texts())) for c in columns.all()]
        assert figures[0]["KL divergence"] == "–" and all("tokens/s" in f["Speed"] for f in figures), figures
        assert float(figures[1]["KL divergence"]) == float(f"{summary['kld_mean']:.4f}"), (figures, summary)
        assert 0 < float(figures[1]["KL divergence"]) < float(figures[2]["KL divergence"]), figures
        # What differs is marked: together with what does not it is the answer.
        texts = [c.locator(".plain-text, .markdown").inner_text() for c in columns.all()]
        assert columns.nth(2).locator("ins").count() > 0 and columns.nth(0).locator("ins").count() == 0
        assert texts[0] != texts[2]
        axe(page)
        page.get_by_text("Disagreement").click()
        tokens = page.get_by_role("listbox").nth(1)
        assert tokens.get_by_role("option").count() == 90
        question = {**json.loads(asked.value.post_data), "model": "Q4_0", "text": tokens.text_content()}
        told = json.loads(page.request.post(f"{base}/nibble/compare", data={**question, "stream": False}).text())["tokens"]
        expected = ["k" + str(sum(token["kld"] >= least for least in (0.02, 0.1, 0.5, 2))) for token in told]
        shown = tokens.get_by_role("option").evaluate_all("all => all.map(e => e.classList[0])")
        assert shown == expected, (shown, expected)
        tokens.focus()
        for key in ("End", "ArrowLeft", "Home", "ArrowRight"):
            page.keyboard.press(key)
        chosen = tokens.locator("[aria-selected=true]")
        assert tokens.get_attribute("aria-activedescendant") == chosen.get_attribute("id") == tokens.locator("span").nth(1).get_attribute("id")
        detail = columns.nth(2).locator(".detail")
        assert re.search(r"KL divergence [\d.]+\. Probability [\d.]+\s% here, [\d.]+\s% in the original", detail.inner_text()), detail.inner_text()
        page.keyboard.press("ArrowDown")
        assert "First choice here" in detail.inner_text()
        axe(page)
        # Another original, two levels, at once, and stopped.
        page.get_by_label("Original", exact=True).select_option("Q8_0")
        page.get_by_role("checkbox", name="original").uncheck()
        page.locator(".settings:visible summary").click()
        page.get_by_label("All at once").check()
        page.get_by_label("Most tokens").locator("visible=true").fill("8000")
        page.get_by_role("button", name="Compare").click()
        until(page, "[...document.querySelectorAll('.column')].filter(c => c.innerText.includes('Writing')).length === 2")
        assert columns.nth(0).locator(".badge").inner_text() == "original" and columns.count() == 2
        page.keyboard.press("Escape")
        until(page, "document.querySelectorAll('.column[aria-busy=false]').length === 2")
        assert all("Stopped" in c.inner_text() for c in columns.all())
        idle(page)


def shades(browser, base):
    """Every step of divergence has a shade of its own; another first choice is underlined."""
    klds = (0.001, 0.03, 0.3, 1, 3)
    told = {"tokens": [{"text": f" {i}", "logprob": -1, "reference_logprob": -2, "kld": kld, "top": "a", "reference_top": "a" if i else "\n"}
                       for i, kld in enumerate(klds)], "kld_mean": 0.866, "same_top": 0.8}
    for scheme in ("light", "dark"):
        with Visit(browser, base, color_scheme=scheme) as page:
            page.route("**/nibble/compare", lambda route: route.fulfill(status=200, body=json.dumps(told) + "\n"))
            page.get_by_role("link", name="Compare").click()
            set_number(page, "Most tokens", 5)
            page.get_by_role("textbox", name="One prompt for all of them").fill("the")
            page.keyboard.press("Enter")
            until(page, "document.querySelectorAll('.column[aria-busy=false]').length === 3")
            page.get_by_text("Disagreement").click()
            look = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).textDecorationLine]"
            looks = [token.evaluate(look) for token in page.get_by_role("listbox").last.get_by_role("option").all()]
            assert len({background for background, _ in looks}) == len(klds), looks
            assert [line for _, line in looks] == ["underline"] + ["none"] * 4, looks
            page.get_by_role("listbox").last.focus()
            assert "in the original “⏎”" in page.locator(".detail").last.inner_text()
            axe(page)


def advise(browser, base):
    with Visit(browser, base) as page:
        page.get_by_role("link", name="Advise").click()
        page.get_by_label("For", exact=True).select_option("code")
        page.get_by_label("Context, tokens").fill("500")
        with page.expect_request("**/nibble/advise") as asked:
            page.get_by_role("button", name="Advise").click()
        assert json.loads(asked.value.post_data) == {"model": "original", "for": "code", "context": 500, "memory_bytes": 0}
        page.locator(".verdict").wait_for()
        best = page.locator("tr.recommended th").inner_text().split()[0]
        assert page.locator(".verdict strong").inner_text() == best and "500 tokens" in page.locator(".verdict").inner_text()
        rows = page.locator(".advise tbody tr")
        assert rows.count() > 10 and rows.filter(has_text="Q4_K_M").count() == 1
        assert all(re.match(r"[\d.]+$", cell) for cell in rows.locator("td:nth-of-type(6)").all_inner_texts())
        axe(page)
        page.get_by_label("Memory, GB").fill("0.5")
        page.get_by_label("Memory, GB").press("Enter")
        page.locator(".waiting").wait_for()
        page.locator(".verdict").wait_for()


def server(browser, base):
    """Live figures follow the work."""
    with Visit(browser, base) as page:
        set_number(page, "Most tokens", 8000)
        say(page, "go on")
        until(page, "parseFloat(document.querySelector('.live .rate').innerText) > 0")
        page.get_by_role("link", name="Server").click()
        assert page.locator(".card", has_text="original").first.inner_text()
        until(page, "/Active, waiting\\s+1, 0/.test(document.querySelector('.server').innerText)")
        assert re.search(r"Memory\s+[\d.]+ [MG]B", page.locator(".server").inner_text())
        axe(page)
        page.get_by_role("link", name="Chat").click()
        page.get_by_role("button", name="Stop").click()


def phone(browser, base):
    with Visit(browser, base, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        answered_with(page, HOSTILE + "\n" + "long" * 200 + "\n\n| " + " | ".join("column" * 2 for _ in range(9)) + " |\n|" + "---|" * 9 + "\n")
        say(page, "word" * 100)
        wait_answered(page)
        for view in ("Chat", "Compare", "Advise", "Server"):
            page.get_by_role("link", name=view, exact=True).click()
            page.get_by_role("heading", name=view, level=2).wait_for()
            if view == "Compare":
                set_number(page, "Most tokens", 60)
                page.get_by_role("textbox", name="One prompt for all of them").fill("the")
                page.get_by_role("button", name="Compare").click()
                until(page, "document.querySelectorAll('.column[aria-busy=false]').length === 3")
                page.get_by_text("Disagreement").click()
            fits(page)
            axe(page)


def keyboard(browser, base):
    """Everything by Tab, Enter, the arrows and Escape."""
    with Visit(browser, base) as page:
        composer(page).wait_for()

        def tab_to(name, limit=40):
            for _ in range(limit):
                page.keyboard.press("Tab")
                found = page.evaluate("(() => { const e = document.activeElement; return e.ariaLabel || e.labels?.[0]?.innerText || e.innerText; })()")
                if (found or "").strip().startswith(name):
                    ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement.closest('.composer') ?? document.body).boxShadow")
                    assert ring != "nonenone", f"nothing shows that {name} has the focus"
                    return
            raise AssertionError(f"Tab does not reach {name}")

        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.innerText").startswith("Skip")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.tagName") == "H2"
        tab_to("Settings")
        page.keyboard.press("Enter")
        tab_to("Most tokens")
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.type("40")
        tab_to("Your message")
        page.keyboard.type("hello")
        page.keyboard.press("Enter")
        wait_answered(page)
        assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
        page.keyboard.press("ControlOrMeta+Home")
        page.evaluate("document.activeElement.blur()")
        page.evaluate("getSelection().collapse(document.body, 0)")
        tab_to("Compare")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.innerText") == "Compare"
        tab_to("Q4_0")
        page.keyboard.press("Space")
        tab_to("Settings")
        page.keyboard.press("Enter")
        tab_to("Most tokens")
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.type("40")
        tab_to("One prompt")
        page.keyboard.type("the")
        page.keyboard.press("Enter")
        until(page, "document.querySelectorAll('.column[aria-busy=false]').length === 2")
        tab_to("Differences")
        page.keyboard.press("ArrowRight")
        tab_to("Tokens of Q8_0")
        page.keyboard.press("ArrowRight")
        assert page.locator("[aria-selected=true]").count() == 1


def colours(browser, base):
    """As the system says until the button is pressed; then as chosen, also after a reload."""
    dark = "matchMedia('(prefers-color-scheme: dark)').matches"
    background = "getComputedStyle(document.body).backgroundColor"
    seen = {}
    for scheme in ("light", "dark"):
        with Visit(browser, base, color_scheme=scheme) as page:
            composer(page).wait_for()
            assert page.evaluate(dark) == (scheme == "dark")
            seen[scheme] = page.evaluate(background)
            for view in ("Chat", "Compare", "Advise", "Server"):
                page.get_by_role("link", name=view, exact=True).click()
                axe(page)
    assert seen["light"] != seen["dark"]
    with Visit(browser, base, color_scheme="light") as page:
        page.get_by_role("button", name="Colours: As the system").click()
        page.get_by_role("button", name="Colours: Dark").wait_for()
        assert page.evaluate(background) == seen["dark"]
        page.reload()
        page.get_by_role("button", name="Colours: Dark").wait_for()
        assert page.evaluate(background) == seen["dark"]


def troubles(browser, base):
    """Errors in plain words, and the way on."""
    with Visit(browser, base) as page:
        refusal = json.dumps({"error": {"message": "too many requests wait already; try again later"}})
        page.route("**/v1/chat/completions", lambda route: route.fulfill(status=503, content_type="application/json", body=refusal))
        say(page, "hello")
        assert "too many requests are waiting" in page.get_by_role("alert").inner_text()
        axe(page)
        page.unroute("**/v1/chat/completions")
        page.get_by_role("button", name="Try again").click()
        wait_answered(page)
        assert page.get_by_role("alert").count() == 0
        page.route("**/v1/chat/completions", lambda route: route.abort())
        say(page, "hello")
        assert "cannot be reached" in page.get_by_role("alert").inner_text()


def key(browser, base):
    """The page comes without the key, its figures and answers with it; the key stays in the tab."""
    with Visit(browser, base) as page:
        field = page.get_by_label("Key", exact=True)
        field.wait_for()
        axe(page)
        field.fill("wrong")
        field.press("Enter")
        page.get_by_text("did not accept").wait_for()
        field.fill("secret")
        field.press("Enter")
        set_number(page, "Most tokens", 20)
        say(page, "hello")
        wait_answered(page)
        assert "secret" in page.evaluate("JSON.stringify(sessionStorage)") and "secret" not in page.evaluate("JSON.stringify(localStorage)")
        page.reload()
        wait_answered(page)


CASES = (chat, settings, stop, markdown, compare, shades, advise, server, phone, keyboard, colours, troubles)


def main():
    program, wanted = sys.argv[1], sys.argv[2:]
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if not chromium or not AXE.exists():
        print("SKIP: no chromium, no playwright, or no web/node_modules (make test installs them)")
        return 1 if os.environ.get("NIBBLE_NO_SKIP") else 77
    with tempfile.TemporaryDirectory() as root, sync_playwright() as playwright:
        models = make_levels(program, pathlib.Path(root))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with serve(program, models) as base:
            for case in CASES:
                if not wanted or case.__name__ in wanted:
                    begin = time.monotonic()
                    case(browser, base)
                    print(f"ok {case.__name__}, {time.monotonic() - begin:.1f} s", flush=True)
        if not wanted or "key" in wanted:
            with serve(program, models[:1], "--api-key", "secret") as base:
                key(browser, base)
                print("ok key", flush=True)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
