"""MLServer: `mlserver start FOLDER` with this runtime, over the Open Inference Protocol."""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from mlserver import MLModel
from mlserver.cli import main
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from model.drawing import from_image, from_pixels
from serving_peers.digits import PORT, Digits


class DigitsModel(MLModel):
    async def load(self) -> bool:
        self.digits = Digits()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (given,) = payload.inputs
        if given.datatype == "BYTES":
            (png,) = Base64Codec.decode_input(given)
            image = from_image(png)
        else:
            image = from_pixels(NumpyCodec.decode_input(given)[0])
        (answer,) = self.digits.of_images(image[None])
        probabilities = np.array([answer["probabilities"]], np.float32)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output(name="probabilities", payload=probabilities)]
        )


def start() -> None:
    """One process: its inference pool would pickle every request over to another."""
    with TemporaryDirectory(prefix="inkling-mlserver-") as folder:
        settings = {"host": "127.0.0.1", "http_port": PORT, "grpc_port": 0, "metrics_port": 0, "parallel_workers": 0}
        model = {"name": "digits", "implementation": "serving_peers.mlserver.DigitsModel"}
        Path(folder, "settings.json").write_text(json.dumps({**settings, "debug": False}))
        Path(folder, "model-settings.json").write_text(json.dumps(model))
        sys.argv = ["mlserver", "start", folder]
        main()


if __name__ == "__main__":
    start()
