"Each protection against files of others, by itself; `make endurance ARGS=files` changes files for ten minutes."
import gzip
import io
import json
import os
import pickle
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from endurance import files as trial
from torch import nn

from implicit_vi import sources
from implicit_vi.bnn import BNN, ImplicitBNN
from implicit_vi.data import load_uci
from implicit_vi.files import load_tensors, save_tensors
from implicit_vi.runs import read_yaml
from implicit_vi.samples import WeightSamples
from implicit_vi.sources import find_images, read_idx
from implicit_vi.strangers import within
from implicit_vi.trained import load_trained, prepare, read_rows
from implicit_vi.workflow import read_table


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    torch.manual_seed(0)
    return trial.sound_files(tmp_path_factory.mktemp("sound"))


def test_changed_files_are_read_or_refused(sound):
    sys.addaudithook(trial.watch)
    read = [trial.attempt(sound, trial.Chance(seed)) for seed in range(150)]
    assert 5 < sum(read) < 100


def test_the_trial_sees_what_must_not_happen(sound, tmp_path):
    sys.addaudithook(trial.watch)
    for bad in (lambda path: os.system("true"), lambda path: pickle.loads(pickle.dumps(print)), lambda path: open("/etc/hostname"),
                lambda path: 1 / 0):
        loader = trial.Loader("bad", None, bad)
        with pytest.raises(RuntimeError, match="did what it must not|ZeroDivisionError"):
            trial.attempt([(loader, tmp_path/"x", b"abc")], trial.Chance(0))


# tensors

def safetensors(header, data=b"", length=None):
    text = json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("raw", [
    safetensors({}, length=2**62), safetensors({}, length=10**8 + 1), safetensors({"x": {"dtype": "F64", "shape": [10**12],
                                                                                         "data_offsets": [0, 8 * 10**12]}}),
    safetensors({"x": {"dtype": "F64", "shape": [2**62, 2**62], "data_offsets": [0, 8]}}, b"\0" * 8),
    safetensors({"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 8]}}, b"\0" * 8), pickle.dumps(print), b"PK\3\4", b""])
def test_claims_of_tensors_are_not_believed(tmp_path, raw):
    (tmp_path/"x.safetensors").write_bytes(raw)
    with pytest.raises(ValueError, match="is not a whole file"): load_tensors(tmp_path/"x.safetensors")


def changed(path, **notes):
    tensors, about = load_tensors(path)
    save_tensors(path, tensors, about | notes)
    return path


def test_draws_and_their_statistics_must_fit(tmp_path):
    WeightSamples(torch.zeros(3, 2), None, {"mean": torch.zeros(2, 5)}).save(tmp_path/"s")
    with pytest.raises(ValueError, match="3 draws, and not as many values of mean"): WeightSamples.load(tmp_path/"s")


def test_a_model_takes_no_more_memory_than_its_file_can_ask_for(tmp_path):
    ImplicitBNN(nn.Linear(2, 1), "gaussian", components=2).save(tmp_path/"m")
    for settings in ({"components": 10**12}, {"components": 10**5}):
        _, about = load_tensors(tmp_path/"m")
        made = about["made"] | {"settings": about["made"]["settings"] | settings}
        with pytest.raises(ValueError, match="names .* components, and holds"):
            ImplicitBNN.load(changed(tmp_path/"m", made=made), nn.Linear(2, 1))
    with pytest.raises(ValueError, match="more than 5 numbers"), within(5): torch.empty(2, 3)
    with within(5): torch.empty(2, 2)


@pytest.mark.parametrize("notes", [{"made": 3}, {"made": {"settings": []}}, {"made": {"settings": {"spread": "wide"}}},
                                   {"made": {"settings": {"none": 1}}},
    {"made": {"settings": {"noise": {"none": 1}}}}, {"history": 5}, {"history": [5]}])
def test_a_damaged_description_of_a_model_is_one_error(tmp_path, notes):
    ImplicitBNN(nn.Linear(2, 1), "gaussian").save(tmp_path/"m")
    with pytest.raises(ValueError): ImplicitBNN.load(changed(tmp_path/"m", **notes), nn.Linear(2, 1))


def test_a_refused_file_changes_nothing(tmp_path):
    model = BNN(nn.Linear(2, 1), "gaussian")
    model.save(tmp_path/"m")
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(ValueError): model._take_on(changed(tmp_path/"m", history="none"))
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items()) and model.history == []


@pytest.fixture
def trained(tmp_path):
    rows = read_rows(str(trial.make_npz(tmp_path)))
    prepare(rows._replace(y=rows.y.float()[:, None]), "mlp-4").save(tmp_path/"t")
    return tmp_path/"t"


@pytest.mark.parametrize("change", [{"network": "mlp-1000000-1000000"}, {"network": "wrn-100000-1000", "shape": [3, 32, 32]},
                                    {"network": 3}, {"outputs": 10**12},
    {"outputs": -1}, {"shape": [10**12]}, {"shape": ["x"]}, {"shape": 3}, {"x": [[float("nan")], [1.]]}, {"x": [[0.],
    [0.]]}, {"x": [[0.] * 5,
    [1.] * 5]}, {"y": 3},
    {"method": "none"}, {"generator": "../secret.yaml"}, {"generator": "/etc/passwd"}, {"generator": "mm", "generator_file": "x"},
    {"generator": "own", "generator_file": "- [" * 100}])
def test_what_a_trained_model_says_of_itself_is_checked(trained, change):
    load_trained(trained)
    _, about = load_tensors(trained)
    with pytest.raises(ValueError): load_trained(changed(trained, trained=about["trained"] | change))


def test_a_model_opens_no_other_file(trained, tmp_path):
    "The sizes of a generator travel within the file."
    (tmp_path/"secret.yaml").write_bytes(trial.SIZES)
    _, about = load_tensors(trained)
    with pytest.raises(ValueError, match="no generator is called"):
        load_trained(changed(trained, trained=about["trained"] | {"generator": str(tmp_path/"secret.yaml")}))


# arrays

def npy(header, data=b""): return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def archive(name, data, how=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as file: file.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize("raw,match", [
    (archive("x.npy", npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}")), "claims 8,000,000,000,000 bytes"),
    (archive("x.npy", npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps(print))), "only numbers"),
    (archive("x.npy", npy(b"{'descr': '<U9', 'fortran_order': False, 'shape': (1,)}", b"\0" * 36)), "only numbers"),
    (archive("x.npy", npy(b"__import__('os').system('true')")), "no npz file"), (archive("../x.npy", npy(b"")),
                                                                                 "needs an array x"), (b"PK\3\4", "no npz file")])
def test_claims_of_arrays_are_not_believed(tmp_path, raw, match):
    (tmp_path/"x.npz").write_bytes(raw)
    with pytest.raises(ValueError, match=match): read_rows(str(tmp_path/"x.npz"))


def test_a_zip_of_zeros_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("implicit_vi.strangers.FREE", 10**6)
    np.savez_compressed(tmp_path/"x.npz", x=np.zeros((10**4, 100)))
    with pytest.raises(ValueError, match="claims 8,000,000 bytes and holds"): read_rows(str(tmp_path/"x.npz"))


@pytest.mark.parametrize("zipped", [False, True])
def test_claims_of_idx_files_are_not_believed(tmp_path, zipped, monkeypatch):
    raw = bytes([0, 0, 8, 3]) + np.array([2**31, 2**10, 2**10], ">u4").tobytes()
    (tmp_path/"x").write_bytes(gzip.compress(raw) if zipped else raw)
    with pytest.raises(ValueError, match="claims 2,251,799,813,685,248 bytes"): read_idx(tmp_path/"x")
    monkeypatch.setattr("implicit_vi.strangers.FREE", 10**5)
    with pytest.raises(ValueError, match="claims 1,000,000 bytes"): read_idx(gzip.compress(trial.idx(np.zeros(10**6, np.uint8))))


def test_a_pickle_of_images_can_name_arrays_only(monkeypatch, tmp_path):
    "Even if the sum were right: the pickles of CIFAR look up nothing else."
    class Trojan:
        def __reduce__(self): return os.mkdir, (str(tmp_path/"was here"),)
    def tar(content):
        with tarfile.open(tmp_path/"cifar.tar.gz", "w:gz") as file:
            for name in ("data_batch_1", "test_batch"):
                raw = pickle.dumps(content, protocol=2)
                (entry := tarfile.TarInfo(f"../../{name}")).size = len(raw)
                file.addfile(entry, io.BytesIO(raw))
        return [tmp_path/"cifar.tar.gz"]
    with pytest.raises(pickle.UnpicklingError, match="names (posix|nt).mkdir"): sources._read_cifar(tar(Trojan()))
    assert not (tmp_path/"was here").exists()
    read = sources._read_cifar(tar({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2]}))
    assert read[0].shape == (2, 32, 32, 3) and [*tmp_path.iterdir()] == [tmp_path/"cifar.tar.gz"]


def test_links_and_devices_in_an_archive_are_passed_over(tmp_path):
    with tarfile.open(tmp_path/"a.tar.gz", "w:gz") as file:
        for kind, name in ((tarfile.SYMTYPE, "test_batch"), (tarfile.CHRTYPE, "data_batch_1"), (tarfile.LNKTYPE, "A/x.png"),
                           (tarfile.FIFOTYPE, "A/y.png")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            file.addfile(entry)
    with pytest.raises(ValueError): sources._read_cifar([tmp_path/"a.tar.gz"])  # there is nothing to join
    with pytest.raises(ValueError): sources._read_notmnist([tmp_path/"a.tar.gz"])


@pytest.mark.parametrize("which,text,match", [(0, "1 2 nan 4 5 6 7\n" * 308, "finite"), (0, "1 2\n1\n", "no table of numbers"), (0,
    "\xff", "no text in UTF-8"),
    (1, "0\n1\n2\n3\n4\n99", "columns"), (1, "0\n1\n2\n3\n4\n-1", "columns"), (3, "9" * 40, "no table of numbers|should hold"),
    (2, "", "features")])
def test_a_table_of_numbers_is_checked(tmp_path, monkeypatch, which, text, match):
    monkeypatch.setenv("IMPLICIT_VI_DATA", str(tmp_path))
    path = trial.make_table(which)(tmp_path)
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError, match=match): load_uci("yacht")


def test_a_set_of_images_with_pickles_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("IMPLICIT_VI_DATA", str(tmp_path))
    np.savez(tmp_path/"MNIST.npz", **{key: np.array([{}], dtype=object) for key in sources._KEYS})
    with pytest.raises(ValueError, match="only numbers are read"): find_images("MNIST", download=False)


# descriptions

BOMB = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9))


@pytest.mark.parametrize("text", [BOMB, "&a [*a]", "[" * 5000, "!!python/object/apply:os.system [exit]", "x" * 2**21, "{", "- 2001-99-99",
                                  "- !!int x"])
def test_yaml_of_others_is_plain_and_small(text):
    with pytest.raises(ValueError, match="YAML"): read_yaml(text)


@pytest.mark.parametrize("text,match", [("5", "list of rows"), ("- {experiment: toy, parameters: 3}", "are tables"),
                                        ("- {experiment: toy, 3: 4}", "words"),
    ("- {experiment: toy, parameters: {a: [" + "1," * 200 + "], b: [" + "1," * 200 + "]}}", "40,000 runs")])
def test_a_table_of_runs_is_checked(tmp_path, monkeypatch, text, match):
    (tmp_path/"nbs").mkdir()
    (tmp_path/"workflow").mkdir()
    (tmp_path/"nbs"/"exp_toy.ipynb").write_text(json.dumps(trial.NOTEBOOK))
    (tmp_path/"workflow"/"runs.yaml").write_text(text)
    with pytest.raises(ValueError, match=match): read_table(tmp_path/"workflow"/"runs.yaml")


@pytest.mark.parametrize("text", ["[" * 10**5, "{}", '{"folder": "/etc"}', "null", "\xff"])
def test_a_damaged_record_is_one_error(tmp_path, text):
    path = trial.make_result(tmp_path)
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError, match="is damaged|no text"): trial.read_result(path)


def test_a_record_cannot_say_where_it_is(tmp_path):
    path = trial.make_result(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"folder": "/etc"}))
    with pytest.raises(ValueError, match="a name of ours"): trial.read_result(path)
