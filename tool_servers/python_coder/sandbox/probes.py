"""The programs of the self-test. They run inside the sandbox and import nothing but the standard
library.
"""

from __future__ import annotations

MEMORY_ONE = """
import mmap
try:
    # never touched, so that only the limit of a process can refuse it
    reserved = mmap.mmap(-1, 512 << 20)
except OSError:
    raise MemoryError
"""
MEMORY_SPLIT = """
import os, time
for _ in range(6):
    if os.fork() == 0:
        held = b"x" * (60 << 20)
        time.sleep(60)
        os._exit(0)
time.sleep(60)
"""
OUTPUT = "import os\nwhile True: os.write(1, b'x' * 65536)"
SLEEP = "import time; time.sleep(60)"

_ESCAPES = '''
import ctypes, errno, json, os, socket, sys

got = {}
libc = ctypes.CDLL(None, use_errno=True)

def attempt(name, action):
    """Record what the action returns: a description of what it could do, or nothing."""
    try:
        found = action()
    except OSError:
        return
    if found:
        got[name] = found

def denied(name, call, *arguments):
    """A call into the kernel must be refused as not permitted or not there."""
    ctypes.set_errno(0)
    result = getattr(libc, call)(*arguments)
    if result != -1 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
        reason = errno.errorcode.get(ctypes.get_errno(), "no error")
        got[name] = f"{call} was not refused ({reason})"

def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as link:
        link.settimeout(2)
        link.connect(address)
        return f"connected to {address!r}"

def interfaces():
    names = [name for _, name in socket.if_nameindex()]
    return f"network interfaces {names}" if set(names) - {"lo"} else None

def kernel_interfaces():
    names = [line.split(":")[0].strip() for line in open("/proc/self/net/dev").readlines()[2:]]
    return f"network interfaces {names}" if set(names) - {"lo"} else None

def read(path):
    with open(path, "rb") as file:
        return f"{path} is readable" if SECRET.encode() in file.read() else None

def other_processes():
    seen = [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) > 64]
    return f"process ids {seen[:5]} are visible" if seen else None

def signal_all():
    os.kill(SERVER, 0)
    return f"the server, process {SERVER}, can be signalled"

def write(path):
    with open(path, "w"):
        return f"{path} is writable"

def fill():
    total = 0
    for number in range(16):
        try:
            with open(f"/tmp/fill{number}", "wb") as file:
                for _ in range(64):
                    total += file.write(bytes(1 << 16))
        except OSError:
            pass
    for number in range(16):
        if os.path.exists(f"/tmp/fill{number}"):
            os.unlink(f"/tmp/fill{number}")
    return f"{total} bytes fit in /tmp" if total > DISK_BYTES else None

def fill_files():
    made = 0
    try:
        while made < 4 * FILES:
            open(f"/tmp/file{made}", "x").close()
            made += 1
    except OSError:
        pass
    for number in range(made):
        os.unlink(f"/tmp/file{number}")
    return f"{made} files fit in /tmp" if made > FILES else None

def fork_many():
    children = []
    try:
        while len(children) < 4 * PROCESSES:
            child = os.fork()
            if child == 0:
                import time
                time.sleep(60)
                os._exit(0)
            children.append(child)
    except OSError:
        pass
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
    return f"{len(children)} processes could be started" if len(children) > PROCESSES else None

def descriptors():
    extra = []
    for fd in os.listdir("/proc/self/fd"):
        if int(fd) > 2 and os.path.exists(f"/proc/self/fd/{fd}"):
            target = os.readlink(f"/proc/self/fd/{fd}")
            if not target.startswith("/proc/"):
                extra.append(target)
    return f"inherited {extra}" if extra else None

def identity():
    if os.getuid() == 0 or os.getgid() == 0 or os.getgroups() and 0 in os.getgroups():
        return f"runs as {os.getuid()}:{os.getgid()}, groups {os.getgroups()}"

def capabilities():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    held = [name for name in ("CapPrm", "CapEff", "CapAmb") if int(lines[name], 16)]
    privileges, seccomp = lines["NoNewPrivs"].strip(), lines["Seccomp"].strip()
    if held or privileges != "1" or seccomp != "2":
        return f"capabilities {held}, NoNewPrivs {privileges}, Seccomp {seccomp}"

attempt("network", lambda: connect(socket.AF_INET, ("127.0.0.1", PORT)))
attempt("network, abstract socket", lambda: connect(socket.AF_UNIX, ABSTRACT))
attempt("network, interfaces", interfaces)
attempt("network, interfaces", kernel_interfaces)
for family in (16, 17, 38, 40):  # netlink, packet, kernel crypto, virtual machine
    attempt(
        f"socket family {family}",
        lambda: socket.socket(family, socket.SOCK_RAW) and "can be opened",
    )
for path in (FILE, "/proc/1/root" + FILE, "/proc/1/environ", "/proc/self/environ"):
    attempt("secrets", lambda: read(path))
if SECRET in repr(dict(os.environ)):
    got["secrets"] = "the server's environment is visible"
attempt("secrets", lambda: os.listdir("/home") and "/home is visible")
attempt("secrets", lambda: os.stat("/etc/shadow") and "/etc/shadow is visible")
attempt("processes", other_processes)
attempt("processes", signal_all)
attempt(
    "processes",
    lambda: open("/proc/1/mem", "r+b") and "the memory of its first process can be written to",
)
FOLDERS = ("/x", "/usr/x", "/usr/lib/x", "/etc/x", "/dev/x", "/python/x")
for path in (*FOLDERS, sys.executable, os.__file__):
    attempt("read-only file system", lambda: write(path))
attempt("disk", fill)
attempt("number of files", fill_files)
attempt("number of processes", fork_many)
attempt("inherited descriptors", descriptors)
attempt("identity", identity)
attempt("identity", capabilities)
denied("tracing", "ptrace", 16, 1, 0, 0)
denied("new namespaces", "unshare", 0x10000000)
denied("new namespaces", "unshare", 0x00020000)
denied("joining namespaces", "setns", 0, 0)
denied("mount", "mount", b"none", b"/tmp", b"tmpfs", 0, None)
denied("kernel keys", "syscall", {"x86_64": 250, "aarch64": 219}[os.uname().machine], 0, -3, 1)
print()
print(json.dumps(got))
'''


_APART = """
import os, socket, time
place = socket.socket(socket.AF_UNIX)
try:
    place.bind("\\0self-test")
except OSError as error:
    print("an abstract socket of another job:", error)
for folder in ("/tmp", "/dev/shm"):
    if os.listdir(folder):
        print(f"files of another job in {folder}")
    try:
        open(f"{folder}/mine{NUMBER}", "x").close()
    except OSError as error:
        print(error)
time.sleep(0.5)
for folder in ("/tmp", "/dev/shm"):
    if os.listdir(folder) != [f"mine{NUMBER}"]:
        print(f"files of another job in {folder}")
seen = [pid for pid in os.listdir("/proc") if pid.isdigit()]
if len(seen) > 2:
    print(f"processes of another job: {seen}")
"""


def apart(number: int) -> str:
    """The program that says, when two run at once, what one of them sees of the other."""
    return f"NUMBER = {number}\n{_APART}"


def escapes(
    secret: str,
    file: str,
    port: int,
    abstract: str,
    server: int,
    processes: int,
    disk_bytes: int,
    files: int,
) -> str:
    """The program that tries every way out, and ends with a line of JSON: those that worked."""
    names = {
        "SECRET": secret,
        "FILE": file,
        "PORT": port,
        "ABSTRACT": abstract,
        "SERVER": server,
        "PROCESSES": processes,
        "DISK_BYTES": disk_bytes,
        "FILES": files,
    }
    return "".join(f"{name} = {value!r}\n" for name, value in names.items()) + _ESCAPES
