#!/usr/bin/env python3
"""Puts libtorch (the C++ libraries of PyTorch) where cargo looks for it, without installing Python packages.

    python3 engine/torch/libtorch/fetch.py    fetch once into .libtorch/ at the repository root; later runs check and return
    LIBTORCH=/path/to/torch python3 ...       use that install: only its version is checked

pip downloads the wheels named in requirements.txt beside this file, by name and pinned sha256; the parts that a
program needs (CPU libraries and headers) are unpacked side by side. CUDA's own libraries stay out: for a GPU, point
LIBTORCH at a full PyTorch install of the same version.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

VERSION = "2.11.0"
ROOT = Path(__file__).resolve().parents[3]
HOME = ROOT / ".libtorch"
STAMP = HOME / "torch" / "build-version"
LIBRARIES = {"libtorch_cpu.so", "libtorch.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"}
PLATFORMS = ["manylinux_2_28_x86_64", "manylinux_2_25_x86_64", "manylinux2014_x86_64"]


def fail(message):
    sys.exit(f"libtorch: {message}")


def check_own(path):
    """An install that the user named: is it there, and is it the version that tch binds?"""
    path = Path(path)
    if not (path / "lib" / "libtorch_cpu.so").exists():
        fail(f"LIBTORCH={path} holds no lib/libtorch_cpu.so. Point it at the torch folder of a PyTorch {VERSION} "
             f"install, or unset it and run this again to fetch one.")
    for name in ("build-version", "version.py"):
        file = path / name
        if file.exists():
            if VERSION not in file.read_text():
                fail(f"LIBTORCH={path} is not PyTorch {VERSION} (see {file}). Install torch=={VERSION} there, "
                     f"or unset LIBTORCH and run this again.")
            return
    print(f"libtorch: warning: {path} does not say its version; PyTorch {VERSION} is needed", file=sys.stderr)


def download(into):
    requirements = Path(__file__).with_name("requirements.txt")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:",
               "--disable-pip-version-check", "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "none"]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    command += ["--dest", str(into), "--requirement", str(requirements)]
    if subprocess.run(command).returncode != 0:
        fail("the download failed (pip's message is above). Check the network or pip's index settings and run this again; "
             f"or set LIBTORCH to the torch folder of a PyTorch {VERSION} install.")


def wanted(name):
    base = name.rsplit("/", 1)[-1]
    return name.startswith("torch/include/") or base in LIBRARIES or base in ("LICENSE", "NOTICE")


def unpack(wheels, into):
    archives = [zipfile.ZipFile(wheel) for wheel in sorted(wheels.glob("*.whl"))]
    parts = [(archive, info) for archive in archives for info in archive.infolist() if wanted(info.filename)]
    total = sum(i.file_size for _, i in parts)
    done, shown = 0, 0.0
    for archive, info in parts:
        archive.extract(info, into)
        done += info.file_size
        if time.monotonic() - shown > 0.2 or done == total:
            shown = time.monotonic()
            end = "\r" if sys.stdout.isatty() and done < total else "\n"
            if sys.stdout.isatty() or done == total:
                print(f"libtorch: unpacked {done / 1e6:6.0f} of {total / 1e6:.0f} MB", end=end, flush=True)


def main():
    own = os.environ.get("LIBTORCH")
    if own and Path(own).resolve() != (HOME / "torch").resolve():
        check_own(own)
        print(f"libtorch: using LIBTORCH={own}")
        return
    if STAMP.exists() and STAMP.read_text().strip() == VERSION:
        return
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        fail(f"this script knows Linux on x86-64. Elsewhere install torch=={VERSION} and set LIBTORCH to its torch folder.")
    if shutil.disk_usage(ROOT).free < 3_000_000_000:
        fail(f"{ROOT} needs 3 GB of free disk for PyTorch {VERSION}; free some and run this again.")
    print(f"libtorch: fetching PyTorch {VERSION} for the CPU (544 MB) into {HOME}")
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    with tempfile.TemporaryDirectory(dir=HOME) as wheels:
        download(wheels)
        unpack(Path(wheels), HOME)
    STAMP.write_text(VERSION + "\n")  # last: a half-unpacked folder is fetched again
    print(f"libtorch: ready in {HOME}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("interrupted; run it again to start over")
