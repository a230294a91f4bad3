"""Gradio's REST interface, without its queue, so that one request has one answer."""

import base64
from typing import Any

import gradio as gr

from benchmarks.serving_peers.digits import PORT, Digits

digits = Digits()


def png(text: str) -> dict[str, Any]:
    return digits.of_png(base64.b64decode(text))


def pixels(rows: list[list[float]]) -> dict[str, Any]:
    return digits.of_pixels(rows)


with gr.Blocks(analytics_enabled=False) as page:
    text, rows, answer = gr.Textbox(), gr.JSON(), gr.JSON()
    gr.Button().click(png, text, answer, api_name="png", queue=False)
    gr.Button().click(pixels, rows, answer, api_name="pixels", queue=False)

if __name__ == "__main__":
    page.launch(server_name="127.0.0.1", server_port=PORT, quiet=True, share=False)
