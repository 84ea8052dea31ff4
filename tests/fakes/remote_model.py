"""A model behind the Open Inference Protocol as a process of its own, small enough to be seen through: y = x @ w, w from a seed.

``python tests/fakes/remote_model.py --model net`` prints its port. It has ``/v2/health/ready``, the model's ready and metadata, infer, and
with ``--metrics`` a Prometheus page of Triton's names. ``--seed`` is what a redeployment would change. ``--silent-metadata`` lists no
tensors. ``--certificate`` is a file with a key and a certificate: it speaks TLS. ``--wants`` is an Authorization header without which it
answers with 401, and says what it was sent instead.
"""

from __future__ import annotations

import argparse
import json
import ssl
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from harness.kserve import codec

FEATURES, CLASSES = 6, 3


def weights(seed):
    return np.random.default_rng(seed).standard_normal((FEATURES, CLASSES)).astype(np.float32)


@contextmanager
def remote_model(*flags):
    """The server's URL for as long as the block lasts."""
    process = subprocess.Popen([sys.executable, str(Path(__file__)), *map(str, flags)], stdout=subprocess.PIPE)
    try:
        yield f"http{'s' if '--certificate' in flags else ''}://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one write: two would wait for each other
    options: argparse.Namespace
    answered = 0

    def log_message(self, format, *args):
        return

    def parse_request(self):
        """Refuse who may not ask, before anything else is looked at."""
        if not super().parse_request():
            return False
        if self.options.wants and self.headers.get("Authorization") != self.options.wants:
            self._json(401, {"error": f"not let in: {self.headers.get('Authorization')}"})
            self.wfile.flush()
            self.close_connection = True  # its body is not read
            return False
        return True

    def do_GET(self):
        model, versioned = f"/v2/models/{self.options.model}", f"/v2/models/{self.options.model}/versions/{self.options.version}"
        if self.path == "/metrics" and self.options.metrics:
            self._send(200, f'nv_inference_request_success{{model="{self.options.model}",version="1"}} {Handler.answered}\n'.encode(), {})
        elif self.path in ("/v2/health/ready", f"{model}/ready", f"{versioned}/ready"):
            self._send(200, b"", {})
        elif self.path in (model, versioned):
            x = {"name": "x", "datatype": "FP32", "shape": [-1, FEATURES]}
            y = {"name": "y", "datatype": "FP32", "shape": [-1, CLASSES]}
            tensors = {} if self.options.silent_metadata else {"inputs": [x], "outputs": [y]}
            self._json(200, {"name": self.options.model, "versions": [self.options.version], "platform": "numpy", **tensors})
        else:
            self._json(404, {"error": f"no such model: {self.path}"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        length = self.headers.get(codec.HEADER_LENGTH)
        if self.options.fail:
            self._json(503, {"error": "the model is being loaded"})
            return
        x = codec.decode_request(body, None if length is None else int(length)).inputs["x"]
        if x.shape[1:] != (FEATURES,):
            self._json(400, {"error": f"expected [-1, {FEATURES}], got {list(x.shape)}"})
            return
        Handler.answered += 1
        answer = codec.encode_response(self.options.model, {"y": x @ weights(self.options.seed)}, {"y": True})
        self._send(200, answer.body, dict(answer.headers))

    def _json(self, status, value):
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="net")
    parser.add_argument("--version", default="1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--certificate")
    parser.add_argument("--wants")
    for flag in ("--metrics", "--silent-metadata", "--fail"):
        parser.add_argument(flag, action="store_true")
    Handler.options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if Handler.options.certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(Handler.options.certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
