"""Run a command and note the memory of its whole process tree: ``python watch.py --out DIR --
COMMAND``.

Writes ``memory.json`` with the peak in GB (proportional set size: a page that n processes share
counts once), over all times that the run was started. Ends the command's processes when it is ended
itself.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil

EVERY_S = 5.0  # a look at every page table of the run costs a tenth of a second


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    command = given.command[1:] if given.command[:1] == ["--"] else given.command

    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
    done = threading.Event()
    peak = [0.0]

    def sample() -> None:
        while not done.wait(EVERY_S):
            peak[0] = max(peak[0], tree_gb(process.pid))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        code = process.wait()
    except KeyboardInterrupt:
        code = process.wait()
    done.set()
    sampler.join()
    file = given.out / "memory.json"
    highest = {"peak_memory_gb": max(peak_before(file), round(peak[0], 2))}
    file.write_text(json.dumps(highest) + "\n")
    return code


def peak_before(file: Path) -> float:
    """Of the times that the run was started before; 0 where that was not written to its end."""
    try:
        return float(json.loads(file.read_text())["peak_memory_gb"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def tree_gb(pid: int) -> float:
    """Proportional set size of ``pid`` and everything below it, in GB."""
    total = 0
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in tree:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 1e9


if __name__ == "__main__":
    sys.exit(main())
