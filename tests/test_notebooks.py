"The notebooks are the pages that people read, so they are kept as executed."
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent/"nbs").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_kept(notebook):
    outputs = [o for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] for o in cell.get("outputs", [])]
    assert any("image/png" in o.get("data", {}) for o in outputs), "no picture"
    assert any("text/plain" in o.get("data", {}) and "image/png" not in o["data"] for o in outputs), "no value"
    assert not any(o["output_type"] == "error" for o in outputs)
