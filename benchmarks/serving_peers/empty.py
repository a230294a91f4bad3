"""The floor: a route that does nothing, on the same FastAPI and uvicorn as Inkling's."""

import os

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.post("/predict")
async def predict() -> dict[str, int]:
    return {"digit": 7}


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PEER_PORT"]), log_config=None, access_log=False)
