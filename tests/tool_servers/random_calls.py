"""A program that makes random system calls, as a fuzzer of kernels does, from inside a job."""

from __future__ import annotations

PROGRAM = """
import ctypes, mmap, os, random, signal, time

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
counts = mmap.mmap(-1, 4096)  # shared with the children: calls made, calls that were not refused
end = time.monotonic() + SECONDS
memory = ctypes.create_string_buffer(os.urandom(1 << 16), 1 << 16)
paths = [b"/", b"/tmp", b"/tmp/x", b"/proc/self/mem", b"/dev/shm/x", b"..", FILE.encode()]
held = [ctypes.create_string_buffer(path) for path in paths]
pointers = [ctypes.addressof(each) for each in [memory, *held]]
plain = [0, 1, 2, 3, 9, 17, 64, 4096, 1 << 16, 1 << 20, 1 << 31, 1 << 40, -1, -100]
ENDS_ITS_PROCESS = {"x86_64": (15, 60, 231), "aarch64": (93, 94, 139)}[os.uname().machine]

def argument(draw):
    kind = draw.random()
    if kind < 0.35: return draw.choice(plain)
    if kind < 0.65: return draw.choice(pointers) + draw.choice((0, 0, 8, 4095))
    if kind < 0.75: return draw.choice((os.getpid(), os.getppid(), os.getuid()))
    if kind < 0.90: return draw.getrandbits(draw.choice((8, 16, 32)))
    return draw.getrandbits(64)

def child(seed):
    draw = random.Random(seed)
    signal.setitimer(signal.ITIMER_REAL, 0.2)  # for calls that wait
    for _ in range(300):
        number = draw.randrange(470)
        if number in ENDS_ITS_PROCESS: continue
        counts[0:8] = (int.from_bytes(counts[0:8], "little") + 1).to_bytes(8, "little")
        words = [ctypes.c_ulong(argument(draw) % (1 << 64)) for _ in range(6)]
        if libc.syscall(ctypes.c_long(number), *words) != -1:
            counts[8:16] = (int.from_bytes(counts[8:16], "little") + 1).to_bytes(8, "little")
    os._exit(0)

seed = SEED
while time.monotonic() < end:
    seed += 1
    try: pid = os.fork()
    except OSError: time.sleep(0.05); continue
    if pid == 0:
        try: child(seed)
        finally: os._exit(1)
    give_up = time.monotonic() + 1.0
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > give_up: os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
made, taken = (int.from_bytes(counts[at : at + 8], "little") for at in (0, 8))
print("children", seed - SEED, "calls", made, "not refused", taken)
"""


def program(seed: int, seconds: float) -> str:
    """``FILE`` is defined before it: a path that a job must not reach."""
    return f"SEED, SECONDS = {seed}, {seconds}\n{PROGRAM}"
