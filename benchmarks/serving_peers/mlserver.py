"""MLServer: `mlserver start FOLDER` with this runtime, over the Open Inference Protocol.

With the argument `batching`, in batches: it joins the tensors of several requests along their first axis.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from mlserver import MLModel
from mlserver.cli import main
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.serving_peers.digits import BATCH, BATCH_WAIT_SECONDS, PORT, Digits
from model.drawing import from_image, from_pixels

BATCHING = {"max_batch_size": BATCH, "max_batch_time": BATCH_WAIT_SECONDS}


class DigitsModel(MLModel):
    async def load(self) -> bool:
        self.digits = Digits()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (given,) = payload.inputs
        if given.datatype == "BYTES":
            images = [from_image(png) for png in Base64Codec.decode_input(given)]
        else:
            images = [from_pixels(levels) for levels in NumpyCodec.decode_input(given)]
        answers = self.digits.of_images(np.stack(images))
        probabilities = np.array([answer["probabilities"] for answer in answers], np.float32)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output(name="probabilities", payload=probabilities)]
        )


def start() -> None:
    """One process: its inference pool would pickle every request over to another."""
    with TemporaryDirectory(prefix="inkling-mlserver-") as folder:
        settings = {"host": "127.0.0.1", "http_port": PORT, "grpc_port": 0, "metrics_port": 0, "parallel_workers": 0}
        model = {"name": "digits", "implementation": "benchmarks.serving_peers.mlserver.DigitsModel"}
        batching = BATCHING if sys.argv[1:] == ["batching"] else {}
        Path(folder, "settings.json").write_text(json.dumps({**settings, "debug": False}))
        Path(folder, "model-settings.json").write_text(json.dumps({**model, **batching}))
        sys.argv = ["mlserver", "start", folder]
        main()


if __name__ == "__main__":
    start()
