#!/usr/bin/env python3
"""Loads model.safetensors of a built-in model into its PyTorch class, strictly, and evaluates it in float64.

    python load_weights.py MODEL RUN/model.safetensors IMAGES      (IMAGES: a folder with test_batch.bin)

Pixels are scaled to [0, 1] and not normalised. Prints {"correct": …, "loss": mean cross-entropy}. The classes are written from
the reports, with their names of the parts: net, model, feature_extractor and classifier, conv_layer and fc_layer.
"""
import json
import sys

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn


class Chain(nn.Module):
    """Its parts, in the order in which they are given, with everything flattened before a part that begins with rows."""

    def __init__(self, **parts):
        super().__init__()
        for name, layers in parts.items():
            self.add_module(name, nn.Sequential(*layers))

    def forward(self, x):
        parts = list(self.children())
        x = parts[0](x)
        for part in parts[1:]:
            x = part(x.view(x.size(0), -1))
        return x


def lenet(kernel=5, dropout=False, norm=(False, False), act=nn.ReLU):
    def conv(i, o, norm):
        return [nn.Conv2d(i, o, kernel)] + ([nn.BatchNorm2d(o)] if norm else []) + [act(), nn.MaxPool2d(2)]
    return Chain(net=[
        *conv(3, 6, norm[0]), *conv(6, 16, norm[1]), nn.Flatten(), nn.Linear(400, 120), act(),
        *([nn.Dropout(0.5)] if dropout else []), nn.Linear(120, 84), act(), nn.Linear(84, 10)])


def lenet5(dropout=False):
    drop = [nn.Dropout(0.25)] if dropout else []
    return Chain(
        feature_extractor=[
            nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
            nn.Conv2d(16, 120, 5), nn.ReLU(), nn.MaxPool2d(6, stride=1)],
        classifier=[
            nn.Linear(120, 84), nn.ReLU(), *drop, nn.Linear(84, 42), nn.ReLU(), *drop, nn.Linear(42, 10)])


def base(dropout=False):
    drop = [nn.Dropout(0.25)] if dropout else []
    return Chain(net=[
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 128, 3), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), *drop, nn.Linear(128 * 5 * 5, 100), nn.ReLU(), *drop, nn.Linear(100, 50), nn.ReLU(),
        *drop, nn.Linear(50, 10), nn.ReLU()])


def convnet(normed):
    layers, channels = [], 3
    for i, kernel in enumerate([3, 5, 5, 5, 5, 5]):
        layers += [nn.Conv2d(channels, 100, kernel)] + ([nn.BatchNorm2d(100)] if i in normed else []) + [nn.ReLU()]
        channels = 100
    return Chain(model=[
        *layers, nn.Conv2d(100, 10, 5), nn.ReLU(), nn.Flatten(), nn.Linear(360, 128), nn.ReLU(), nn.Linear(128, 64),
        nn.ReLU(), nn.Linear(64, 10)])


def net6():
    def block(i, m, o):
        return [nn.Conv2d(i, m, 3, padding=1), nn.BatchNorm2d(m), nn.ReLU(), nn.Conv2d(m, o, 3, padding=1), nn.ReLU(),
                nn.MaxPool2d(2)]
    return Chain(
        conv_layer=[*block(3, 32, 64), *block(64, 128, 128), nn.Dropout2d(0.05), *block(128, 256, 256)],
        fc_layer=[nn.Dropout(0.1), nn.Linear(4096, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU(), nn.Dropout(0.1),
                  nn.Linear(512, 10)])


MODELS = {
    "lenet": lenet,
    "lenet-dropout": lambda: lenet(dropout=True),
    "lenet-dropout-bn": lambda: lenet(dropout=True, norm=(False, True)),
    "lenet-4x4": lambda: lenet(kernel=4),
    "lenet-bn-leaky": lambda: lenet(norm=(True, True), act=nn.LeakyReLU),
    "lenet5": lenet5,
    "lenet5-dropout": lambda: lenet5(dropout=True),
    "base": base,
    "base-dropout": lambda: base(dropout=True),
    "convnet": lambda: convnet(range(6)),
    "convnet-bn4": lambda: convnet([3]),
    "net6": net6,
}

name, weights, images = sys.argv[1:]
model = MODELS[name]()
model.load_state_dict(load_file(weights), strict=True)
model.double().eval()
rows = np.fromfile(f"{images}/test_batch.bin", np.uint8).reshape(-1, 3073)
labels = torch.from_numpy(rows[:, 0].astype(np.int64))
with torch.no_grad():
    logits = model(torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).astype(np.float64) / 255))
print(json.dumps({"correct": int((logits.argmax(1) == labels).sum()),
                  "loss": nn.functional.cross_entropy(logits, labels).item()}))
