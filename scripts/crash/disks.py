"""File systems under a broker: images behind loop devices, room that is taken and given back.

Everything that is mounted or attached is undone by `close`, and at the end of the program.
"""

import atexit
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

BLOCK = 4096
WAIT_SECONDS_MAX = 20
_open = []


class NoRights(Exception):
    """Mounting, loop devices or control groups are not to be had here."""


def run(*words, check=True):
    """Runs a command; its output is in the error where it fails."""
    command = [str(word) for word in words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if check and done.returncode:
        told = (done.stdout + done.stderr).strip()[-300:]
        raise OSError(f"{' '.join(command)} ended with {done.returncode}: {told}")
    return done


def make_ext4(path, size_bytes):
    """An empty ext4 in a new sparse file, without blocks kept for root."""
    with open(path, "wb") as file:
        file.truncate(size_bytes)
    options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    run("mkfs.ext4", "-q", "-F", "-b", BLOCK, "-m", 0, "-J", "size=16", "-E", options, path)


def unmount(path):
    """Unmounts, if it is mounted; waits for those who still have files open."""
    end = time.monotonic() + WAIT_SECONDS_MAX
    while path.is_mount() and run("umount", path, check=False).returncode:
        if time.monotonic() > end:
            run("umount", "--lazy", path, check=False)
            break
        time.sleep(0.05)


def need_loop(directory):
    """Tries a loop device with a file system; `NoRights` where that is not to be had."""
    image = directory / "probe.img"
    probe = None
    try:
        make_ext4(image, 128 << 20)
        probe = Mounted(image, directory / "probe").mount()
    except OSError as fault:
        raise NoRights(f"nothing can be mounted: {fault}") from None
    finally:
        if probe:
            probe.close()
        image.unlink(missing_ok=True)


class Mounted:
    """A file system in a file, mounted through a loop device at `path`."""

    def __init__(self, image, path, options="errors=remount-ro"):
        self.image, self.path, self.options = Path(image), Path(path), options
        self.device = None
        self.path.mkdir(exist_ok=True)
        _open.append(self)

    def mount(self):
        """Attaches and mounts."""
        if self.device is None:
            self.device = run("losetup", "--find", "--show", self.image).stdout.strip()
        run("mount", "-t", "ext4", "-o", self.options, self.device, self.path)
        return self

    def unmount(self):
        """Unmounts and detaches."""
        unmount(self.path)
        if self.device:
            run("losetup", "--detach", self.device, check=False)
            self.device = None

    def repair(self):
        """What a boot does with a file system that has errors; whether it mended something."""
        done = run("e2fsck", "-p", self.image, check=False)
        if done.returncode > 1:
            raise OSError(f"e2fsck ended with {done.returncode}: {done.stdout[-300:]}")
        return done.returncode == 1

    def close(self):
        self.unmount()
        if self in _open:
            _open.remove(self)


class Ram:
    """A tmpfs of limited size, where there are no loop devices."""

    def __init__(self, size_bytes, path):
        self.size_bytes, self.path = size_bytes, Path(path)
        self.path.mkdir(exist_ok=True)
        _open.append(self)

    def mount(self):
        run("mount", "-t", "tmpfs", "-o", f"size={self.size_bytes}", "tmpfs", self.path)
        return self

    def close(self):
        if self.path.is_mount():
            run("umount", "--lazy", self.path, check=False)
        if self in _open:
            _open.remove(self)


def limited(directory, size_bytes):
    """A mounted file system of that size: ext4 if possible, else a tmpfs."""
    image = directory / "disk.img"
    try:
        make_ext4(image, size_bytes)
        return Mounted(image, directory / "disk").mount()
    except OSError:
        with suppress(OSError):
            return Ram(size_bytes, directory / "disk").mount()
    raise NoRights("nothing can be mounted")


class Ballast:
    """A file that takes the room of a file system."""

    def __init__(self, directory):
        self.directory, self.path = directory, directory / "ballast"
        self.path.touch()

    def free(self):
        """Bytes that can be written."""
        state = os.statvfs(self.directory)
        return state.f_bavail * state.f_frsize

    def leave(self, room_bytes):
        """Grows or shrinks so that about `room_bytes` are free; what is free then."""
        size = self.path.stat().st_size
        wanted = max(0, size + self.free() - room_bytes) // BLOCK * BLOCK
        with open(self.path, "r+b", buffering=0) as file:
            # Others write at the same time: the room may be gone.
            with suppress(OSError):
                if wanted < size:
                    file.truncate(wanted)
                elif wanted > size:
                    os.posix_fallocate(file.fileno(), size, wanted - size)
            if room_bytes == 0:
                self._take_all(file)
        return self.free()

    def _take_all(self, file):
        """Block by block to the last one."""
        file.seek(0, os.SEEK_END)
        with suppress(OSError):
            for _ in range(4096):
                file.write(b"\xff" * BLOCK)


class Memory:
    """A memory control group (v1) with a limit."""

    ROOT = Path("/sys/fs/cgroup/memory")

    def __init__(self, limit_bytes):
        self.path = self.ROOT / f"corelog-crash-{os.getpid()}"
        try:
            self.path.mkdir()
            (self.path / "memory.limit_in_bytes").write_text(str(limit_bytes))
        except OSError as fault:
            with suppress(OSError):
                self.path.rmdir()
            raise NoRights(f"no memory control group: {fault}") from None
        _open.append(self)

    def prefix(self):
        """Words before a command that puts it into the group."""
        return ["sh", "-c", f'echo $$ >"{self.path}/cgroup.procs" && exec "$@"', "sh"]

    def read(self, name):
        return int((self.path / f"memory.{name}").read_text())

    def kills(self):
        """How often the kernel killed something in it."""
        lines = (self.path / "memory.oom_control").read_text().splitlines()
        return int(dict(line.split() for line in lines).get("oom_kill", 0))

    def close(self):
        end = time.monotonic() + WAIT_SECONDS_MAX
        while self.path.exists() and time.monotonic() < end:
            with suppress(OSError):
                self.path.rmdir()
                break
            time.sleep(0.1)
        if self in _open:
            _open.remove(self)


@atexit.register
def _close_all():
    for each in reversed(list(_open)):
        if isinstance(each, Mounted):
            # Its users may still run: they are ended behind us.
            run("umount", "--lazy", each.path, check=False)
        each.close()
