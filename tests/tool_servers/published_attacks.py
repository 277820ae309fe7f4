"""What the test suites of two other sandboxes send to theirs, as programs for ours.

snekbox (python-discord/snekbox, tests/test_nsjail.py) runs Python in nsjail, Judger
(QingdaoU/Judger, tests/) runs C under seccomp and rlimits. Left out: what ATTACKS has already, the
options of their own programs, and files that a job hands back, which ours does not.
"""

from __future__ import annotations

from tests.tool_servers.sandbox_attacks import Attack, cannot, refused


def told(name: str, program: str, says: str) -> Attack:
    """An attack that tells itself how far it got."""
    return Attack(name, program, says=says)


SNEKBOX = [
    Attack(
        "processes by subprocess, until there are no more",
        """
import subprocess, sys
started = []
try:
    for _ in range(64):
        started.append(subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"],
                                        stdin=subprocess.PIPE))
except OSError as error:
    print("stopped", type(error).__name__, len(started) < 32)
for each in started: each.kill()
""",
        says="stopped BlockingIOError True",
    ),
    Attack(
        "memory of two processes of multiprocessing",
        """
import time
from multiprocessing import get_context
def hold():
    held = b"x" * 90_000_000
    time.sleep(60)
both = [get_context("fork").Process(target=hold) for _ in range(2)]
for each in both: each.start()
for each in both: each.join()
""",
        "memory",
        "more than 160 MB",
    ),
    *(
        cannot(f"write to {folder}", f"open('{folder}/hello', 'w').write('world')")
        for folder in ("/lib", "/lib64", "/usr", "/usr/lib", "/proc", "/sys", "/python")
    ),
    told(
        "a file of 2 KiB blocks past the disk",
        """
with open("/tmp/f.bin", "wb", buffering=0) as file:
    try:
        for number in range(1 << 20): file.write(b"1" * 2048)
    except OSError as error: print("stopped", number * 2048 <= 8 << 20)
""",
        "stopped True",
    ),
    told(
        "sparse files larger than the disk",
        """
import os
for size in (5 << 20, 1 << 50):
    with open("/tmp/sparse", "wb") as file:
        try: os.truncate(file.fileno(), size); print("made", os.fstat(file.fileno()).st_blocks)
        except OSError: print("refused")
""",
        "made 0\nrefused",
    ),
    told(
        "folders a thousand deep",
        """
import os
os.chdir("/tmp")
try:
    for _ in range(1000): os.mkdir("a"); os.chdir("a")
except OSError: pass
print("done")
""",
        "done",
    ),
    told(
        "links to one file, and to themselves",
        """
import os
for number in range(100): os.symlink("file", f"/tmp/file{number}")
os.symlink("loop", "/tmp/loop")
try: open("/tmp/loop")
except OSError as error: print("refused", error.errno)
""",
        "refused 40",
    ),
    Attack("a lone surrogate printed", "print(chr(56550))", "*"),
    Attack(
        "a lone surrogate printed by an interpreter without its environment",
        "import os, sys\nos.environ.clear()\nos.execv(sys.executable, [sys.executable, '-I', '-S',"
        " '-c', 'import sys; sys.stdout.buffer.write(chr(56550).encode(\"utf8\","
        ' "surrogatepass"))\'])',
        says="\ufffd",
    ),
    Attack("a null byte alone", "\0", "error", "Error"),
    Attack(
        "shared memory past its file system",
        """
from multiprocessing.shared_memory import SharedMemory
try: shared = SharedMemory(create=True, size=9 << 20)
except OSError: print("refused"); raise SystemExit
shared.buf[:] = bytes([1]) * (9 << 20)
""",
        "*",
    ),
    cannot(
        "shared memory larger than the machine",
        "__import__('multiprocessing.shared_memory').shared_memory.SharedMemory(None, True, 1 <<"
        " 50)",
    ),
    Attack(
        "an endless line after line",
        "while True: print('abcdefghij')",
        "output",
        "more than 4 MB",
    ),
]

JUDGER = [
    Attack(
        "CPU time of a child",
        "import os\nif os.fork() == 0:\n  while True: pass\nos.wait()",
        "timeout",
        seconds=1.0,
    ),
    Attack(
        "a child that sleeps on",
        "import os, time\nif os.fork() == 0: time.sleep(60)\nos.wait()",
        "timeout",
        seconds=1.0,
    ),
    cannot(
        "more memory from malloc", "call('malloc', 1 << 20) and bytearray(1 << 40)", "MemoryError"
    ),
    Attack("an exit code of its own", "raise SystemExit(25)", "error", "exit code 25"),
    *(
        cannot(f"make a file outside by {way}", f"os.open(FILE + '.new', {flags})")
        for way, flags in {
            "writing": "os.O_CREAT | os.O_WRONLY",
            "reading and writing": "os.O_CREAT | os.O_RDWR",
            "appending": "os.O_CREAT | os.O_APPEND | os.O_RDWR",
        }.items()
    ),
    cannot(
        "make a file outside, from a folder that is open",
        "os.open(FILE + '.new', 65, dir_fd=os.open('/', os.O_PATH))",
    ),
    told(
        "a program run from memory by execveat",
        refused(
            "call('syscall', {'x86_64': 322, 'aarch64': 281}[os.uname().machine],"
            " os.memfd_create('x'), b'', None, None, 0x1000)"
        ),
        "refused",
    ),
    told(
        "a shell that reads the server's secrets",
        "import subprocess\nprint('got', subprocess.run(['/bin/sh', '-c', 'cat /proc/1/environ"
        " /etc/shadow; id -u; true'], capture_output=True, text=True).stdout.count('AGENTFLOW'))"
        "\nprint('end')",
        "got 0\nend",
    ),
    told(
        "what the machine has, by sysinfo",
        "import ctypes\nheld = ctypes.create_string_buffer(256)\n"
        "print('asked', ctypes.CDLL(None).sysinfo(held))",
        "asked",
    ),
    Attack(
        "an interpreter that compiles for ever",
        "compile('1' + '+1' * 100, '', 'eval')\nsource = 'lambda: ' * 90 + '0'\n"
        "while True: compile(source, '', 'eval')",
        "timeout",
        seconds=1.0,
    ),
]

PUBLISHED = [*SNEKBOX, *JUDGER]
