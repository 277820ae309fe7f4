"""A browser for all tests, and the page of the recorded quickstart run beside its control."""

from __future__ import annotations

import pytest

from agentflow_verl.cli.view import write
from tests.view.browser import Page, chromium
from tests.view.logs import CONTROL, RUN, tokenizer


@pytest.fixture(scope="session")
def driver():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("view")
    path = folder / "view.html"
    write([RUN, CONTROL], tokenizer(folder / "tokenizer.json"), path)
    return path


@pytest.fixture
def page(driver, file):
    """The run's page, opened afresh. Nothing may be wrong in the console when the test is done with
    it.
    """
    opened = Page(driver)
    opened.open(file)
    yield opened
    assert opened.complaints() == []
