"""LitServe, as its documentation serves images: base64 in JSON. With the argument `batching`, in batches."""

import base64
import sys
from typing import Any

import litserve as ls
import numpy as np

from benchmarks.serving_peers.digits import BATCH, BATCH_WAIT_SECONDS, PORT, Digits
from model.drawing import from_image, from_pixels


class DigitsAPI(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.digits = Digits()

    def decode_request(self, request: dict[str, Any]) -> Any:
        if "png" in request:
            return from_image(base64.b64decode(request["png"]))
        return from_pixels(np.array(request["pixels"], np.float64))

    def predict(self, image: Any) -> Any:
        return self.digits.of_images(image[None])[0]

    def encode_response(self, output: Any) -> Any:
        return output


class BatchingDigitsAPI(DigitsAPI):
    def predict(self, images: Any) -> Any:
        return self.digits.of_images(images)


if __name__ == "__main__":
    batching = sys.argv[1:] == ["batching"]
    api = BatchingDigitsAPI(max_batch_size=BATCH, batch_timeout=BATCH_WAIT_SECONDS) if batching else DigitsAPI()
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(port=PORT, host="127.0.0.1", num_api_servers=1, log_level="warning", generate_client_file=False)
