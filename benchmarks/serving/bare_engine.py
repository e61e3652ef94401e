"""The network without a service: full batches, one after the other, as fast as possible."""

from __future__ import annotations

import argparse
import json
import time

import torch

from benchmarks.serving.payload import draw_payloads
from benchmarks.serving.peer_work import decode
from model.inference.dtype_selection import DTYPES
from model.inference.predictor import Predictor
from model.zoo import load_model


def main() -> None:
    """Print images a second as a JSON number."""
    parser = argparse.ArgumentParser(description="Runs a classifier without a service.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--dtype", choices=DTYPES, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    loaded = load_model(arguments.model, weights=arguments.weights)
    predictor = Predictor(loaded.network, torch.device("cpu"), DTYPES[arguments.dtype])
    pixels = [decode(payload.body) for payload in draw_payloads()]
    images = [pixels[place % len(pixels)] for place in range(arguments.batch)]
    shape = (arguments.batch, *images[0].shape[:2])
    predictor.classify(images, shape)
    started, batches = time.perf_counter(), 0
    while time.perf_counter() - started < arguments.seconds:
        predictor.classify(images, shape)
        batches += 1
    print(json.dumps(batches * arguments.batch / (time.perf_counter() - started)))


if __name__ == "__main__":
    main()
