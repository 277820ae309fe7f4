"""Sandboxes with one thing taken away each: the self-test and the attacks must notice every one."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from tool_servers.python_coder import inside
from tool_servers.python_coder.sandbox import bubblewrap

INSIDE = Path(inside.__path__[0])


@dataclass(frozen=True)
class Weakening:
    """``edits`` are made to what runs inside, each (file, old text, new text)."""

    name: str
    edits: tuple[tuple[str, str, str], ...] = ()
    without: tuple[str, ...] = ()
    """Arguments of bubblewrap to leave out."""
    mounts: tuple[str, ...] = ()
    """Further ones; ``FOLDER`` stands for a folder of the host that all may write to."""
    probe: str = ""
    """What the self-test calls it."""
    attacks: tuple[str, ...] = ()
    """Those of the corpus that must end otherwise than expected."""
    as_root: bool | None = None
    """The kind of user to whom it matters, None for both."""

    def box(self, folder: Path) -> bubblewrap.Bubblewrap:
        """The surroundings that it leaves; ``folder`` is an empty one to work in."""
        inside, writable = folder / "inside", folder / "writable"
        shutil.copytree(INSIDE, inside, ignore=shutil.ignore_patterns("__pycache__"))
        for place in (folder, *folder.parents[:2]):
            place.chmod(0o755)
        writable.mkdir()
        writable.chmod(0o777)
        for name, old, new in self.edits:
            text = (inside / name).read_text()
            assert old in text, f"{name} has no {old!r} any more"
            (inside / name).write_text(text.replace(old, new))
        box = bubblewrap.find(inside=inside)
        assert set(self.without) <= set(box.arguments)
        return replace(
            box,
            arguments=tuple(word for word in box.arguments if word not in self.without),
            mounts=(*box.mounts, *(word.replace("FOLDER", str(writable)) for word in self.mounts)),
        )


def limit(name: str, value: str) -> tuple[str, str, str]:
    return "launcher.py", f"        (resource.{name}, {value}),\n", ""


UNSHARED = ("kernel.py", "SURROUNDINGS = CLONE_NEWNS | CLONE_NEWNET", "SURROUNDINGS = CLONE_NEWNS")
PRIVATE = ("starter.py", 'for place in (b"/tmp", b"/dev/shm"):', "for place in ():")

ALL = [
    Weakening(
        "no network namespace",
        (UNSHARED,),
        without=("--unshare-net",),
        probe="network",
        attacks=("TCP to a port of the machine", "abstract Unix socket"),
    ),
    Weakening(
        "one network namespace for all jobs",
        (UNSHARED,),
        probe="jobs apart",
        attacks=("another job's socket",),
    ),
    Weakening(
        "no limit of processes",
        (limit("RLIMIT_NPROC", 'request["processes"]'),),
        probe="number of processes",
        attacks=("process flood",),
    ),
    Weakening(
        "no limit of address space",
        (limit("RLIMIT_AS", 'mapped + request["memory"]'),),
        probe="memory of a process",
        attacks=("memory reserved",),
    ),
    Weakening(
        "memory not watched",
        (("watcher.py", "if now >= exact_after and", "if False and"),),
        probe="memory of the job",
        attacks=("memory bomb, split",),
    ),
    Weakening(
        "no limit of files",
        (("starter.py", ",nr_inodes={request['files']}", ""),),
        probe="number of files",
    ),
    Weakening(
        "no size of /tmp",
        (("starter.py", "size={request['disk']},", ""),),
        probe="disk",
        attacks=("disk fill",),
    ),
    Weakening(
        "/tmp shared by all jobs",
        (PRIVATE,),
        mounts=("--bind", "FOLDER", "/tmp", "--bind", "FOLDER", "/dev/shm"),
        probe="jobs apart",
        attacks=("files of another job",),
    ),
    Weakening(
        "no system call filter",
        (("zygote.py", "        kernel.filter_calls(steps)\n", ""),),
        probe="identity",
        attacks=("memory in files without a name", "leave the session"),
    ),
    Weakening(
        "one process namespace for all jobs",
        (("starter.py", '            kernel.call("unshare", kernel.CLONE_NEWPID)\n', ""),),
        probe="jobs apart",
        attacks=("environment of all processes",),
    ),
    Weakening(
        "descriptors left open",
        (("zygote.py", "        kernel.close_but(3, control, start)\n", ""),),
        probe="inherited descriptors",
        attacks=("inherited descriptors",),
    ),
    Weakening(
        "the host's /etc",
        mounts=("--ro-bind", "/etc", "/etc"),
        probe="secrets",
        attacks=("the host's users",),
        as_root=True,
    ),
    Weakening(
        "a folder of the host to write to",
        mounts=("--bind", "FOLDER", "/etc"),
        probe="read-only file system",
        attacks=("write to /etc",),
    ),
    Weakening(
        "jobs as the server's user",
        (("launcher.py", "        os.setresuid(uid, uid, uid)\n", ""),),
        probe="identity",
        attacks=("become root",),
        as_root=True,
    ),
    Weakening(
        "rights kept",
        (
            ("zygote.py", "        kernel.keep_capabilities(no_capabilities)\n", ""),
            ("zygote.py", "        kernel.filter_calls(steps)\n", ""),
        ),
        probe="identity",
        attacks=("mount",),
        as_root=False,
    ),
]
FITTING = [weakening for weakening in ALL if weakening.as_root in (None, os.geteuid() == 0)]
