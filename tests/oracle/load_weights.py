#!/usr/bin/env python3
"""Loads model.safetensors of lenet-dropout-bn into its nn.Sequential, strictly, and evaluates it in float64.

    python load_weights.py RUN/model.safetensors IMAGES      (IMAGES: a folder with test_batch.bin)

Prints {"correct": …, "loss": mean cross-entropy}.
"""
import json
import sys

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))

    def forward(self, x):
        return self.net(x)


model = Net()
model.load_state_dict(load_file(sys.argv[1]), strict=True)
model.double().eval()
rows = np.fromfile(f"{sys.argv[2]}/test_batch.bin", np.uint8).reshape(-1, 3073)
labels = torch.from_numpy(rows[:, 0].astype(np.int64))
with torch.no_grad():
    logits = model(torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).astype(np.float64) / 255))
print(json.dumps({"correct": int((logits.argmax(1) == labels).sum()),
                  "loss": nn.functional.cross_entropy(logits, labels).item()}))
