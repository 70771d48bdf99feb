"""Files of others: changed in every way, each loader reads one or refuses it with one error. Nothing runs, nothing else is opened.

`make endurance ARGS=files` does so for ten minutes, led by what code the bytes reach where atheris is installed, by chance otherwise.
"""
import gzip
import importlib
import io
import json
import os
import pickle
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS, PATIENCE, MEMORY = 600, 20, 3 * 2**30  # of a trial, of one file, and bytes that a loader may take
DOCUMENTED = ValueError, OSError
ODD = [None, True, False, 0, 1, -1, 3.5, 1e308, float("nan"), 2**31, 2**63, 10**30, -2**63, "", "x", "..", "../../etc/passwd",
       "/etc/passwd", "a" * 5000, [],
       [[]], {}, {"a": 1}, [1e9], [10**12, 10**12], {"noise": {"start": -1}}, "mlp-1000000-1000000", "wrn-1000000-1000", "correlated",
       "F64", "BOOL", "I8", "BF16"]
NUMBERS = [b"0", b"-1", b"1e999", b"9" * 30, b"1099511627776", b"18446744073709551615", b"NaN", b"null", b"[]", b"[" * 3000, b"{}",
           b"\xff\xfe", b"\0"]


class Chance:
    "Choices from a seed; `Bytes` makes the same ones from the bytes of a fuzzer."
    def __init__(self, seed): self.rng = random.Random(seed)
    def number(self, low, high): return self.rng.randint(low, high)
    def of(self, options): return options[self.number(0, len(options) - 1)]


class Bytes(Chance):
    def __init__(self, provider): self.provider = provider
    def number(self, low, high): return self.provider.ConsumeIntInRange(low, high)


# changes

def change_value(value, choose, depth=0):
    "JSON with one entry replaced, dropped or added somewhere."
    if isinstance(value, dict) and value and choose.number(0, 9) < 9 - depth:
        key = choose.of(list(value))
        kind = choose.number(0, 9)
        changed = dict(value)
        if kind == 0: del changed[key]
        elif kind == 1: changed[choose.of(["x", "", "kind", "__class__", "self", "network", "settings", "folder", "../x"])] = choose.of(ODD)
        else: changed[key] = change_value(value[key], choose, depth + 1)
        return changed
    if isinstance(value, list) and value and choose.number(0, 9) < 8 - depth:
        changed = list(value)
        at = choose.number(0, len(value) - 1)
        changed[at] = change_value(value[at], choose, depth + 1)
        return changed * choose.of([1, 1, 1, 2, 50])
    return choose.of(ODD)


def change_bytes(raw, choose):
    "A few bytes changed, cut, doubled or replaced by an odd number."
    raw = bytearray(raw)
    for _ in range(choose.number(1, 3)):
        at, kind = choose.number(0, max(0, len(raw) - 1)), choose.number(0, 5)
        if kind == 0: raw[at:at + 1] = bytes([choose.number(0, 255)])
        elif kind == 1: del raw[at:]
        elif kind == 2: raw[at:at] = raw[max(0, at - choose.number(1, 40)):at]
        elif kind == 3: raw[at:at + choose.number(0, 8)] = choose.of(NUMBERS)
        elif kind == 4: del raw[at:at + choose.number(1, 16)]
        else: raw[at:at + 8] = choose.number(0, 2**62).to_bytes(8, choose.of(["little", "big"]))
        if not raw: break
    return bytes(raw)


def change_safetensors(raw, choose):
    "Another header, description or length of a file of tensors."
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + length])
    if choose.number(0, 2):
        about = change_value(json.loads(header["__metadata__"]["about"]), choose)
        header["__metadata__"]["about"] = json.dumps(about)
    else: header = change_value(header, choose)
    text = json.dumps(header).encode()
    return (len(text) if choose.number(0, 9) else choose.number(0, 2**62)).to_bytes(8, "little") + text + raw[8 + length:]


def change_zip(raw, choose):
    "Other names, headers and arrays in an archive."
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(buffer, "w", choose.of([zipfile.ZIP_STORED,
                                                                                          zipfile.ZIP_DEFLATED])) as new:
        for name in old.namelist():
            data = old.read(name)
            if not choose.number(0, 1): data = change_bytes(data, choose)
            if not choose.number(0, 3): data = re.sub(rb"\d+", lambda m: choose.of(NUMBERS), data, count=1)
            if not choose.number(0, 19): data = data[:128] + b"\0" * choose.of([10**6, 10**7])
            new.writestr(choose.of([name] * 8 + ["../" + name, "/" + name, "x"]), data)
    return buffer.getvalue()


def change_json(raw, choose): return json.dumps(change_value(json.loads(raw), choose)).encode()
def change_gzip(raw, choose): return gzip.compress(change_bytes(gzip.decompress(raw), choose))


# loaders, each with a sound file

class Loader:
    "How a kind of file is read. `make` writes sound ones into a folder and gives the one to change, `read` reads it."
    def __init__(self, name, make, read, *changes):
        self.name, self.make, self.read, self.changes = name, make, read, (change_bytes, *changes)


def module(name): return importlib.import_module(f"implicit_vi.{name}")
def line(): return torch.nn.Linear(2, 1)


def a_model(name, **settings):
    torch.manual_seed(0)
    model = module("methods").METHODS[name](line(), "gaussian", **settings)
    x, y = torch.randn(6, 2), torch.randn(6, 1)
    module("training").fit(model, [(x, y)], epochs=1, n_samples=2, seed=0, progress=False)
    return model


def make_model(name, **settings):
    def make(folder):
        a_model(name, **settings).save(folder/"m.safetensors")
        return folder/"m.safetensors"
    return make


def read_model(name):
    def read(path):
        method = module("methods").METHODS[name]
        model = method.load(path, line())
        assert all(t.numel() < 10**6 for t in model.state_dict().values())
    return read


def make_samples(folder):
    model = module("reparameterise").Layout({"weight": (1, 2), "bias": (1,)})
    module("samples").WeightSamples(torch.zeros(4, 3), model, {"norm.mean": torch.zeros(4, 2)}).save(folder/"s.safetensors")
    return folder/"s.safetensors"


def make_trained(folder):
    trained = module("trained")
    rows = trained.Rows(torch.randn(8, 3), torch.randn(8, 1))
    trained.prepare(rows, "mlp-4", "livi", generator="mlp").save(folder/"t.safetensors")
    return folder/"t.safetensors"


def small():
    torch.manual_seed(0)
    return module("point").MAP(line(), "gaussian")


def go_on(model, path):
    x, y = torch.ones(6, 2), torch.ones(6, 1)
    module("training").fit(model, [(x, y)], epochs=2, seed=0, checkpoint=path, progress=False)


def make_checkpoint(folder):
    go_on(small(), folder/"c.safetensors")
    return folder/"c.safetensors"


def read_checkpoint(path):
    model = small()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    numbers = torch.get_rng_state()
    try: go_on(model, path)
    except DOCUMENTED:
        assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items()), "a refused checkpoint changed the model"
        assert torch.equal(numbers, torch.get_rng_state()), "a refused checkpoint changed the random numbers"
        raise


def make_posterior(folder):
    generator = module("generators").MLPGenerator(2, [3], 4)
    module("posterior").ImplicitPosterior(generator).save(folder/"p.safetensors")
    return folder/"p.safetensors"


def read_posterior(path):
    posterior = module("posterior").ImplicitPosterior(module("generators").MLPGenerator(2, [3], 4))
    before = {name: t.clone() for name, t in posterior.state_dict().items()}
    try: posterior.load(path)
    except DOCUMENTED:
        assert all(torch.equal(t, before[name]) for name, t in posterior.state_dict().items()), "a refused file changed the posterior"
        raise


def make_npz(folder):
    np.savez(folder/"rows.npz", x=np.ones((5, 3)), y=np.arange(5))
    return folder/"rows.npz"


def idx(array): return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def make_idx(folder):
    (folder/"images").write_bytes(idx(np.zeros((3, 4, 4), np.uint8)))
    return folder/"images"


def make_gzip(folder):
    (folder/"images.gz").write_bytes(gzip.compress(idx(np.zeros((3, 4, 4), np.uint8))))
    return folder/"images.gz"


def make_set(folder):
    (folder/"KMNIST").mkdir(exist_ok=True)
    images, labels = np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.uint8)
    np.savez(folder/"MNIST.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return folder/"MNIST.npz"


def read_set(path):
    os.environ["IMPLICIT_VI_DATA"] = os.environ["XDG_CACHE_HOME"] = str(path.parent)
    module("sources").find_images("MNIST", download=False)


UCI = "data.txt", "index_features.txt", "index_target.txt", "index_test_0.txt"


def make_table(which):
    def make(folder):
        (place := folder/"uci"/"yacht").mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        np.savetxt(place/UCI[0], rng.normal(size=(308, 7)), fmt="%.4f")
        for name, numbers in zip(UCI[1:], (range(6), [6], range(31))): (place/name).write_text("\n".join(map(str, numbers)))
        return place/UCI[which]
    return make


def read_table(path):
    os.environ["IMPLICIT_VI_DATA"] = os.environ["XDG_CACHE_HOME"] = str(path.parents[2])
    data = module("data").load_uci("yacht")
    assert data.train.x.isfinite().all() and data.test.y.isfinite().all()


def make_result(folder):
    (place := folder/"results"/"toy"/"livi").mkdir(parents=True, exist_ok=True)
    module("files").save_tensors(place/"arrays.safetensors", {"x": torch.zeros(3)})
    record = dict(experiment="toy", name="livi", edition=1, parameters={"seed": 0}, metrics={"rmse": .5}, command="implicit-vi",
                  revision="abc", dirty=False,
                  versions={"torch": "2"}, hardware={"cores": 2}, begun="now", seconds=1.5)
    (place/"result.json").write_text(json.dumps(record))
    return place/"result.json"


def read_result(path):
    found = module("experiments").read_result(path.parent)
    module("experiments").runs_table([found])
    found.arrays()


YAML = b"""- experiment: toy
  parameters: {seed: [0, 1], method: livi}
  needs: {cores: 1}
- &a {experiment: toy, parameters: {seed: 1e-3}}
"""
SIZES = b"""- {noise_input: [3, 2], gen1: [4, 5]}
- {gen1: [7, 8]}
- {second_layer: [[4, 5], [4, 5]], gen1: [6, 7]}
- {gen1: 1}
"""
NOTEBOOK = {"cells": [{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ["EDITION = 1\n", "profile = 'smoke'\n",
                                                                                             "seed: int = 0\n"]}]}


def make_text(name, text):
    def make(folder):
        (folder/name).write_bytes(text)
        return folder/name
    return make


def read_runs(path):
    (path.parent.parent/"nbs").mkdir(exist_ok=True)
    module("workflow").read_table(path)


def read_yaml(path): module("runs").read_yaml(path.read_bytes().decode("utf-8", "replace"))


def read_sizes(path):
    with torch.device("meta"): module("architectures").load_generator(path)


def make_pickle(folder):
    raw = pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2]}, protocol=2)
    (folder/"batch").write_bytes(raw)
    return folder/"batch"


def read_pickle(path):
    "What CIFAR's archive holds: only the names of arrays are looked up, whatever becomes of the bytes."
    try:
        with path.open("rb") as file: module("sources")._Arrays(file, encoding="latin1").load()
    except Exception as error: raise ValueError(str(error)) from None  # it is read only where the archive's sum was right


LOADERS = [
    Loader("tensors", make_samples, lambda path: module("files").load_tensors(path), change_safetensors),
    Loader("samples", make_samples, lambda path: module("samples").WeightSamples.load(path), change_safetensors),
    Loader("posterior", make_posterior, read_posterior, change_safetensors),
    *(Loader(f"model {name}", make_model(name, **settings), read_model(name), change_safetensors)
      for name, settings in (("livi", {}), ("ensemble", {"members": 2}), ("swag", {"rank": 2, "swag_epochs": 3}), ("mfvi", {}))),
    Loader("trained", make_trained, lambda path: module("trained").load_trained(path), change_safetensors),
    Loader("checkpoint", make_checkpoint, read_checkpoint, change_safetensors),
    Loader("rows", make_npz, lambda path: module("trained").read_rows(str(path)), change_zip),
    Loader("image set", make_set, read_set, change_zip),
    Loader("idx", make_idx, lambda path: module("sources").read_idx(path)),
    Loader("idx gzipped", make_gzip, lambda path: module("sources").read_idx(path), change_gzip),
    Loader("pickle of arrays", make_pickle, read_pickle),
    *(Loader(f"table, {UCI[i]}", make_table(i), read_table) for i in range(4)),
    Loader("result", make_result, read_result, change_json),
    Loader("runs", make_text("workflow/runs.yaml", YAML), read_runs),
    Loader("yaml", make_text("x.yaml", YAML), read_yaml),
    Loader("sizes", make_text("sizes.yaml", SIZES), read_sizes),
    Loader("notebook", make_text("exp_toy.ipynb", json.dumps(NOTEBOOK).encode()), lambda path: module("parameters").read_experiment(path),
           change_json)]


# the trial

FORBIDDEN = "os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "os.fork", "shutil.unpack_archive"
watched = {"folder": None, "seen": []}


def watch(event, arguments):
    "Notes what a loader must not do: start programs, connect, look up names for pickles, write elsewhere, read other files."
    if watched["folder"] is None: return
    if event in FORBIDDEN: watched["seen"].append(f"{event} {arguments!r:.80}")
    elif event == "ctypes.dlopen" and str(arguments[0]).startswith(watched["folder"]): watched["seen"].append(f"{event} {arguments}")
    elif event == "pickle.find_class" and arguments[0].partition(".")[0] != "numpy": watched["seen"].append(f"pickle of {arguments}")
    elif event == "open" and isinstance(arguments[0], str | bytes):
        path, mode = os.path.realpath(os.fsdecode(arguments[0])), str(arguments[1])
        inside = path.startswith((watched["folder"], tempfile.gettempdir()))
        writes = any(letter in mode for letter in "wax+")
        libraries = (sys.prefix, sys.base_prefix, str(ROOT/"implicit_vi"), str(ROOT/"gen_arch_config"), "/proc", "/dev", "/sys")
        if not inside and (writes or not path.startswith(libraries)): watched["seen"].append(f"open {path} {mode}")


def sound_files(folder):
    "One of each kind, as bytes."
    made = []
    for i, loader in enumerate(LOADERS):
        (place := folder/str(i)).mkdir()
        (place/"workflow").mkdir()
        path = loader.make(place)
        loader_reads(loader, path, sound=True)
        made.append((loader, path, path.read_bytes()))
    return made


def loader_reads(loader, path, sound=False):
    try: loader.read(path)
    except (*DOCUMENTED, FloatingPointError) as error:
        assert len(str(error)) < 20_000, f"an error of {len(str(error))} characters"
        assert not sound or loader.name in ("image set", "runs"), (loader.name, error)  # which ask for sums, or for an experiment
        return False
    return True


def attempt(made, choose):
    "A changed file of some kind: whether it was read. Raises what a loader should not have raised, and where it did what it should not."
    loader, path, raw = choose.of(made)
    changed = choose.of(loader.changes)(raw, choose)
    if not choose.number(0, 3): changed = change_bytes(changed, choose)
    path.write_bytes(changed)
    watched["seen"].clear()
    watched["folder"] = str(path.parent.resolve())
    signal.alarm(PATIENCE)
    try: return loader_reads(loader, path)
    except Exception as error: raise RuntimeError(f"{loader.name}: {type(error).__name__}: {error!s:.300}") from error
    finally:
        signal.alarm(0)
        watched["folder"] = None
        path.write_bytes(raw)
        if watched["seen"]: raise RuntimeError(f"{loader.name} did what it must not: {watched['seen'][:3]}")


def limited():
    "From here on this process may take a few gibibytes more than it has, and a file may take its time, but no more."
    used = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024 if Path("/proc/self/status").exists() else 0
    if used: resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(RuntimeError(f"no end after {PATIENCE} s")))


def by_chance(made, seconds, seed):
    "Files until the time is up: how many, and what went wrong."
    wrong, times, begun = {}, 0, time.monotonic()
    while time.monotonic() - begun < seconds:
        try: attempt(made, Chance(seed + times))
        except RuntimeError as error:
            first = str(error)[:120]
            if first not in wrong: traceback.print_exc()
            wrong.setdefault(first, seed + times)
        times += 1
        if times % 2000 == 0: print(f"{times} files, {len(wrong)} kinds of trouble", flush=True)
    return times, wrong


def led(made, seconds, seed, folder):
    "The same, with atheris, in this process, which it ends."
    import atheris
    count = [0, {}]

    def one(raw):
        count[0] += 1
        try: attempt(made, Bytes(atheris.FuzzedDataProvider(raw)))
        except RuntimeError as error:
            first = str(error)[:120]
            if first not in count[1]: traceback.print_exc()
            count[1].setdefault(first, raw[:200].hex())
        if count[0] % 500 == 0: (folder/"count.json").write_text(json.dumps(count))

    corpus = folder/"corpus"
    corpus.mkdir()
    rng = random.Random(seed)
    for i in range(200): (corpus/str(i)).write_bytes(rng.randbytes(200))
    atheris.Setup([sys.argv[0], str(corpus), f"-max_total_time={seconds}", f"-seed={seed % 2**31}", "-max_len=400", "-rss_limit_mb=0",
                   "-verbosity=0"], one)
    atheris.Fuzz()


def child(seconds, seed, folder):
    folder = Path(folder)
    try:
        import atheris
        with atheris.instrument_imports(include=["implicit_vi"]):
            for path in sorted((ROOT/"implicit_vi").glob("[a-z]*.py")): module(path.stem)
    except ImportError: atheris = None
    (made_in := folder/"made").mkdir()
    made = sound_files(made_in)
    sys.addaudithook(watch)
    limited()
    (folder/"how.txt").write_text("atheris" if atheris else "chance")
    if atheris: led(made, seconds, seed, folder)
    else: (folder/"count.json").write_text(json.dumps(by_chance(made, seconds, seed)))


def main(seconds=SECONDS):
    from endurance.record import write
    seed = int(time.time())
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-m", "endurance.files", "child", str(seconds), str(seed), folder])
        counted = Path(folder)/"count.json"
        times, wrong = json.loads(counted.read_text()) if counted.exists() else (0, {})
        how = (Path(folder)/"how.txt").read_text() if (Path(folder)/"how.txt").exists() else "nothing"
    if done.returncode and not wrong: wrong = {f"the process ended with {done.returncode}": ""}
    led_by = "changed by atheris, a fuzzer led by the code that bytes reach" if how == "atheris" else \
        "changed by chance (atheris is not installed)"
    found = f"{len(wrong)} kinds of trouble: {'; '.join(wrong)}" if wrong else ""
    return write("files", f"files for {len(LOADERS)} loaders, {led_by}, for {seconds / 60:.0f} minutes (seed {seed})", times, len(wrong),
                 found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]: child(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else: sys.exit(main(*map(int, sys.argv[1:])))
