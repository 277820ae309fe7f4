"""The page needs nothing but itself, and lets nothing run but its own two scripts."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from agentflow_verl.cli.view import write
from agentflow_verl.view import html
from tests.view.logs import RUN


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "view.html"
    write([RUN], None, path)
    return path.read_text(encoding="utf-8")


def sources(page, tag):
    return re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)


def test_only_these_scripts_and_this_style_may_run(page):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page).group(1)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'none'"
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        digests = [
            base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            for text in sources(page, tag)
        ]
        assert rules[kind].split() == [f"'sha256-{digest}'" for digest in digests]
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_nothing_is_loaded_from_elsewhere(page):
    assert not re.findall(r'(?:src|href)="(?!data:,)[^"]*"', page)
    assert "@import" not in page
    assert "url(" not in html.style_text()


def test_the_charting_library_comes_with_its_licence(page):
    assert "Copyright (c) 2022 Leon Sorokin" in sources(page, "script")[0]


def test_no_file_of_ours_makes_markup_from_text():
    for name in html.MODULES:
        assert not re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new"
            r" Function|DOMParser",
            html.text_of(f"{name}.js"),
        ), name


def test_a_title_cannot_become_markup():
    assert "<title>&lt;img src=x&gt;</title>" in "".join(html.page("<img src=x>", None))


def test_all_modules_are_joined_after_what_they_import():
    names = {path.stem for path in html.PAGE.glob("*.js")}
    assert set(html.MODULES) == names
    for position, name in enumerate(html.MODULES):
        imported = [module for _, module in html.IMPORT.findall(html.text_of(f"{name}.js"))]
        assert html.text_of(f"{name}.js").count("import ") == len(imported)
        assert set(imported) <= set(html.MODULES[:position])
