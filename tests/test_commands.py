"The command line as a user types it: a model from a file to a prediction, and how each line ends."
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from implicit_vi.files import load_tensors, save_tensors
from implicit_vi.methods import METHODS
from implicit_vi.trained import load_trained
from implicit_vi.workflow import main

COMMAND = Path(sys.executable).with_name("implicit-vi")
ELSEWHERE = {"laplace_last": "laplace", "laplace_kron": "laplace", "flow": "zuko", "nuts": "pyro"}


@pytest.fixture
def tables(tmp_path, monkeypatch):
    "Two files in the working directory: a line with noise, and three classes."
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMPLICIT_VI_RESULTS", raising=False)
    generator = np.random.default_rng(0)
    x = generator.standard_normal((60, 4))
    np.savez("numbers.npz", x=x, y=x.sum(1))
    np.savez("classes.npz", x=x, y=x[:, :3].argmax(1))
    return tmp_path


def ends(line: str) -> int:
    "The exit status of a line in this process."
    try: return main(line.split())
    except SystemExit as e: return e.code


@pytest.mark.parametrize("method", [name for name in METHODS if name != "nuts"])
def test_every_method_goes_through_a_file(method, tables, capsys):
    if method in ELSEWHERE: pytest.importorskip(ELSEWHERE[method])
    for data, metric in (("numbers", "rmse"), ("classes", "accuracy")):
        assert ends(f"train --network mlp-4 --data {data}.npz --method {method} --epochs 1 --out m.safetensors --no-progress") == 0
        assert "nats per datum: log likelihood" in capsys.readouterr().out
        assert ends(f"evaluate m.safetensors --data {data}.npz --n-samples 5") == 0
        assert metric in json.loads(capsys.readouterr().out)
        assert ends(f"predict m.safetensors --data {data}.npz --n-samples 5 --out p.npz") == 0
        with np.load("p.npz") as found: assert np.allclose(found["total"], found["epistemic"] + found["aleatoric"], rtol=1e-3, atol=1e-5)
        assert sorted(p.name for p in tables.iterdir()) == ["classes.npz", "m.safetensors", "numbers.npz", "p.npz"]
        capsys.readouterr()


def test_a_generator_by_its_file(tables):
    part = [{"noise_input": [2, 2], "a": [2, 2]}, {"a": [5, 5]}, {"second_layer": [[2, 2], [2, 2]], "a": [3, 3]}, {"a": 1}]
    Path("own.yaml").write_text(json.dumps(part))
    assert ends("train --network mlp-4 --data numbers.npz --generator own.yaml --epochs 1 --out m.safetensors --no-progress") == 0
    assert any("trunk" in name for name in load_trained("m.safetensors").model.state_dict())


def test_a_checkpoint_goes_on(tables, capsys):
    line = "train --network mlp-4 --data numbers.npz --epochs 2 --checkpoint c.safetensors --out m.safetensors --no-progress"
    assert ends(line) == 0 and ends(line) == 0
    first, second = capsys.readouterr().out.strip().split("\n")[::2]
    assert first == second
    assert ends(line.replace("--epochs 2", "--epochs 3")) == 1 and "epochs: 2 in the file, 3 now" in capsys.readouterr().err


def test_a_file_that_describes_another_network(tables, capsys):
    assert ends("train --network mlp-4 --data numbers.npz --method map --epochs 1 --out m.safetensors --no-progress") == 0
    tensors, about = load_tensors("m.safetensors")
    for changed, told in (({"network": "mlp-5"}, "holds another model"), ({"network": None}, "does not describe its model"),
                          ({"method": "bayes"}, "does not describe its model"), ({"x": 3}, "does not describe its model")):
        save_tensors("n.safetensors", tensors, about | {"trained": about["trained"] | changed})
        assert ends("evaluate n.safetensors --data numbers.npz") == 1
        assert told in capsys.readouterr().err
    save_tensors("n.safetensors", {"a": torch.zeros(1)})
    assert ends("evaluate n.safetensors --data numbers.npz") == 1 and "does not say which network" in capsys.readouterr().err


def test_lines_that_cannot_be_understood_end_with_2(tables):
    train = "train --network mlp-4 --data numbers.npz --out m"
    for line in ("train", f"{train} --method bayes", f"{train} --epochs 0", f"{train} --device nowhere", f"{train} --antithetic yes",
                 "predict m --data numbers.npz", "evaluate m --data digits --split all"): assert ends(line) == 2, line


def test_from_a_shell(tables):
    def typed(line):
        environment = os.environ | {"IN_TEST": "1"}
        return subprocess.run([COMMAND, *line.split()], capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    assert ends("train --network mlp-4 --data classes.npz --method map --epochs 1 --out m.safetensors") == 0
    done = typed("evaluate m.safetensors --data classes.npz")
    assert done.returncode == 0 and json.loads(done.stdout)["rows"] == 60, done.stderr
    failed = typed("evaluate m.safetensors --data numbers.npz")
    assert failed.returncode == 1 and failed.stdout == ""
    assert failed.stderr == "implicit-vi: the model predicts classes, and y holds torch.float32\n"
