"""Serve an adapted classifier over HTTP with LitServe: photos in, classes and poses out, batched.

    pip install litserve
    python recipes/serve.py --reference my_models.py:classifier --port 8000
    curl -F "request=@photo.jpg" http://127.0.0.1:8000/predict

Everything that a server needs (workers, batches, health, timeouts) is LitServe's; what is here is how an adapted model takes
a photo and answers. It listens on the loopback address unless --host says otherwise.
"""

import argparse
import shutil
import tempfile
from typing import Any

import litserve
import torch
from fastapi import HTTPException
from torch.nn import functional as F

import equiform
from equiform.geometry.nested import first_logits
from equiform.images.files import UnreadableImage, normalised, open_image, to_tensor
from equiform.predictors.references import load_reference, normalisation


class Classifier(litserve.LitAPI):
    """An adapted classifier behind POST /predict."""

    def __init__(self, reference: str, adapter: str, size: int, **options: Any):
        super().__init__(**options)
        self.reference, self.adapter, self.side = reference, adapter, size

    def setup(self, device: str) -> None:
        predictor = load_reference(self.reference)
        self.wanted = normalisation(self.reference, predictor)
        self.model = equiform.adapt(predictor, "C4", inputs="image", outputs="logits", canonicalizer=self.adapter).to(device)

    def decode_request(self, request):  # without a type, so that LitServe hands over the form as it came
        with tempfile.NamedTemporaryFile() as file:
            shutil.copyfileobj(request["request"].file, file)
            file.flush()
            try:
                photo = to_tensor(open_image(file.name))[None].float() / 255
            except UnreadableImage as error:
                raise HTTPException(400, str(error).replace(file.name, "the photo")) from None
        square = F.interpolate(photo, (self.side, self.side), mode="bilinear", antialias=True)[0].clamp(0, 1)
        return normalised(square, self.wanted)

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(inputs)

    @torch.inference_mode()
    def predict(self, x: torch.Tensor) -> list[dict[str, Any]]:
        output, pose = self.model.predict(x.to(self.model.canonicalizer.device))
        shares = first_logits(output).softmax(1)
        degrees, _ = self.model.group.angles(pose.g.cpu())
        return [
            {"class": int(share.argmax()), "probability": float(share.max()), "turned": angle, "confidence": float(sure)}
            for share, angle, sure in zip(shares, degrees, pose.confidence, strict=True)
        ]

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", required=True, help="a classifier: timm:NAME, transformers:REPO, FILE.py:FUNCTION")
    parser.add_argument("--adapter", default="photos-c4", help="a ready-made canonicalizer, or a folder")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    api = Classifier(args.reference, args.adapter, args.size, max_batch_size=8, batch_timeout=0.02)
    litserve.LitServer(api, accelerator="auto").run(host=args.host, port=args.port, generate_client_file=False)


if __name__ == "__main__":
    main()
