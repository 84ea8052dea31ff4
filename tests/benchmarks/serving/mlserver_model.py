"""The model of the MLServer arm; runs in MLServer's environment."""

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Product(MLModel):
    """An ONNX file in onnxruntime, one thread."""

    async def load(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload):
        rows = NumpyCodec.decode_input(payload.inputs[0])
        (answer,) = self.session.run(["y"], {"x": rows.astype("float32")})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", answer)])
