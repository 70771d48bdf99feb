"The sizes of large generators: the ten files, whatever else a file may hold, the built wheel, and sizes derived from networks."
import os
import pickle
import random
import re
import subprocess
import sys
import time
from copy import deepcopy
from itertools import islice
from math import prod
from pathlib import Path
from shutil import copy, copytree

import pytest
import torch
import yaml

from implicit_vi import networks
from implicit_vi.architectures import ArchitectureError, derive_generator, known_architectures, load_generator
from implicit_vi.generators import CorreMMGenerator, IndependentGenerator, fan_in_sd
from implicit_vi.linearise import linearise
from implicit_vi.reparameterise import Layout, Reparameterised

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 2  # that a file may take to load or to be refused
EVERY = 1 if os.environ.get("SLOW") else 5  # file of those that may be anything

# latent, first and last matrix of the trunk, sub-generators, values they read, hidden layers, outputs, parameters; all of one copy
STATED = {
    "cifar100_gen_arch": ((95, 95), (250, 500), (983, 250), 15, 245_750, 15, 36_520_000, 66_413_125),
    "cifar100_gen_arch2": ((195, 195), (250, 500), (400, 387), 10, 154_800, 10, 9_250_000, 20_733_300),
    "cifar100_gen_arch3": ((95, 95), (250, 500), (370, 610), 25, 225_700, 25, 36_619_480, 75_801_930),
    "cifar100_gen_arch4": ((95, 95), (250, 500), (983, 250), 15, 245_750, 25, 36_520_000, 71_724_750),
    "cifar100_gen_arch5": ((65, 65), (250, 500), (983, 250), 15, 245_750, 15, 36_520_000, 56_559_625),
    "cifar100_gen_arch7": ((45, 45), (250, 500), (370, 610), 25, 225_700, 44, 36_619_480, 94_849_930),
    "cifar_gen_arch2": ((150, 100), (250, 500), (600, 650), 15, 390_000, 15, 2_800_000, 17_405_000),
    "cifar_gen_arch3": ((150, 150), (200, 200), (250, 291), 9, 72_750, 9, 916_500, 3_765_000),
    "cifar_gen_architecture": ((95, 95), (250, 500), (983, 250), 15, 245_750, 23, 2_750_500, 11_835_200),
    "cifar_gen_test": ((5, 5), (25, 25), (125, 102), 5, 12_750, 6, 290_500, 1_152_600),
}


def mappings(name):
    with open(ROOT/f'gen_arch_config/{name}.yaml') as f: input_size, output_size, hidden_units, num_hidden_layers = yaml.safe_load(f)
    return input_size, output_size, hidden_units, num_hidden_layers


def wide_resnet_weights(depth, widen, classes):
    "Of convolutions without bias, shortcuts where the width changes, and the linear layer."
    count, width = 3 * 16 * 9, 16
    for stage in range(3):
        for _block in range((depth - 4) // 6):
            wide = 16 * widen * 2**stage
            count += 9 * width * wide + 9 * wide * wide + (width * wide if width != wide else 0)
            width = wide
    return count + classes * (width + 1)


def test_every_file_is_named():
    assert set(known_architectures()) == set(STATED) == {p.stem for p in (ROOT/"gen_arch_config").glob("*.yaml")}


@pytest.mark.parametrize("name", STATED)
def test_four_mappings_hold_the_stated_sizes(name):
    inputs, outputs, hidden, layers = mappings(name)
    latent, first, last, count, reads, depth, makes, _ = STATED[name]
    subs = [f"gen{i + 1}" for i in range(count)]
    assert [*inputs] == ["noise_input", *subs] and [*hidden] == ["second_layer", *subs] and [*outputs] == [*layers] == subs
    assert (inputs["noise_input"], hidden["second_layer"]) == ([*latent], [[*first], [*last]])
    assert sum(prod(inputs[n]) for n in subs) == reads == prod(last)
    assert sum(layers.values()) == depth and sum(map(prod, outputs.values())) == makes


@pytest.mark.parametrize("name", STATED)
def test_each_makes_the_weights_of_its_network(name):
    stated = known_architectures()[name]
    with torch.device("meta"):
        network = getattr(networks, stated["network"])(*stated["arguments"])
        generator = load_generator(name)
        theta = generator(torch.randn(2, generator.latent_dim))
    assert sum(p.numel() for p in network.parameters()) == stated["num_weights"] == generator.num_weights == theta.shape[1]
    if stated["network"] == "WideResNet": assert stated["num_weights"] == wide_resnet_weights(*stated["arguments"])
    copies = generator.generators if isinstance(generator, IndependentGenerator) else [generator]
    assert len(copies) == stated["copies"] and all(isinstance(c, CorreMMGenerator) for c in copies)
    inputs, outputs, hidden, layers = mappings(name)
    for one in copies:
        assert sum(p.numel() for p in one.parameters()) == STATED[name][-1]
        assert one.latent_shape == tuple(inputs["noise_input"])
        assert [list(layer.out_shape) for layer in one.trunk] == hidden["second_layer"]
        for sub, key in zip(one.slices.generators, outputs, strict=True):
            assert [list(layer.in_shape) for layer in sub.layers] == [inputs[key]] + [hidden[key]] * (layers[key] + 1)
            assert list(sub.layers[-1].out_shape) == outputs[key]
        assert all(sub.num_weights == prod(sub.layers[-1].out_shape) for sub in one.slices.generators[:-1])
    assert max(c.num_weights for c in copies) - min(c.num_weights for c in copies) <= 1


def test_the_largest_generates():
    start = time.process_time()
    with torch.no_grad(): theta = load_generator("cifar100_gen_arch")(torch.randn(1, 95 * 95))
    assert theta.shape == (1, 36_518_932) and theta.isfinite().all() and time.process_time() - start < 30


def test_a_file_elsewhere_makes_all_its_outputs_unless_told(tmp_path):
    path = Path(copy(ROOT/"gen_arch_config/cifar_gen_test.yaml", tmp_path/"mine.yaml"))
    for where in (path, str(path)): assert load_generator(where).num_weights == 290_500
    assert load_generator(path, num_weights=250_001).num_weights == 250_001
    assert load_generator(path, copies=2).num_weights == 581_000
    (tmp_path/"networks.yml").write_text("mine: {network: MLP, arguments: [], num_weights: 199999, copies: 1}")
    assert load_generator(path).num_weights == 199_999
    (tmp_path/"networks.yml").write_text("mine: {network: MLP, arguments: []}")
    with pytest.raises(ArchitectureError, match=r"networks.yml .*\n- 'mine' must have the entries"): load_generator(path)


@pytest.mark.parametrize("where", ["cifar_gen", "gen_arch_config/absent.yaml", Path("absent"), "/", "..", "", "a" * 5000, "\0"])
def test_a_missing_file_says_where_and_what_there_is(where):
    with pytest.raises(FileNotFoundError) as raised: load_generator(where)
    assert all(name in str(raised.value) for name in STATED) and str(Path(where)).strip(".") in str(raised.value)


def test_one_error_says_everything(tmp_path):
    inputs, outputs, hidden, layers = mappings("cifar_gen_test")
    hidden["second_layer"][1] = [125, 103]
    outputs["gen2"], layers["gen3"] = [200, 0], 1.5
    del layers["gen5"]
    path = tmp_path/"wrong.yaml"
    path.write_text(yaml.safe_dump([inputs, outputs, hidden, layers]))
    with pytest.raises(ValueError) as raised: load_generator(path)
    said = str(raised.value)
    assert len(raised.value.problems) == 4 == said.count("\n- ") and said.startswith(str(path))
    for part in ("125×103 = 12,875 values", "read 12,750", "[200, 0]", "got 1.5", "num_hidden_layers has no entry for 'gen5'"):
        assert part in said
    assert str(pickle.loads(pickle.dumps(raised.value))) == said


SMALL = b"""# a file
- noise_input: [3, 2]
  gen1: [4, 5]
  gen2: [5, 6]
- gen1: [7, 8]
  gen2: [20, 10]
- second_layer: [[4, 5], [10, 5]]
  gen1: [6, 7]
  gen2: [8, 8]
- gen1: 1
  gen2: 2
"""
BOMB = "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(30))
ODD = [None, True, -1, 0, 1, 3.5, float("nan"), float("inf"), 10**9, 10**30, "", "gen1", "25", [], [25], [25, 10, 3], [0, 10], [25, "10"],
       [[25, 10]], [True, True], [1e3, 2], {}, {"a": 1}, {1: 2}, {None: 3}, [100_000, 100_000], [[250, 500], [983, 250]], [[1]],
       [None, None]]
NUMBERS = [b"0", b"-1", b"1", b"2", b"1e3", b"0x10", b"017", b"1_0", b"9999999", b"9" * 400, b"",
           b"a", b"[1]", b"{}", b"~", b"*a", b"&a 1", b"1:30"]
TEXTS = [
    "", "\0", "\ufeff", "---\n---\n", "...", "%YAML 9.9\n---\n", "- {}\n" * 4, "- [\n" * 50, "- " * 15_000, "? " * 15_000, "{a: " * 8000,
    "[" * 30_000, "{" * 30_000, "[" + "1," * 16_000 + "1]", "- " + "9" * 30_000, "- 0x" + "f" * 30_000, "- " + "1:" * 15_000 + "1",
    "#" * 100_000, "x" * 10**6, "{" + ", ".join(f"k{i}: {i}" for i in range(2500)) + "}", "{" + "a: 1," * 6000 + "}",
    "- 1e999999", "- 2001-99-99", "- 0b_", "- !!int ''", "- !!bool maybe", "- !!timestamp x", "- !!binary '*'", "- !!float []",
    "- !!python/object/apply:os.system [exit]", "- !!python/name:os.system", "- !<tag:yaml.org,2002:python/object/new:os.system> [exit]",
    "- !" + "a" * 20_000 + " b", "- &a [*a]", "&a [*a, *a]", "- *nobody", "- {<<: [{a: 1}, 2]}", "- <<", "- =", "!!str &a {=: *a}",
    "- ? [a]\n  : 1", "- ? {a: 1}\n  : 1", "- a: 1\n\tb: 2", "- 'unfinished", "a0: &a0 [0]\n" + BOMB,
    "a0: &a0 {x: 0}\n" + BOMB.replace("[", "{<<: [").replace("]", "]}"), "[{a0: &a0 [0],\n" + BOMB.replace("\n", ",\n") + "}, {}, {}, {}]",
    "[" + ", ".join("{" + ", ".join(f"gen{i}: [1, 1]" for i in range(400)) + "}" for _ in range(4)) + "]"]


def spoil(data, choice):
    "Four mappings with one to three changes anywhere."
    for _ in range(choice.randint(1, 3)):
        part = choice.choice(data)
        if not isinstance(part, dict) or not part: break
        key = choice.choice([*part])
        value, kind = part[key], choice.randrange(9)
        if kind == 0: del part[key]
        elif kind == 1: part[key] = choice.choice(ODD)
        elif kind == 2: part[choice.choice(["gen3", "gen1 ", "", 5, None, "second_layer", "noise_input"])] = part.pop(key)
        elif kind == 3 and isinstance(value, list) and value: value[choice.randrange(len(value))] = choice.choice(ODD)
        elif kind == 4: part[key] = {"nested": value}
        elif kind == 5: part.update({f"more{i}": choice.choice(ODD) for i in range(choice.randrange(20))})
        elif kind == 6: data[choice.randrange(len(data))] = choice.choice(ODD)
        elif kind == 7: choice.shuffle(data)
        else: data.insert(choice.randrange(5), data.pop(choice.randrange(len(data))))
    return data


def cases():
    "More than 3000 files: trouble for YAML, odd values, changed mappings, cut text, changed numbers, changed bytes."
    choice = random.Random(0)
    for text in TEXTS: yield text.encode("utf-8")
    for value in ODD: yield yaml.safe_dump(value).encode()
    fast, small = getattr(yaml, "CSafeDumper", yaml.SafeDumper), yaml.safe_load(SMALL)
    for _ in range(1100): yield yaml.dump(spoil(deepcopy(small), choice), sort_keys=False, Dumper=fast).encode()
    for whole in (SMALL, (ROOT/"gen_arch_config/cifar_gen_test.yaml").read_bytes()):
        for end in range(0, len(whole), 1 + len(whole) // 150): yield whole[:end]
    places = list(re.finditer(rb"\d+", SMALL))
    for _ in range(800):
        at = choice.choice(places)
        yield SMALL[:at.start()] + choice.choice(NUMBERS) + SMALL[at.end():]
    for _ in range(1000):
        text = bytearray(SMALL)
        for _ in range(choice.randint(1, 4)):
            text[choice.randrange(len(text))] = choice.choice([choice.randrange(256), *b"[]{}:,-#&*!|>'\"%@\n\t "])
        yield bytes(text)


def test_any_file_loads_or_is_refused(tmp_path):
    "Each either makes a generator or raises the one error, soon; nothing runs and nothing large is made."
    with torch.device("meta"): load_generator("cifar_gen_test")  # the first tensor without memory takes PyTorch a second
    path, count, loaded, slowest, began = tmp_path/"any.yaml", 0, 0, 0., time.process_time()
    for text in islice(cases(), None, None, EVERY):
        path.write_bytes(text)
        start = time.process_time()
        try:
            with torch.device("meta"): generator = load_generator(path)
            loaded += 1
            assert isinstance(generator, CorreMMGenerator) and sum(p.numel() for p in generator.parameters()) <= 10**9
        except ArchitectureError as error:
            assert error.problems and len(str(error)) < 20_000 and str(path) in str(error), text[:200]
        slowest, count = max(slowest, time.process_time() - start), count + 1
    seconds = time.process_time() - began
    assert count >= 3000 / EVERY and 100 / EVERY < loaded < count / 2, (count, loaded)
    assert slowest < SECONDS and seconds < 20, (slowest, seconds)


def test_an_absurd_file_costs_no_memory(tmp_path):
    "Sizes are checked on this device, not on one without memory."
    path = tmp_path/"absurd.yaml"
    huge = [100_000, 100_000]
    path.write_text(yaml.safe_dump([{"noise_input": huge, "a": huge}, {"a": huge}, {"second_layer": [huge, huge], "a": huge}, {"a": 100}]))
    with pytest.raises(ArchitectureError, match=r"would have 4,160,000,000,000 parameters, more than 1,000,000,000"): load_generator(path)
    os.mkfifo(tmp_path/"pipe.yaml")
    with pytest.raises(FileNotFoundError): load_generator(tmp_path/"pipe.yaml")


INSTALLED = """
import torch
from pathlib import Path
import implicit_vi
from implicit_vi.architectures import known_architectures, load_generator
with torch.device("meta"): generator = load_generator("cifar100_gen_arch")
print(Path(implicit_vi.__file__).parent, len(known_architectures()), generator.num_weights, sep="\\n")
"""


@pytest.mark.skipif(not os.environ.get("SLOW"), reason="builds and installs a wheel: make test-all")
def test_a_wheel_brings_the_files(tmp_path):
    source = tmp_path/"source"
    source.mkdir()
    for name in ("setup.py", "settings.ini", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"): copy(ROOT/name, source)
    for name in ("implicit_vi", "gen_arch_config"): copytree(ROOT/name, source/name)
    for command in (["wheel", "--no-build-isolation", "--wheel-dir", tmp_path/"wheels", source], ["install", "--target", tmp_path/"site"]):
        command += [*tmp_path.glob("wheels/*.whl")]
        subprocess.run([sys.executable, "-m", "pip", *map(str, command), "--quiet", "--no-deps", "--no-index"], check=True, cwd=tmp_path)
    done = subprocess.run([sys.executable, "-c", INSTALLED], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path/"site")},
        capture_output=True, text=True)
    assert done.stdout.splitlines() == [str(tmp_path/"site/implicit_vi"), str(len(STATED)), "36518932"], done.stderr


@pytest.mark.parametrize("weights", [1, 2, 7, 105, 1000, 10_000, 44_426, 99_991, 300_000, 2_745_274, 10**7, 36_518_932])
def test_derived_sizes_are_reasonable(weights):
    with torch.device("meta"):
        generator = derive_generator(Layout({"weights": (weights,)}))
        theta = generator(torch.randn(3, generator.latent_dim))
    assert theta.shape == (3, weights)
    assert sum(p.numel() for p in generator.parameters()) <= 2.5 * weights + 5000
    made = [g.num_weights for g in generator.slices.generators]
    assert max(made) <= 1.3 * min(made) + 1
    for g in generator.slices.generators:
        rows, columns = g.layers[-1].out_shape
        assert rows <= columns <= rows + 2 and 0 <= rows * columns - g.num_weights < rows


@pytest.mark.parametrize("latent", [None, (10, 40), (1, 7), (60, 60)])
@pytest.mark.parametrize("blocks", [None, 1, 2, 3, 5, 17, 64])
def test_derived_for_any_latent_and_number_of_blocks(latent, blocks):
    layout = Layout({"a": (64, 3, 5, 5), "a_bias": (64,), "scale": (), "b": (200, 333), "b_bias": (200,)})
    with torch.device("meta"):
        generator = derive_generator(layout, latent_shape=latent, num_blocks=blocks)
        assert generator(torch.randn(generator.latent_dim)).shape == (layout.num_weights,)
    assert latent is None or generator.latent_shape == latent
    assert blocks is None or len(generator.slices.generators) == blocks
    chain = [generator.latent_shape, *(layer.out_shape for layer in generator.trunk)]
    assert all(a <= b for one, two in zip(chain, chain[1:]) for a, b in zip(one, two))


def test_blocks_end_where_tensors_end():
    layout = Layout({f"layer{i}.{name}": shape for i in range(6) for name, shape in (("weight", (50, 39)), ("bias", (50,)))})
    with torch.device("meta"): generator = derive_generator(layout, num_blocks=6)
    assert [g.num_weights for g in generator.slices.generators] == [2000] * 6


@pytest.mark.parametrize("network", [networks.LeNet5(), networks.MLP([30, 40, 5])], ids=["LeNet5", "MLP"])
def test_derived_generator_serves_its_network(network):
    torch.manual_seed(0)
    stochastic = Reparameterised(network)
    generator = derive_generator(network)
    assert generator.num_weights == derive_generator(stochastic).num_weights == derive_generator(stochastic.layout).num_weights
    std = fan_in_sd(stochastic.layout)
    generator.initialise(stochastic.initial, std)
    with torch.no_grad(): theta = generator(torch.randn(500, generator.latent_dim))
    for name, part in stochastic.layout.unflatten((theta.var(0) / std**2).sqrt()).items(): assert 0.8 < part.mean() < 1.2, name
    z, t = torch.randn(2, generator.latent_dim), torch.randn(2, generator.latent_dim)
    products = linearise(generator, z)
    torch.testing.assert_close(products.vjp(products.jvp(t)), products.gram(t), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("wrong, message", [
    (dict(num_blocks=0), "num_blocks must be from 1 to 10"), (dict(num_blocks=11), "got 11"), (dict(num_hidden=-1), "got -1"),
    (dict(latent_shape=(3,)), r"two positive sizes, got \(3,\)"), (dict(latent_shape=(3, 0)), r"got \(3, 0\)")])
def test_derivation_refuses_what_cannot_be(wrong, message):
    with pytest.raises(ValueError, match=message): derive_generator(Layout({"w": (10,)}), **wrong)
    with pytest.raises(ValueError, match="no weights"): derive_generator(torch.nn.ReLU())
