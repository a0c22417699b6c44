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


def check(predictor, x, outputs):
    model = adapt(predictor, "D4", outputs=outputs, canonicalizer=OrbitCanonicalizer("D4", resolution=16))
    for i in range(len(x)):  # one by one: a photo that is not square may end on either canvas
        assert equivariance_error(model, x[i : i + 1], "D4", outputs=outputs).max() == 0
    assert equivariance_error(predictor, x, "D4", outputs=outputs).max() > 0.1  # control


def test_onnx_runtime_session(x):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
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


def test_a_program_is_a_predictor(x):
    code = "import sys, json; v = json.load(sys.stdin); print(json.dumps([[r[0][0][0], r[0][0][-1]] for r in v]))"

    def predictor(image):
        answer = subprocess.run(
            [sys.executable, "-c", code], input=json.dumps(image.tolist()), capture_output=True, text=True, check=True
        )
        return torch.tensor(json.loads(answer.stdout))

    model = adapt(predictor, "C4", outputs="invariant", canonicalizer=OrbitCanonicalizer("C4", resolution=16))
    expected = model(x[:1])
    for g in model.group.elements:
        assert torch.equal(model(act(g[None], x[:1])), expected)
    assert not torch.equal(predictor(act(model.group.elements[1:2], x[:1])), predictor(x[:1]))


def test_a_remote_service_is_a_predictor(x):
    class Service(BaseHTTPRequestHandler):
        def do_POST(self):
            values = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.dumps([row[0][0] for row in values]).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"

        def predictor(image):
            request = urllib.request.Request(address, json.dumps(image.tolist()).encode())
            with urllib.request.urlopen(request, timeout=10) as answer:
                return {"first row": torch.tensor(json.load(answer))[:, :12]}

        model = adapt(predictor, "C4", outputs="invariant", canonicalizer=OrbitCanonicalizer("C4", resolution=16))
        expected = model(x[:1])["first row"]
        for g in model.group.elements:
            assert torch.equal(model(act(g[None], x[:1]))["first row"], expected)
        server.shutdown()
