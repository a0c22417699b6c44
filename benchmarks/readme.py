"""Write the committed figures into the README and the docs, between their comments."""

import json
import re
import tempfile
from pathlib import Path

import angles
import canonicalization
import choosing
import cifar10_oracle
import cost
import deploy
import exports
import first_screen
import folders
import products
import ready_models
import shifts
import sizes
import text
import text_or_photo
import volumes
from common import HERE, RESULTS
from equiform.evaluation import OrbitReport

PAGES_OF_DOCS = ("choose", "measured", "text", "angles", "shifts", "volumes", "sizes", "folders", "deploy")
PAGES = [
    HERE.parent / "README.md",
    *(HERE.parent / "docs" / f"{name}.md" for name in PAGES_OF_DOCS),
]


def figures(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def report(data: dict) -> OrbitReport:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        path.write_text(json.dumps(data), encoding="utf-8")
        return OrbitReport.load(path)


def exactness() -> str:
    counts = figures("exactness")["equal_of_total"]
    equal = [sum(row[name][0] for row in counts.values() for name in row if name != "bare")]
    total = [sum(row[name][1] for row in counts.values() for name in row if name != "bare")]
    return f"{equal[0]:,} of {total[0]:,} answers equal to the bit, over {', '.join(counts)}"


def cifar10() -> str:
    def at(r: OrbitReport, name: str, called: str = "") -> str:
        return f"{r[name].mean:.3f} {called or name} ({r[name].time:.1f}x the time)"

    c4, c8 = (report(figures("cifar10")[name]["report"]) for name in ("C4", "C8"))
    default = at(report(figures("cifar10-orbit")["C4"]["report"]), "adapted", "with the default network instead")
    parts = []
    for name, r, cheaper in (("C4", c4, [default, at(c4, "group convolutions")]), ("C8", c8, [])):
        means = [f"{r['bare'].mean:.3f} bare", at(r, "adapted"), *cheaper, at(r, "training-free")]
        parts.append(f"{name}: mean {', '.join(means)}, upright {r.upright_of('bare'):.3f}")
    return f"{'; '.join(parts)} ({c4.num_samples:,} images)"


def of_cifar10_oracle() -> str:
    data = figures("cifar10_oracle")
    parts = []
    for setting, name in (("bilinear, black corners",) * 2, ("brought back bicubic, reflect", "bicubic, reflected corners")):
        row = data["settings"][setting]["mean"]
        known = (
            f"{row['oracle']:.3f} with the true pose, {row['adapted']:.3f} adapted, {row['coverage 0.9']:.3f} with coverage 0.9"
        )
        parts.append(f"{name}: {known}")
    return f"{'; '.join(parts)} ({data['num_images']:,} images)"


def ready() -> str:
    parts = []
    for name, measured in figures("ready")["files"].items():
        found = ", ".join(
            f"{row['pose_accuracy']:.3f} ({label}, {row['photos']} photos)" for label, row in measured["sets"].items()
        )
        parts.append(f"{name}: pose found{' within 10 degrees' if 'so2' in name else ''} {found}")
    return "; ".join(parts)


def sources() -> str:
    data = figures("sources")
    rows = sorted(data["sources"].items(), key=lambda item: item[1]["pose_accuracy"])
    by_source = ", ".join(f"{row['pose_accuracy']:.2f} {name}" for name, row in rows)
    return f"{data['pose_accuracy']:.3f} of {data['photos']:,} photos ({by_source})"


def upright() -> str:
    data = figures("upright")
    parts = []
    for row in data["runs"].values():
        options = f"`{' '.join(row['options'])}`" if row["options"] else "as it is"
        wrong = f"{row['turned before']} wrong before, {row['wrong after']} after, {row['upright and turned']} of them made so"
        parts.append(f"{options}: {wrong}, {row['left alone']} left alone, {row['photos_a_second']:.0f} photos a second")
    return f"{data['photos']:,} photos, {data['counted']:,} of them, not fitted on, count; {'; '.join(parts)}"


def of_sizes() -> str:
    data = figures("sizes")
    shown = []
    for key, score, name in (("black", "top1", "MobileNetV2 top-1"), ("detection", "ap50", "FastestDet AP50")):
        half, double = (data[key]["by_size"][size] for size in ("0.5", "2.0"))
        at = [f"{row['bare'][score]:.3f} bare, {row['adapted'][score]:.3f} adapted" for row in (half, double)]
        shown.append(f"{name}: at half the size {at[0]}, at twice the size {at[1]}")
    return f"{'; '.join(shown)} ({data['num_photos']} photos, {data['detection']['num_photos']} for detection)"


def of_shifts() -> str:
    data = figures("shifts")["MobileNetV2, Imagenette"]
    parts = []
    for way, name in (("cyclic", "cyclic"), ("true", "with new pixels coming in")):
        bare, adapted = (data[method][f"changes_{way}"] for method in ("bare", "seam"))
        parts.append(f"{name}: another class for {bare:.1%} bare, {adapted:.1%} adapted")
    return f"MobileNetV2, {'; '.join(parts)} ({data['photos']} photos)"


def of_volumes() -> str:
    found = figures("volumes")["O"]
    dice, poses = found["dice"], found["poses"]
    bare, adapted = dice["bare"]["mean"], dice["adapted"]["mean"]
    low, high = dice["adapted"]["interval"]
    return (
        f"over O {bare:.3f} bare, {adapted:.3f} adapted ({low:.2f} to {high:.2f}), upright {dice['bare']['upright']:.3f} "
        f"({found['test']} bodies); "
        f"{poses['right']} of {poses['bodies']} poses found"
    )


def peer() -> str:
    data = figures("peer-c4")
    parts = []
    for library, rows in data.items():
        if library.startswith("equi"):
            best = max(rows, key=lambda name: rows[name]["orbit_mean"])
            row = rows[best]
            error = row["logits_error_quarter_turns"]["max"]
            cost = row["cost"]["256"]["ratio"]
            parts.append(f"{library}: mean {row['orbit_mean']:.3f}, error {error:.1g}, {cost:.1f}x the predictor's time")
    return f"{'; '.join(parts)} ({data['num_test']:,} images, {data['steps']} steps)"


def sam_overhead() -> str:
    encoder = figures("cost")["predictors"]["SAM ViT-B, encoder"]
    added = encoder["batches"]["1"][cost.DEFAULT]["added"]
    return f"{encoder['added_parameters'][cost.DEFAULT]:.2%} of the encoder's parameters, {added:.1%} of its time"


def pointclouds() -> str:
    rows = figures("pointclouds")["accuracy"]
    bare, augmented, adapted = (rows[name] for name in ("bare", "rotation augmentation", "search, frozen, 1 pose"))
    cost = figures("pointclouds-cost")["over_dgcnn_32_clouds"]["search"]
    return (
        f"upright {bare['upright']:.3f}; under any rotation {bare['SO3']:.3f} bare, {adapted['SO3']:.3f} adapted, "
        f"{augmented['SO3']:.3f} with rotation augmentation instead (150 clouds, 3 draws); {cost:.1%} of a DGCNN's time"
    )


def nbody() -> str:
    data = figures("nbody")
    names = ("plain network", "adapted to E(3)", "rotation augmentation", "the same, averaged over 8 frames")
    plain, adapted, augmented, averaged = (data["rows"][name]["test_mse"] for name in names)
    share = f"{data['share_of_their_steps']:.0%} of the EGNN paper's steps"
    return (
        f"test MSE {plain:.4f} plain, {adapted:.4f} adapted to E(3), {augmented:.4f} with rotation augmentation instead "
        f"({averaged:.4f} averaged over 8 frames), 2,000 systems, after {share}"
    )


CELLS = {
    "pointclouds": pointclouds,
    "nbody": nbody,
    "exactness": exactness,
    "cifar10": cifar10,
    "cifar10_oracle": of_cifar10_oracle,
    "peer": peer,
    "ready": ready,
    "volumes": of_volumes,
    "shifts": of_shifts,
    "sizes": of_sizes,
    "sources": sources,
    "upright": upright,
    "sam_overhead": sam_overhead,
}


# what stands between the comments `table: NAME` and `end`
TABLES = {
    "first-words": lambda: first_screen.words(figures),
    "first-rows": lambda: first_screen.rows(figures),
    "first-costs": lambda: first_screen.costs(figures),
    "first-gains": lambda: first_screen.gains(figures),
    "choose": lambda: choosing.table(figures),
    "ready-models": lambda: ready_models.table(figures("ready-models")),
    "cost": lambda: cost.table(figures("cost")),
    "text": lambda: text.table(figures("text")),
    "text-or-photo": lambda: text_or_photo.table(figures("text_or_photo")),
    "angles": lambda: angles.table(figures("angles")),
    "resampling": lambda: cifar10_oracle.table(figures("cifar10_oracle")),
    "shifts": lambda: shifts.markdown(figures("shifts")),
    "sizes": lambda: sizes.table(figures("sizes")),
    "size-errors": lambda: sizes.error_table(figures("sizes")),
    "products": lambda: products.table(figures("products")),
    "volumes": lambda: volumes.table(figures("volumes")),
    "folders": lambda: folders.table(figures("folders")),
    "exports": lambda: exports.table(figures("exports")),
    "deploy": lambda: deploy.table(figures("deploy")),
    "canonicalization": lambda: canonicalization.table(figures("canonicalization")),
}


def filled(page: str) -> str:
    """The page with its tables and cells from the committed figures; those that it has no comment for are not looked at."""
    for name, make in TABLES.items():
        block = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        page = re.sub(block, lambda m, make=make: f"{m[1]}{make()}\n{m[2]}", page, flags=re.DOTALL)
    for name, make in CELLS.items():
        page = re.sub(rf"(<!-- {name} -->)[^|\n]*\|", lambda m, make=make: f"{m[1]} {make()} |", page)
    return page


def main() -> None:
    for path in PAGES:
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
