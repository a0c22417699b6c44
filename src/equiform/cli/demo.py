"""The demonstration: real handwritten digits, a classifier that only knows them upright, and what adapting it gains."""

from pathlib import Path

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from .._optional import beside_torchvision, optional
from ..canonicalizers.orbit import OrbitCanonicalizer
from ..equivariant import Equivariant, adapt
from ..evaluation.evaluate import BASELINES, evaluate
from ..evaluation.report import OrbitReport
from ..learning.fitting import fit, quiet

NUM_TEST = 597
SIDE = 16
ANGLES = list(range(0, 360, 15))  # of the picture: all that it shows is measured
FEW = 200  # digits measured at all of them
REPORTS, ACCURACY, DIGITS = ("report.html", "report.json", "report.csv"), "accuracy.png", "digits.png"
WRITTEN, ADAPTER = (*REPORTS, ACCURACY, DIGITS), "adapter"


class DigitClassifier(nn.Module):
    """A small convolutional network from digits (b, 1, 16, 16) to ten logits."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for into, out in ((1, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(into, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(128 * 4, 10)

    def forward(self, x: Float[Tensor, "b 1 16 16"]) -> Float[Tensor, "b 10"]:
        return self.classifier(self.features(x).flatten(1))


def digits() -> tuple[Float[Tensor, "n 1 16 16"], Tensor]:
    """The 1,797 scans of handwritten digits that ship inside scikit-learn, in a fixed random order, at twice their size.

    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998.
    """
    data = optional("sklearn.datasets", "demo").load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(data.images).float()[:, None] / 16
    large = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return large[order], torch.from_numpy(data.target).long()[order]


def train_classifier(images: Tensor, labels: Tensor, epochs: int = 12, seed: int = 0) -> DigitClassifier:
    """A classifier trained on upright digits alone, by the same trainer as a canonicalizer."""
    with beside_torchvision():
        import lightning

    class Training(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = DigitClassifier()

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return F.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=2e-3)

    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        loader = DataLoader(TensorDataset(images, labels), 64, shuffle=True)
        trainer = lightning.Trainer(
            max_epochs=epochs, logger=False, enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False
        )
        training = Training()
        trainer.fit(training, loader)
    return training.network.eval()


def run(out: Path, seed: int = 0, *, classifier_epochs: int = 12, epochs: int = 40) -> OrbitReport:
    """Train, break, adapt, measure; print the table and write the report, its pictures and the adapter.

    Takes a minute or two on two cores. Returns the report.
    """
    console = Console()
    images, labels = digits()
    test, train = (images[:NUM_TEST], labels[:NUM_TEST]), (images[NUM_TEST:], labels[NUM_TEST:])

    console.print(f"[bold]1[/] Training a classifier on {len(train[0])} upright digits ...")
    predictor = train_classifier(*train, epochs=classifier_epochs, seed=seed)

    console.print("[bold]2[/] Adapting it: a canonicalizer learns what upright digits look like. No labels, no classifier ...")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        canonicalizer = OrbitCanonicalizer("C4", resolution=SIDE, channels=1)
    model = adapt(predictor, "C4", outputs="logits", canonicalizer=canonicalizer)
    fit(model, train[0], epochs=epochs, seed=seed)

    console.print(f"[bold]3[/] Measuring on {len(test[0])} other digits, turned by 0, 90, 180 and 270 degrees ...")
    doubtful = Equivariant(predictor, canonicalizer, model.inputs, model.outputs, coverage=0.9)
    report = evaluate(model, test, baselines=BASELINES, others={"coverage 0.9": doubtful})
    console.print()
    console.print(report if console.is_terminal else str(report), highlight=False, soft_wrap=not console.is_terminal)
    bare = report["bare"]
    console.print(
        f"\nTurned digits: [bold]{bare.mean:.1%}[/] right without equiform, [bold]{report.mean:.1%}[/] with it. "
        "Some digits have no one pose (0, 1, 8; a turned 6 is a 9): no canonicalizer can be right about all of them.\n"
        "A classifier this small makes every canonicalizer look expensive; see the README for the cost on a real one.\n"
    )
    model.save(out / ADAPTER)
    for name in REPORTS:
        report.save(out / name)
    few = tuple(part[:FEW] for part in test)
    console.print(f"[bold]4[/] Measuring {FEW} of them at {len(ANGLES)} angles, for the picture ...")
    around = evaluate(model, few, group=ANGLES, baselines=["bare"], others={"coverage 0.9": doubtful})
    around.plot(out / ACCURACY)
    console.print(
        f"At {len(ANGLES)} angles: {around['bare'].mean:.1%} without, {around.mean:.1%} with it, "
        "since C4 undoes quarter turns alone."
    )
    report.plot_samples(out / DIGITS)
    console.print(f"Open [bold]{out / 'report.html'}[/] for the pictures. The adapter is in {out / ADAPTER}.")
    return report
