"""What canonicalization adds to Segment Anything: parameters, and time beside the image encoder's forward.

SAM ViT-B's architecture at 1,024 pixels with random weights: the time does not depend on them, and nothing is said of accuracy.

    python benchmarks/sam_overhead.py --rounds 5
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

import common
import equiform
from equiform import OrbitCanonicalizer, act, inverse
from equiform._optional import optional


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--height", type=int, default=1365, help="of the photo, before the processor makes it 1,024 pixels")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    return parser.parse_args()


def seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    transformers = optional("transformers", "transformers")
    sam = transformers.SamModel(transformers.SamConfig()).eval()  # the default configuration is ViT-B
    canonicalizer = OrbitCanonicalizer("C4").eval()
    pixels = torch.rand(1, 3, 1024, 1024)
    photo = torch.randint(256, (1, 3, args.height, args.width), dtype=torch.uint8)

    def canonicalize() -> None:
        pose = canonicalizer(photo)
        # at worst both ways: the photo brought back by a quarter turn, three masks turned again
        upright = act(inverse(canonicalizer.elements[1:2]), photo)
        masks = torch.zeros(1, 3, *upright.shape[-2:], dtype=torch.bool)
        act(canonicalizer.elements[1:2], masks, "mask")
        assert len(pose.index) == 1

    times: list[tuple[float, float]] = []
    with torch.inference_mode():
        for i in range(args.rounds + 1):
            pair = (seconds(lambda: sam.get_image_embeddings(pixels)), seconds(canonicalize))
            if i:  # the first round warms up
                times.append(pair)
                print(f"round {i}: {100 * pair[1] / pair[0]:.2f} % of the encoder's time", flush=True)

    parameters = {
        "sam": sum(p.numel() for p in sam.parameters()),
        "encoder": sum(p.numel() for p in sam.vision_encoder.parameters()),
        "canonicalizer": sum(p.numel() for p in canonicalizer.parameters()),
    }
    figures = {
        "equiform": equiform.__version__,
        "weights": "random: timing only",
        "photo": [args.height, args.width],
        "rounds": args.rounds,
        "parameters": parameters,
        "added_parameters": parameters["canonicalizer"] / parameters["encoder"],
        "added_time": statistics.median(mine / encoder for encoder, mine in times),
        "added_time_each_round": [mine / encoder for encoder, mine in times],
    }
    print(f"added parameters: {figures['added_parameters']:.2%} of the encoder's; added time: {figures['added_time']:.2%}")
    print("figures in", common.keep("sam_overhead", figures, args.out))


if __name__ == "__main__":
    main()
