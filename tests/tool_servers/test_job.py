"""What is kept of a job's output."""

from __future__ import annotations

from tool_servers.python_coder.job import Output


def test_output_keeps_both_ends_and_says_what_is_gone() -> None:
    output = Output(shown=40)
    for number in range(100):
        output.add(f"{number:03d} ".encode())
    assert output.text() == "000 001 00\n[... 360 bytes left out ...]\n2 093 094 095 096 097 098 099 "
    assert output.total == 400
