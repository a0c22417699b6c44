"""Aerial LiDAR objects (DALES, 1,024 points) and a PointNet that knows them upright: its accuracy as they turn.

The canonicalizer is fitted on the unlabelled train clouds with the predictor frozen, then jointly on their labels. Beside it:
the bare predictor, rotation augmentation of the same predictor, principal axes, frame averaging, a vector-neuron frame, and
VNSmall of equiadapt 0.1.2 (in an environment of its own, see peer.py). All choices were made on parts of the train clouds.
`--cost` measures time instead, relative to a DGCNN forward on the same clouds, taken in turn.
"""

import argparse
import contextlib
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import common
import peer
from equiform import FrameCanonicalizer, act, adapt, fit, group, load
from equiform.canonicalizers import PrincipalAxesCanonicalizer, SearchCanonicalizer
from equiform.learning import fit_opinion

sys.path.insert(0, str(common.HERE.parent))
from recipes.dgcnn import DGCNN

DRAWS = 3  # random elements each test cloud is moved by


def clouds(source: Path) -> dict[str, Tensor]:
    """The clouds as the predictor takes them, centred and scaled to the unit ball, and their labels."""
    data = dict(np.load(source))
    found = {}
    for part in ("train", "test"):
        x = torch.from_numpy(data[f"x_{part}"]).float()
        x = x - x.mean(1, keepdim=True)
        found[part] = x / x.norm(dim=-1).amax(1)[:, None, None]
        found[f"{part}_labels"] = torch.from_numpy(data[f"y_{part}"]).long()
    return found


def moved(x: Tensor) -> dict[str, Tensor]:
    """The test clouds under the three protocols, with the seed fixed."""
    found = {"upright": x[None]}
    for name, which in (("z", "SO2z"), ("SO3", "SO3")):
        generator = torch.Generator().manual_seed(0)
        found[name] = torch.stack([act(group(which).random(len(x), generator), x, "points") for _ in range(DRAWS)])
    return found


@torch.no_grad()
def accuracy(model: Callable[[Tensor], Tensor], tests: dict[str, Tensor], labels: Tensor) -> dict[str, float]:
    if isinstance(model, nn.Module):
        model.eval()
    return {
        name: float(torch.stack([(model(x).argmax(1) == labels).float().mean() for x in draws]).mean())
        for name, draws in tests.items()
    }


def augmented(predictor: nn.Module, x: Tensor, labels: Tensor, epochs: int, lr: float, seed: int) -> nn.Module:
    """The same predictor trained on, with every cloud turned at will at every step (SO3/SO3)."""
    network, generator = copy.deepcopy(predictor).train().requires_grad_(True), torch.Generator().manual_seed(seed)
    steps = epochs * -(-len(x) // 32)
    optimizer = torch.optim.AdamW(network.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, cycle_momentum=False)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(32):
            batch = act(group("SO3").random(len(rows), generator), x[rows], "points")
            loss = F.cross_entropy(network(batch), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@contextlib.contextmanager
def peers_side(
    data: dict[str, Tensor], tests: dict[str, Tensor], args: argparse.Namespace
) -> Iterator[tuple[list, Path, Path]]:
    """The command that starts the peer in its own environment, where it leaves its figures, and its log."""
    with tempfile.TemporaryDirectory() as scratch:
        tensors, result = Path(scratch) / "clouds.safetensors", Path(scratch) / "peer.json"
        parts = {"train": data["train"], "labels": data["test_labels"]} | tests
        save_file({name: tensor.contiguous() for name, tensor in parts.items()}, tensors)
        log = common.results("pointclouds", args.out).with_suffix(".log")
        worker = [peer.environment(args.environment, log), "-W", "ignore", common.HERE / "equiadapt_clouds.py"]
        options = {"clouds": tensors, "out": result, "predictors": common.DATA, "predictor": args.predictor}
        options |= {"seconds": args.peer_seconds, "seed": args.seed}
        yield [*worker, *[str(part) for name, value in options.items() for part in (f"--{name}", value)]], result, log
        log.unlink(missing_ok=True)


def theirs(data: dict[str, Tensor], tests: dict[str, Tensor], args: argparse.Namespace) -> dict[str, Any]:
    """Accuracy of the peer."""
    with peers_side(data, tests, args) as (command, result, log):
        peer.logged(command, log)
        return json.loads(result.read_text())


@contextlib.contextmanager
def their_seconds(data: dict[str, Tensor], tests: dict[str, Tensor], args: argparse.Namespace) -> Iterator[Callable[[], float]]:
    """A function that has the peer canonicalize the clouds once, in a process that stays, and gives the seconds it took."""
    with peers_side(data, tests, args) as (command, _, log), log.open("w") as file:
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": file, "text": True}
        worker: Any = subprocess.Popen([*command, "--cost"], **pipes)

        def ask() -> float:
            try:
                print(file=worker.stdin, flush=True)
                return float(worker.stdout.readline())
            except (BrokenPipeError, ValueError):
                sys.exit(f"the peer could not be run: {log} has what it said")

        try:
            yield ask
        finally:
            worker.kill()
            worker.wait()


def cost(x: Tensor, rounds: int, peers: Callable[[], float] | None) -> dict[str, float]:
    """Seconds of canonicalizing the clouds over those of a DGCNN forward of the same, median of rounds taken in turn."""
    network = DGCNN(5).eval()

    def seconds(method: Callable[[Tensor], Any]) -> float:
        start = time.perf_counter()
        method(x)
        return time.perf_counter() - start

    clocks: dict[str, Callable[[], float]] = {"dgcnn": lambda: seconds(network)}
    for make in (SearchCanonicalizer, FrameCanonicalizer, PrincipalAxesCanonicalizer):
        method = adapt(nn.Identity(), "SO3", outputs="points", canonicalizer=make("SO3").eval())
        clocks[make.name] = lambda method=method: seconds(method)
    if peers is not None:
        clocks["equiadapt 0.1.2 VNSmall"] = peers
    with torch.no_grad():
        found = [{name: clock() for name, clock in clocks.items()} for _ in range(rounds + 1)][1:]  # the first warms up
    return {name: statistics.median(one[name] / one["dgcnn"] for one in found) for name in clocks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--predictor", default="pointnet_dales", help="a network beside the project")
    parser.add_argument("--epochs", type=int, help="of the canonicalizer, on unlabelled clouds; by default its own")
    parser.add_argument("--joint-epochs", type=int, default=10)
    parser.add_argument("--frame-epochs", type=int, default=30)
    parser.add_argument("--augmented-epochs", type=int, default=30)
    parser.add_argument("--peer-seconds", type=float, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--environment", type=Path, default=common.HERE.parent / ".venv-peer")
    parser.add_argument("--adapter", type=Path, help="keep the fitted canonicalizer here, or take it from here")
    parser.add_argument("--without-peer", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.cost:
        common.keep_memory(OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    data = clouds(args.data or common.shared("data/pointclouds/dales500_1024.npz"))
    tests, labels = moved(data["test"]), data["test_labels"]
    if args.cost:
        peers = contextlib.nullcontext() if args.without_peer else their_seconds(data, tests, args)
        with peers as ask:
            figures = {"over_dgcnn_32_clouds": cost(data["test"][:32], args.rounds, ask), "rounds": args.rounds}
        print(json.dumps(figures, indent=1))
        print("figures in", common.keep("pointclouds-cost", figures, args.out))
        return
    predictor = common.predictor(args.predictor)
    rows: dict[str, Any] = {}
    budget = {name: getattr(args, name) for name in ("epochs", "joint_epochs", "frame_epochs", "augmented_epochs", "seed")}

    def keep() -> Path:
        return common.keep("pointclouds", {"accuracy": rows, "draws": DRAWS, **budget}, args.out)

    def note(name: str, model: Callable[[Tensor], Tensor]) -> None:
        rows[name] = accuracy(model, tests, labels)
        print(f"{name:42}", "  ".join(f"{key} {value:.3f}" for key, value in rows[name].items()), flush=True)
        keep()

    def adapted(canonicalizer: Any, top_k: int = 1) -> Any:
        return adapt(predictor, "SO3", outputs="logits", canonicalizer=canonicalizer, top_k=top_k)

    note("bare", predictor)
    note("principal axes", adapted(PrincipalAxesCanonicalizer("SO3")))
    note("frame averaging", adapted(PrincipalAxesCanonicalizer("SO3", scores="equal"), top_k=4))
    torch.manual_seed(args.seed)
    fit_seconds = None  # of one that was fitted before there are none
    if args.adapter and (args.adapter / "config.json").exists():
        model = load(args.adapter, predictor)
    else:
        model, start = adapted(SearchCanonicalizer("SO3")), time.perf_counter()
        fit(model, data["train"], prior="upright", epochs=args.epochs, seed=args.seed)
        fit_seconds = round(time.perf_counter() - start, 1)
        if args.adapter:
            model.save(args.adapter)
    for top_k in (1, 4, 24):
        model.top_k = top_k
        note(f"search, frozen, {top_k} pose{'s' * (top_k > 1)}", model)
    if fit_seconds is not None:
        rows["search, frozen, 1 pose"]["fit_seconds"] = fit_seconds
    fit_opinion(model, data["train"], prior="upright")
    for top_k in (4, 24):
        model.top_k = top_k
        note(f"search, frozen, {top_k} poses, second opinion", model)
    model.opinion = None
    torch.manual_seed(args.seed)
    frame = adapted(FrameCanonicalizer("SO3"))
    fit(frame, data["train"], prior="upright", epochs=args.frame_epochs, seed=args.seed)
    note("vector-neuron frame, frozen", frame)
    note(
        "rotation augmentation",
        augmented(predictor, data["train"], data["train_labels"], args.augmented_epochs, 1e-3, args.seed),
    )
    joint = copy.deepcopy(model)
    joint.top_k = 1
    fit(
        joint,
        (data["train"], data["train_labels"]),
        task_loss=F.cross_entropy,
        train_predictor=True,
        prior="upright",
        epochs=args.joint_epochs,
        lr=3e-4,
        seed=args.seed,
    )
    for top_k in (1, 4):
        joint.top_k = top_k
        note(f"search, joint, {top_k} pose{'s' * (top_k > 1)}", joint)
    if not args.without_peer:
        rows["equiadapt 0.1.2 VNSmall"] = theirs(data, tests, args)
        print(rows["equiadapt 0.1.2 VNSmall"])
    print("figures in", keep())


if __name__ == "__main__":
    main()
