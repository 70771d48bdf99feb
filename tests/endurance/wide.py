"The generator of the 36.5 million weights of WRN-28-10 in one process and in two: seconds of a step, of the processor, and memory."
import json
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from endurance.ranks import ended, launch
from endurance.record import write
from lightning_fabric import Fabric

from implicit_vi.architectures import derive_generator
from implicit_vi.networks import WideResNet
from implicit_vi.posterior import ImplicitPosterior

STEPS = 3


class Timed(torch.optim.Adam):
    "Adam that notes when its steps begin."
    moments: list = []
    def step(self):
        self.moments.append(time.process_time())
        return super().step()


def train(folder: Path, count: int) -> None:
    "Some steps as one of some processes towards a normal density, and what they took."
    torch.set_num_threads(1)
    fabric = Fabric(accelerator="cpu", devices=count)
    fabric.launch()
    torch.manual_seed(fabric.global_rank)
    with torch.device("meta"): network = WideResNet(28, 10, 100)
    posterior = ImplicitPosterior(derive_generator(network))
    posterior.fit(lambda theta: -theta.square().sum(1) / 2, steps=STEPS, n_samples=1, optimiser=Timed, progress=False, fabric=fabric)
    seconds = (Timed.moments[-1] - Timed.moments[0]) / (STEPS - 1)
    sums = [p.double().sum().item() for p in posterior.parameters()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    size = sum(p.numel() for p in posterior.parameters()) * 4 / 1e9
    (folder/f"{count}-{fabric.global_rank}.json").write_text(json.dumps(dict(seconds=seconds, GB=peak, sums=sums, parameters=size)))


def main() -> int:
    with TemporaryDirectory() as place:
        folder = Path(place)
        statuses = [status for count in (1, 2) for status in ended(launch(train, count, folder, count), seconds=500)]
        if any(status != 0 for status in statuses):
            said = [(folder/f"said-{rank}").read_text()[-500:] for rank in range(2)]
            return write("wide", "the generator of 36.5 million weights in two processes", 0, 1, f"statuses {statuses}: {said}")
        alone, *both = [json.loads((folder/f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1")]
    most = max(one["GB"] for one in both)
    found = f"{alone['parameters']:.2f} GB of parameters; a step took {alone['seconds']:.1f} s of the processor alone and " \
        f"{both[0]['seconds']:.1f} s of each in two; at most {alone['GB']:.1f} GB alone, {most:.1f} GB in each of two"
    what = "a step with the generator of the 36.5 million weights of WRN-28-10, alone and in two processes, whose parameters stay equal"
    return write("wide", what, times=2*STEPS, lost=int(both[0]["sums"] != both[1]["sums"]), found=found)


if __name__ == "__main__": sys.exit(main())
