"""Keeps free memory with a virtual machine; a process of its own, see `machine.memory_kept`.

A virtual machine tells its host which memory lies free, in blocks of 2 MiB and more, and the host
takes it. Touching it again costs some twenty times as much as touching memory that is there, and
the broker that happens to touch it pays. So all free memory is touched once, and given back but for
one small page a block: no block is whole any more, and what lies free stays. The kernel would
move those pages together again within the hour (compaction), so they are locked, and it is told to
leave locked pages where they are, until this ends. What the page cache holds is let go first.

Prints one line when that is done; ends, and gives the rest back, when its standard input ends.
"""

import contextlib
import ctypes
import mmap
import os
import signal
import struct
import sys
from pathlib import Path

PAGE = mmap.PAGESIZE
MIB = 1 << 20
# Of how many pages one is kept where it is not told where they lie: four in 2 MiB.
STEP = 128 * PAGE
CHUNK = 64 * MIB
# What the rest of the machine is left while all else is taken.
LEFT = 256 * MIB
# Whole blocks that may remain, and how often they are looked for.
WHOLE_MAX = 256 * MIB
PASSES_MAX = 4
# The smallest block a host is told of, as a power of two of pages.
REPORTED_ORDER = 9
# Whether compaction may move locked pages.
MAY_MOVE = Path("/proc/sys/vm/compact_unevictable_allowed")
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
MLOCK_ONFAULT = 1
# Of an entry of /proc/self/pagemap.
FRAME_MASK = (1 << 55) - 1


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
    """Gives chunks back but for one page in each block a host is told of; the pages kept.

    No more than that: large files are read into blocks of 1 MiB where there are some.
    """
    have = set()
    return sum(thin_one(chunk, blocks(frames(chunk), address(chunk)), have) for chunk in chunks)


def thin_one(chunk, found, have):
    """The same for one chunk, each of whose pages lies in a block; `have`: those that are done."""
    kept = []
    for index, block in enumerate(found):
        if block not in have:
            have.add(block)
            kept.append(index)
    for begin, end in zip([-1, *kept], [*kept, len(found)]):
        if begin + 1 < end:
            chunk.madvise(mmap.MADV_DONTNEED, (begin + 1) * PAGE, (end - begin - 1) * PAGE)
    return len(kept)


def blocks(found, begin):
    """The block each page of a chunk lies in, of their frames; `STEP` of addresses if not told."""
    if found:
        return [frame >> REPORTED_ORDER for frame in found]
    return [at // STEP for at in range(begin, begin + CHUNK, PAGE)]


def frames(chunk):
    """The number of the frame each page of a chunk lies in; `None` where that is not told."""
    count = CHUNK // PAGE
    with open("/proc/self/pagemap", "rb") as file:
        file.seek(address(chunk) // PAGE * 8)
        entries = struct.unpack(f"{count}Q", file.read(8 * count))
    found = [entry & FRAME_MASK for entry in entries]
    return found if all(found) else None


def address(chunk):
    """Where a chunk begins in memory."""
    return ctypes.addressof(ctypes.c_char.from_buffer(chunk))


def lock(chunks):
    """Locks what is left of chunks; whether that was permitted."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mlock2.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint]
    return all(libc.mlock2(address(chunk), CHUNK, MLOCK_ONFAULT) == 0 for chunk in chunks)


def set_to(path, value):
    """Writes a setting of the kernel; what it was, or `None` where that is not permitted."""
    try:
        before = path.read_text()
        path.write_text(value)
    except OSError:
        return None
    return before


def main():
    """Runs until standard input ends."""
    # Whoever runs short of memory: this process is the one to go.
    Path("/proc/self/oom_score_adj").write_text("1000")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.sync()
    with contextlib.suppress(OSError):
        DROP_CACHES.write_text("1")
    may_move = set_to(MAY_MOVE, "0")
    try:
        chunks, kept, stays = [], 0, True
        for _ in range(PASSES_MAX):
            taken = take()
            kept += thin(taken)
            stays = lock(taken) and stays
            chunks += taken
            left = whole(Path("/proc/buddyinfo").read_text())
            if left <= WHOLE_MAX:
                break
        words = "" if stays and may_move is not None else "; the kernel may move them"
        print(
            f"{kept * PAGE / MIB:.0f} MiB of pages keep free memory here; "
            f"{left // MIB} MiB lie in whole blocks{words}"
        )
        sys.stdout.flush()
        sys.stdin.read()
    finally:
        if may_move is not None:
            set_to(MAY_MOVE, may_move)


if __name__ == "__main__":
    main()
