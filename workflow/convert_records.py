"""Converts the records of before to readable names, and checks that no number changed: `python workflow/convert_records.py`.

`--check` only compares the records with those of a revision: `python workflow/convert_records.py --check REVISION`.
"""
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load

from implicit_vi.experiments import read_result, write_runs
from implicit_vi.parameters import check_parameters, find_experiment, run_name

GONE = "given", "code", "accepted", "run"
RESULTS = Path("results")


def converted(old: dict) -> dict:
    "A record in the new form."
    experiment = find_experiment(old["experiment"])
    name = run_name(check_parameters(experiment, old["given"]), experiment.defaults, 1)
    return {"experiment": old["experiment"], "name": name, "edition": 1} | {k: v for k, v in old.items() if k not in (*GONE, "experiment")}


def convert() -> None:
    for path in sorted(RESULTS.glob("*/*/result.json")):
        old = json.loads(path.read_text(encoding="utf-8"))
        if "edition" in old: continue
        new = converted(old)
        folder = path.parent.with_name(new["name"])
        if folder.exists(): raise SystemExit(f"{path.parent} and another record would both be {folder}")
        subprocess.run(["git", "mv", path.parent, folder], check=True)
        (folder / "result.json").write_text(json.dumps(new, indent=1), encoding="utf-8")
    for name in sorted(path.name for path in RESULTS.iterdir() if (path / "runs.csv").exists() or any(path.glob("*/result.json"))):
        print(write_runs(name))


def same(a, b) -> bool:
    "Whether two values of JSON are the same to the bit."
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def check(revision: str) -> int:
    "Compare every record with the one it was made from, in git; prints what was compared."
    tar = subprocess.run(["git", "archive", revision, "results"], check=True, capture_output=True).stdout
    files = {}
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive.getmembers():
            if member.isfile(): files[member.name] = archive.extractfile(member).read()
    count = dict.fromkeys(["records", "parameters", "metrics", "other entries", "arrays", "numbers in arrays",
                           "files of arrays identical"], 0)
    wrong = []
    for name in sorted(n for n in files if n.endswith("/result.json")):
        old = json.loads(files[name])
        new = vars(read_result(RESULTS / old["experiment"] / converted(old)["name"])).copy()
        folder = new.pop("folder")
        count["records"] += 1
        for part in ("parameters", "metrics"):
            count[part] += len(old[part])
            if list(old[part]) != list(new[part]): wrong.append(f"{folder}: names of {part}")
            wrong += [f"{folder}: {part} {k}" for k in old[part] if not same(old[part][k], new[part].get(k))]
        others = {k for k in old if k not in (*GONE, "parameters", "metrics")}
        count["other entries"] += len(others)
        wrong += [f"{folder}: {k}" for k in others if k not in new or not same(old[k], new[k])]
        wrong += [f"{folder}: {k} is new" for k in set(new) - set(old) - {"name", "edition"}]
        before = files[name.replace("result.json", "arrays.safetensors")]
        count["files of arrays identical"] += before == (folder / "arrays.safetensors").read_bytes()
        arrays = load(before)
        with safe_open(folder / "arrays.safetensors", "pt") as f:
            if set(f.keys()) != set(arrays): wrong.append(f"{folder}: names of arrays")
            for k, array in arrays.items():
                now = f.get_tensor(k)
                count["arrays"] += 1
                count["numbers in arrays"] += array.numel()
                bits = [t.contiguous().flatten().view(torch.uint8) for t in (array, now)]
                if array.dtype != now.dtype or array.shape != now.shape or not bits[0].equal(bits[1]): wrong.append(f"{folder}: array {k}")
    if len(list(RESULTS.glob("*/*/result.json"))) != count["records"]: wrong.append("there are other records besides")
    print("compared with", revision + ":", ", ".join(f"{n:,} {what}" for what, n in count.items()))
    print("\n".join(wrong) if wrong else "nothing changed: every parameter, metric, entry and array is the same to the bit")
    return int(bool(wrong))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]: sys.exit(check(sys.argv[2]))
    convert()
    sys.exit(check("HEAD"))
