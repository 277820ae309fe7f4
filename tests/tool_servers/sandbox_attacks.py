"""Programs that attack the sandbox, and how each must end."""

from __future__ import annotations

from dataclasses import dataclass

from tool_servers.python_coder.sandbox.limits import JobResult, Limits

LIMITS = Limits(seconds=60.0, memory_mb=160, processes=32, disk_mb=8, files=500, output_mb=4)
MARK = "AGENTFLOW_TEST_SECRET"
SECRETS = ("seen", "escaped", "a secret", "got a secret", "open ")
"""Beginnings of lines that only a job that got out could print."""


@dataclass(frozen=True)
class Attack:
    """``says`` must be in the output. ``FILE``, ``TCP``, ``UDP`` and ``ABSTRACT`` are defined in
    each program.
    """

    name: str
    program: str
    status: str = "ok"
    says: str = ""
    seconds: float = LIMITS.seconds


def as_expected(attack: Attack, result: JobResult) -> bool:
    leaked = any(line.startswith(SECRETS) for line in result.output.split("\n"))
    return attack.says in result.output and attack.status in (result.status, "*") and not leaked


def refused(expression: str, what: str = "OSError") -> str:
    """A program that says "refused" when the expression raises, and else prints its value."""
    return f"""
import ctypes, os, pathlib, socket, sys, urllib.request
libc = ctypes.CDLL(None, use_errno=True)
def tell(address, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    link = socket.socket(family, kind)
    link.settimeout(1)
    link.connect(address)
    link.send(b"escaped")
    return "sent"
def call(name, *arguments):
    if libc[name](*arguments) == -1: raise OSError(ctypes.get_errno(), name)
    return "done"
try: print("got", {expression})
except {what} as error: print("refused", error)
"""


def cannot(name: str, expression: str, what: str = "OSError") -> Attack:
    return Attack(name, refused(expression, what), says="refused")


ATTACKS = [
    # using everything up
    Attack(
        "fork bomb",
        "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass",
        "timeout",
        seconds=1.0,
    ),
    Attack(
        "fork bomb of setsid daemons",
        "import os\nwhile True:\n  try: os.fork() or os.setsid()\n  except OSError: pass",
        "timeout",
        seconds=1.0,
    ),
    Attack("memory bomb", "held = b'x' * (1 << 30)", "memory", "MemoryError"),
    Attack(
        "memory bomb, split",
        "import os, time\nfor _ in range(6):\n  if os.fork() == 0:\n    held = b'x' * (60 << 20);"
        " time.sleep(60)\ntime.sleep(60)",
        "memory",
        "more than 160 MB",
    ),
    Attack(
        "memory bomb, split, shared mappings",
        "import mmap, os, time\nfor _ in range(6):\n  if os.fork() == 0:\n    held = mmap.mmap(-1,"
        " 60 << 20); held.write(b'x' * (50 << 20)); time.sleep(60)\ntime.sleep(60)",
        "memory",
        "more than 160 MB",
    ),
    cannot("memory reserved", "__import__('mmap').mmap(-1, 1 << 30)"),
    cannot("memory in files without a name", "os.memfd_create('x')"),
    cannot("memory in System V segments", "call('shmget', 0, 1 << 20, 0o1600)"),
    Attack("CPU loop", "while True: pass", "timeout", seconds=1.0),
    Attack("sleep", "print('first'); import time; time.sleep(60)", "timeout", "first", seconds=1.0),
    Attack(
        "process flood",
        "import os, time\ncount = 0\ntry:\n  while count < 200:\n    if os.fork() == 0:"
        " time.sleep(60)\n    count += 1\nexcept OSError: pass\nprint('stopped' if count < 32 else"
        " count)",
        says="stopped",
    ),
    Attack(
        "thread flood",
        "import threading, time, os\ncount = 0\ntry:\n  while count < 1000:\n   "
        " threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n    count +="
        " 1\nexcept RuntimeError: pass\nprint('stopped' if count < 64 else count, flush=True);"
        " os._exit(0)",
        says="stopped",
    ),
    Attack("stdout flood", "print('x' * 20_000_000)", "output", "bytes left out"),
    Attack(
        "100 MB without a line end",
        "import os\nfor _ in range(1600): os.write(1, bytes(65536))",
        "output",
        "more than 4 MB",
    ),
    Attack(
        "stderr flood",
        "import sys\nwhile True: sys.stderr.write('line\\n' * 10_000)",
        "output",
        "more than 4 MB",
    ),
    Attack(
        "long but fair output", "for i in range(20_000): print(i)\nprint('the end')", says="the end"
    ),
    Attack(
        "invalid UTF-8",
        "import os; os.write(1, b'\\xff\\xfe after'); print('\\udc80')",
        says="\ufffd after",
    ),
    Attack(
        "disk fill",
        "import os\ntry:\n  for i in range(99): open(f'/tmp/{i}', 'wb').write(bytes(1 <<"
        " 20))\nexcept OSError as error: print('stopped', i)",
        says="stopped 8",
    ),
    Attack(
        "one large file",
        "try:\n  with open('/dev/shm/x', 'wb') as file: file.truncate(1 << 40)\nexcept OSError as"
        " error: print('stopped')",
        says="stopped",
    ),
    Attack(
        "inode fill",
        "for i in range(5000): open(f'/tmp/{i}', 'w').close()",
        "error",
        "No space left",
    ),
    # seeing what is not its own
    Attack(
        "files of another job",
        "import os\nprint(*(sorted(os.listdir(place)) for place in ('/tmp', '/dev/shm')))\n"
        "for place in ('/tmp', '/dev/shm'): open(f'{place}/left', 'w').write('x')",
        says="[] []",
    ),
    Attack(
        "another job's socket",
        "import socket, time\nlink ="
        " socket.socket(socket.AF_UNIX)\nlink.bind('\\0left')\ntime.sleep(0.5)\nprint('alone')",
        says="alone",
    ),
    Attack(
        "changes to an imported package",
        "import json\nprint(hasattr(json, 'left'))\njson.left = 1",
        says="False",
    ),
    cannot("memory of its first process", "open('/proc/1/mem', 'r+b')"),
    cannot(
        "descriptors of its first process",
        "[os.open(f'/proc/1/fd/{fd}', 0) for fd in os.listdir('/proc/1/fd')]",
    ),
    Attack(
        "environment",
        f"import os; print('seen' if '{MARK}' in os.environ else 'nothing')",
        says="nothing",
    ),
    Attack(
        "environment of all processes",
        f"import glob\nfor path in glob.glob('/proc/[0-9]*/environ'):\n  try:\n    if b'{MARK}' in"
        " open(path, 'rb').read(): print('seen in', path)\n  except OSError: pass\nprint('looked"
        " at', len(glob.glob('/proc/[0-9]*/environ')))",
        says="looked at 2\n",
    ),
    cannot("secret file", "open(FILE).read()"),
    cannot("secret file over ..", "open('/tmp/../../..' + FILE).read()"),
    cannot(
        "secret file over a symbolic link",
        "os.symlink(FILE, '/tmp/link') or open('/tmp/link').read()",
    ),
    cannot("secret file over a hard link", "os.link(FILE, '/tmp/link')"),
    cannot("secret file over the first process", "open('/proc/1/root' + FILE).read()"),
    cannot("the host's users", "open('/etc/passwd').read()"),
    cannot("password hashes", "open('/etc/shadow').read()"),
    cannot("home folders", "os.listdir('/home')"),
    cannot("memory of the machine", "open('/dev/mem', 'rb').read(1)"),
    cannot("kernel log", "open('/dev/kmsg').read(1)"),
    Attack(
        "inherited descriptors",
        "import os\nfor fd in range(3, 1024):\n  try: os.fstat(fd); print('open', fd)\n  except"
        " OSError: pass\nprint('done')",
        says="done",
    ),
    cannot("standard input", "input()", "EOFError"),
    cannot(
        "the server, by the other end of standard input",  # SO_PEERPIDFD, then pidfd_getfd(2)
        "call('syscall', 438, socket.socket(fileno=0).getsockopt(socket.SOL_SOCKET, 77), 0, 0)",
    ),
    # changing what is not its own
    cannot("write to the interpreter", "open(os.__file__, 'w')"),
    cannot("write to the root", "open('/x', 'w')"),
    cannot("write to /etc", "open('/etc/' + os.urandom(8).hex(), 'w')"),
    cannot("write to devices", "open('/dev/x', 'w')"),
    cannot("write kernel settings", "open('/proc/sys/vm/overcommit_memory', 'w').write('1')"),
    Attack(
        "import hijack through the folder it runs in",
        "open('/tmp/json.py', 'w').write('print(1)'); import json; print(json.dumps('real'))",
        says='"real"',
    ),
    # reaching out
    cannot("TCP to a port of the machine", "tell(('127.0.0.1', TCP))"),
    cannot(
        "UDP to a port of the machine",
        "tell(('127.0.0.1', UDP), kind=socket.SOCK_DGRAM) and"
        " socket.create_connection(('127.0.0.1', TCP), 1)",
    ),
    cannot("TCP to a cloud's metadata service", "tell(('169.254.169.254', 80))"),
    cannot("DNS", "socket.getaddrinfo('example.com', 80)"),
    cannot("HTTP", "urllib.request.urlopen('http://192.0.2.1', timeout=1)"),
    cannot("abstract Unix socket", "tell(ABSTRACT, family=socket.AF_UNIX)"),
    cannot("socket to the virtual machine's host", "socket.socket(40, socket.SOCK_STREAM)"),
    cannot("raw packets", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
    # hurting other processes
    Attack(
        "kill everything",
        "import os\ntry: os.kill(-1, 9)\nexcept OSError: pass\nprint('alive')",
        says="alive",
    ),
    Attack("kill its process group", "import os; os.kill(0, 9)", "error", "SIGKILL"),
    Attack(
        "kill its parent",
        "import os\nfor s in (9, 15, 2):\n  try: os.kill(os.getppid() or 1, s)\n  except OSError:"
        " pass\nprint('alive')",
        says="alive",
    ),
    cannot("trace its parent", "call('ptrace', 16, os.getppid(), 0, 0)"),
    cannot("read another process's memory", "call('process_vm_readv', 1, 0, 0, 0, 0, 0)"),
    cannot("leave the session", "os.setsid() if os.fork() == 0 else os.wait()"),
    Attack(
        "daemon left behind",
        "import os, time\nif os.fork() == 0:\n  if os.fork() == 0:\n    time.sleep(60)\n "
        " os._exit(0)\nos.wait(); print('parent done')",
        says="parent done",
    ),
    # more rights
    cannot("new user namespace", "call('unshare', 0x10000000)"),
    cannot(
        "clone into a user namespace",
        "call('syscall', {'x86_64': 56, 'aarch64': 220}[os.uname().machine], 0x10000000 | 17, 0, 0,"
        " 0, 0)",
    ),
    cannot(
        "child of the fork server",
        "call('syscall', {'x86_64': 56, 'aarch64': 220}[os.uname().machine], 0x8000 | 17, 0, 0,"
        " 0, 0)",
    ),
    cannot("clone3", "call('syscall', 435, 0, 0)"),
    cannot("io_uring", "call('syscall', 425, 1, 0)"),
    cannot("mount", "call('mount', b'none', b'/tmp', b'tmpfs', 0, None)"),
    cannot("chroot", "os.chroot('/tmp')"),
    cannot("become root", "os.setuid(0)"),
    cannot(
        "raise its own limit",
        "__import__('resource').setrlimit(__import__('resource').RLIMIT_NPROC, (999, 999))",
        "(OSError, ValueError)",
    ),
    cannot(
        "enter its first process's namespaces", "call('setns', os.open('/proc/1/ns/mnt', 0), 0)"
    ),
    # what the next job, or the machine, would notice
    cannot("make the files of its process its own", "call('prctl', 4, 1, 0, 0, 0)"),
    cannot("hash table of futexes", "call('prctl', 78, 1, 1 << 20, 0, 0)"),
    cannot("rank of all jobs", "open('/proc/self/autogroup', 'w').write('19')"),
    cannot("be spared without memory", "open('/proc/self/oom_score_adj', 'w').write('0')"),
    Attack(
        "files of its process, after exec",
        "import os, sys\nprogram = '''\nfor name in ('autogroup', 'oom_score_adj', 'comm'):\n"
        '  try: print("got", open("/proc/self/" + name, "w").write("0"))\n'
        "  except OSError as error: print(name, \"refused\")'''\n"
        "os.execv(sys.executable, [sys.executable, '-I', '-S', '-c', program])",
        says="comm refused",
    ),
    cannot("watch files", "call('inotify_init1', 0)"),
    cannot("large socket buffers", "socket.socketpair()[0].setsockopt(1, 7, 1 << 24)"),
    cannot("blind its watcher", "__import__('resource').prlimit(1, 7, (0, 0))"),
    cannot("slow its watcher", "os.setpriority(os.PRIO_PROCESS, 1, 19)"),
    cannot("slow its watcher by its user", "os.setpriority(os.PRIO_USER, os.getuid(), 19)"),
    cannot("move its watcher", "os.sched_setaffinity(1, {0})"),
    Attack(
        "pseudo terminals are its own",
        "import os\nfirst, second = os.openpty()\nprint(sorted(os.listdir('/dev/pts')))",
        says="['0', 'ptmx']",
    ),
    Attack(
        "forged verdicts",
        "import os\nfor fd in range(3, 256):\n  for text in (b'exit 0\\n', b'done 0\\n',"
        " b'ready'):\n    try: os.write(fd, text)\n    except OSError: pass\nos._exit(7)",
        "error",
        "exit code 7",
    ),
    Attack(
        "says that it is over, and goes on",
        "import os\nos.write(0, b'exit 3\\n')\nwhile True: pass",
        "error",
        "exit code 3",
    ),
    *(
        Attack(
            f"forged word: {word!r:.20}",
            f"import os\nos.set_blocking(0, False)\ntry:\n  for _ in range(9): os.write(0, {word!r}"
            " * 9999)\nexcept OSError: pass\nos._exit(7)",
            "error",
            "exit code 7",
        )
        for word in (b"done 0\n", b"memory\n", b"ready", b"exit 9999\n", b"exit 0", b"\xff\n")
    ),
    Attack(
        "hangs up",
        "import os, socket\nsocket.socket(fileno=0).shutdown(2)\nos._exit(7)",
        "error",
        "exit code 7",
    ),
    Attack(
        "closes all that it has",
        "import os\nos.closerange(0, 999)\nos._exit(7)",
        "error",
        "exit code 7",
    ),
    Attack(
        "pickle that runs code where it is read",
        "import os, pickle\nclass Bomb:\n  def __reduce__(self): return (os._exit,"
        " (9,))\nos.write(1, pickle.dumps(Bomb()))",
        says="_exit",
    ),
    # odd ends
    Attack("sys.exit", "import sys; sys.exit(3)", "error", "exit code 3"),
    Attack("exit without a word", "exit()"),
    Attack("os._exit", "import os; os._exit(5)", "error", "exit code 5"),
    Attack("segmentation fault", "import ctypes; ctypes.string_at(0)", "error", "SIGSEGV"),
    Attack("deep recursion", "def f(): f()\nf()", "error", "RecursionError"),
    Attack(
        "deep recursion without a guard",
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return [f(x)]\nf(1)",
        "*",
        seconds=1.0,
    ),
    Attack("deep nesting", "eval('(' * 100_000)", "*", "Error"),
    Attack("syntax error", "print('a'\nx", "error", "SyntaxError"),
    Attack("null bytes", "print(1)\0", "error", "Error"),
    Attack(
        "exception that lies",
        "class E(Exception):\n  def __str__(self): raise SystemExit(0)\nraise E",
        "error",
    ),
]
