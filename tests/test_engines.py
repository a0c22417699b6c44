"""Predictors that are no modules: an ONNX Runtime session, a program, a remote service. Only a forward is needed."""

import json
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
import torch

from equiform import OrbitCanonicalizer, act, adapt
from equiform.testing import equivariance_error


@pytest.fixture
def x():
    return torch.rand(3, 3, 12, 17)


def check(predictor, x, outputs, group="D4"):
    model = adapt(predictor, group, outputs=outputs, canonicalizer=OrbitCanonicalizer(group, resolution=16))
    for i in range(len(x)):  # one by one: a photo that is not square may end on either canvas
        assert equivariance_error(model, x[i : i + 1], group, outputs=outputs).max() == 0
    assert equivariance_error(predictor, x, group, outputs=outputs).max() > 0.1  # control
    return model


def test_onnx_runtime_session(x):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    helper, float_type = onnx.helper, onnx.TensorProto.FLOAT
    weight = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [node],
        "convolution",
        [helper.make_tensor_value_info("x", float_type, ["b", 3, "h", "w_"])],
        [helper.make_tensor_value_info("y", float_type, ["b", 2, "h", "w_"])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])

    def predictor(image):
        return session.run(None, {"x": image.numpy()})[0]

    check(predictor, x, "mask")
    model = adapt(predictor, "C4", outputs="mask", canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    assert isinstance(model(x), np.ndarray)


# plain Python, as another program would be: how much brighter a pixel is than its left neighbour, and the brightest pixel
ENGINE = """
def answer(photos):
    maps = [[[[v - u for u, v in zip([0] + row, row)] for row in photo[0]]] for photo in photos]
    places = [max((v, i, j) for i, row in enumerate(m[0]) for j, v in enumerate(row)) for m in maps]
    return {"map": maps, "place": [[[j + 0.5, i + 0.5]] for _, i, j in places]}
"""
ANSWERS = {"map": "image", "place": "points"}


def tensors(text):
    return {name: torch.tensor(values) for name, values in json.loads(text).items()}


@pytest.mark.slow
def test_a_program_is_a_predictor(x):
    program = f"import json, sys\n{ENGINE}\nprint(json.dumps(answer(json.load(sys.stdin))))"

    def predictor(image):
        command = [sys.executable, "-S", "-c", program]
        done = subprocess.run(command, input=json.dumps(image.tolist()), capture_output=True, text=True, check=True)
        return tensors(done.stdout)

    model = check(predictor, x[:1], ANSWERS, "C4")
    turned = [act(g[None], photo[None])[0] for g, photo in zip(model.group.elements[[1, 3, 1]], x, strict=True)]
    together, alone = model(torch.stack(turned)), [model(photo[None]) for photo in turned]
    assert torch.equal(together["place"], torch.cat([answer["place"] for answer in alone])), "a batch is one call per canvas"


def test_a_remote_service_is_a_predictor(x):
    scope = {}
    exec(ENGINE, scope)

    class Service(BaseHTTPRequestHandler):
        def do_POST(self):
            photos = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(scope["answer"](photos)).encode())

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def predictor(image):
            request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}", json.dumps(image.tolist()).encode())
            with urllib.request.urlopen(request, timeout=10) as answer:
                return tensors(answer.read())

        try:
            check(predictor, x, ANSWERS)
        finally:
            server.shutdown()
