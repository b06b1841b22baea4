"""Serves one file by FUSE and records every write and every flush of it (see `block_log`).

    recorder.py IMAGE MOUNTPOINT RECORDING POSITION

The kernel's protocol is spoken by hand over /dev/fuse, so that nothing has to be installed. A loop
device over MOUNTPOINT/disk has IMAGE's content; what its file system writes goes to IMAGE and, as
entries, to RECORDING; POSITION holds the number of entries so far, for others to map. Requests are
answered one by one. It ends when the mount does.
"""

import ctypes
import errno
import mmap
import os
import stat
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crash.block_log import BARRIER, ENTRY, WRITE
from crash.styles import SLOT

NAME = b"disk"
ROOT_ID, FILE_ID = 1, 2
WRITE_BYTES_MAX = 1 << 20
BUFFER_BYTES = WRITE_BYTES_MAX + 4096
# Names and sizes never change: the kernel may keep them.
KEEP_SECONDS = 86_400

IN = struct.Struct("=IIQQIIIHH")
OUT = struct.Struct("=IiQ")
ATTRIBUTES = struct.Struct("=QQQQQQIIIIIIIIII")
ENTRY_OUT = struct.Struct("=QQQQII")
ATTRIBUTES_OUT = struct.Struct("=QII")
INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
PLACE = struct.Struct("=QQI")
PLACE_BYTES = 40

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE_CALL = 1, 2, 3, 4, 14, 15, 16
STATFS, RELEASE, FSYNC, FLUSH, INIT, OPENDIR, READDIR = 17, 18, 20, 25, 26, 27, 28
RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 29, 36, 38, 42
BIG_WRITES, MAX_PAGES, KEEP_CACHE = 1 << 5, 1 << 22, 2
DONE = {RELEASE, FLUSH, READDIR, RELEASEDIR}
UNANSWERED = {FORGET, INTERRUPT, BATCH_FORGET}


class Refused(Exception):
    """A request that is answered with an error number."""


class Recorder:
    """One mount."""

    def __init__(self, image, mountpoint, recording, position):
        self.image = os.open(image, os.O_RDWR)
        self.size = os.fstat(self.image).st_size
        self.recording = open(recording, "wb", buffering=4 << 20)
        with open(position, "r+b") as file:
            self.position = mmap.mmap(file.fileno(), SLOT.size)
        self.count = 0
        self.device = os.open("/dev/fuse", os.O_RDWR)
        _mount(self.device, mountpoint)

    def serve(self):
        """Answers until the file system is unmounted."""
        buffer = bytearray(BUFFER_BYTES)
        view = memoryview(buffer)
        while True:
            try:
                size = os.readv(self.device, [buffer])
            except OSError as fault:
                if fault.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                break
            head = IN.unpack_from(buffer)
            operation, unique, node = head[1], head[2], head[3]
            if operation == DESTROY:
                break
            if operation in UNANSWERED:
                continue
            try:
                code, body = 0, self.answer(operation, node, view[IN.size : size])
            except Refused as fault:
                code, body = fault.args[0], b""
            except OSError as fault:
                code, body = fault.errno, b""
            try:
                os.writev(self.device, [OUT.pack(OUT.size + len(body), -code, unique), body])
            except OSError as fault:
                # The caller was interrupted and no longer waits.
                if fault.errno != errno.ENOENT:
                    break
        self.recording.close()

    def answer(self, operation, node, body):
        """The answer's bytes."""
        if operation == WRITE_CALL:
            return self.write(body)
        if operation == READ:
            _, offset, size = PLACE.unpack_from(body)
            return os.pread(self.image, size, offset)
        if operation == FSYNC:
            self.note(BARRIER, 0, b"")
            return b""
        if operation == INIT:
            return _init(body)
        if operation == LOOKUP:
            if node != ROOT_ID or bytes(body).rstrip(b"\0") != NAME:
                raise Refused(errno.ENOENT)
            keep = ENTRY_OUT.pack(FILE_ID, 0, KEEP_SECONDS, KEEP_SECONDS, 0, 0)
            return keep + self.attributes(FILE_ID)
        if operation in (GETATTR, SETATTR):
            return ATTRIBUTES_OUT.pack(KEEP_SECONDS, 0, 0) + self.attributes(node)
        if operation == OPEN:
            return struct.pack("=QII", 0, KEEP_CACHE, 0)
        if operation == OPENDIR:
            return struct.pack("=QII", 0, 0, 0)
        if operation == STATFS:
            return struct.pack("=5Q4I24x", 0, 0, 0, 2, 0, 4096, 255, 4096, 0)
        if operation in DONE:
            return b""
        raise Refused(errno.ENOSYS)

    def write(self, body):
        """A write goes to the image and to the recording, then it is answered."""
        _, offset, size = PLACE.unpack_from(body)
        raw = body[PLACE_BYTES : PLACE_BYTES + size]
        os.pwrite(self.image, raw, offset)
        self.note(WRITE, offset, raw)
        return struct.pack("=II", size, 0)

    def note(self, kind, offset, raw):
        """One entry, then the position behind it."""
        self.recording.write(ENTRY.pack(kind, offset, len(raw)))
        self.recording.write(raw)
        self.count += 1
        SLOT.pack_into(self.position, 0, self.count)

    def attributes(self, node):
        """What stat tells."""
        now = int(time.time())
        mode, size = stat.S_IFDIR | 0o755, 0
        if node == FILE_ID:
            mode, size = stat.S_IFREG | 0o600, self.size
        blocks = size // 512
        return ATTRIBUTES.pack(
            node, size, blocks, now, now, now, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0
        )


def _init(body):
    """Protocol 7.31, large writes, no cache that writes back."""
    _, _, ahead = struct.unpack_from("=III", body)
    flags = BIG_WRITES | MAX_PAGES
    pages = WRITE_BYTES_MAX // 4096
    return INIT_OUT.pack(7, 31, ahead, flags, 16, 12, WRITE_BYTES_MAX, 1, pages, 0, 0)


def _mount(device, mountpoint):
    """mount(2); the tools' own needs a helper program."""
    library = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    words = [b"corelog-recorder", os.fsencode(mountpoint), b"fuse"]
    if library.mount(*words, ctypes.c_ulong(0), options.encode()):
        raise SystemExit(f"mounting failed: {os.strerror(ctypes.get_errno())}")


def main():
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    recorder = Recorder(*sys.argv[1:])
    print("ready", flush=True)
    recorder.serve()


if __name__ == "__main__":
    main()
