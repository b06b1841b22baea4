"""Keeps free memory with a virtual machine; a process of its own, see `machine.memory_kept`.

A virtual machine tells its host which memory lies free, in blocks of 2 MiB and more, and the host
takes it. Touching it again costs some twenty times as much as touching memory that is there, and
the broker that happens to touch it pays. So all free memory is touched once, and given back but for
one small page in `STEP`: no block is whole any more, and what lies free stays.

Prints one line when that is done; ends, and gives the rest back, when its standard input ends.
"""

import mmap
import sys
from pathlib import Path

PAGE = mmap.PAGESIZE
MIB = 1 << 20
# Of how many pages one is kept: four in each block of 2 MiB.
STEP = 128 * PAGE
CHUNK = 64 * MIB
# What the rest of the machine is left while all else is taken.
LEFT = 256 * MIB
# Whole blocks that may remain, and how often they are looked for.
WHOLE_MAX = 256 * MIB
PASSES_MAX = 4
# The smallest block a host is told of, as a power of two of pages.
REPORTED_ORDER = 9


def free():
    """Bytes that lie free; in a container at most what its limit leaves."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    found = int(fields["MemFree"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            found = min(found, int(limit) - int((group / "memory.current").read_text()))
    except OSError:
        pass
    return found


def whole(buddyinfo):
    """Bytes that lie free in blocks a host is told of, of the text of /proc/buddyinfo."""
    pages = 0
    for line in buddyinfo.splitlines():
        counts = map(int, line.split()[4:])
        pages += sum(n << order for order, n in enumerate(counts) if order >= REPORTED_ORDER)
    return pages * PAGE


def take():
    """Touches all memory that lies free, in small pages: the chunks."""
    pattern = b"\1" * MIB
    chunks = []
    while free() > LEFT + CHUNK:
        chunk = mmap.mmap(-1, CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        chunk.madvise(mmap.MADV_NOHUGEPAGE)
        for at in range(0, CHUNK, MIB):
            chunk[at : at + MIB] = pattern
        chunks.append(chunk)
    return chunks


def thin(chunks):
    """Gives chunks back but for one page in `STEP`."""
    for chunk in chunks:
        for at in range(0, CHUNK, STEP):
            chunk.madvise(mmap.MADV_DONTNEED, at + PAGE, STEP - PAGE)


def main():
    """Runs until standard input ends."""
    # Whoever runs short of memory: this process is the one to go.
    Path("/proc/self/oom_score_adj").write_text("1000")
    chunks = []
    for _ in range(PASSES_MAX):
        taken = take()
        thin(taken)
        chunks += taken
        left = whole(Path("/proc/buddyinfo").read_text())
        if left <= WHOLE_MAX:
            break
    kept = len(chunks) * CHUNK // STEP * PAGE // MIB
    print(f"{kept} MiB of pages keep free memory here; {left // MIB} MiB lie in whole blocks")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
