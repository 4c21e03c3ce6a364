"""What the oracle scripts share: the numbers both sides start from, and how a tensor is compared.

Everything is written again from the papers and from PyTorch's documentation, not taken from the Rust code:

- `draws(seed, purpose, name)`: the keyed generator (proto/src/keys.rs), Philox4x32-10 under a key from BLAKE3.
- `values(name, shape, scale)`: the test numbers, scale × (2u − 1) in float32 for u from the key (0, "oracle", name).
- `initial(model, names)`: PyTorch's default initialisation from the key (seed, "init", tensor name).
- `record(reference, single)`: what is stored of a tensor. Up to 64 values: all of them, in float64. More: a count sketch,
  in which each value is added to or subtracted from one of 64 sums, drawn by the key (0, "oracle", "sketch"). The sketch
  is linear and keeps lengths: ‖sketch(a) − sketch(b)‖ is ‖a − b‖ within about 9% (one standard deviation), so distances to the
  whole float64 tensor can be measured against a few numbers. Beside it: the exact norm of the reference, and the exact
  distance of PyTorch's own float32 from it, which is the yardstick.

Set up once:  python3 -m venv venv && venv/bin/pip install torch numpy blake3
Each script:  venv/bin/python tests/oracle/gradient.py [FILE]     (default: the JSON file next to the script)
`LOCKSTEP_PYTHON=venv/bin/python cargo test --release -p lockstep-worker --test oracle` runs all again and compares.
"""
import json
import os
import sys

import blake3
import numpy as np
import torch
import torch.nn as nn

torch.set_num_threads(1)  # float32 sums in one order on every machine, and no fight over busy cores

SKETCH = 64
MASK = np.uint64(0xFFFFFFFF)


def key(seed, purpose, name):
    data = seed.to_bytes(8, "little")
    for part in (purpose.encode(), name.encode()):
        data += len(part).to_bytes(8, "little") + part
    digest = blake3.blake3(data, derive_key_context="lockstep v1 randomness").digest()
    return [int.from_bytes(digest[at:at + 4], "little") for at in (0, 4)]


def philox(counters, key):
    """Philox4x32-10 of Salmon et al. 2011; counters is (n, 4) uint64 below 2^32."""
    c = [counters[:, i].astype(np.uint64) for i in range(4)]
    k = [np.uint64(word) for word in key]
    for turn in range(10):
        if turn:
            k = [(k[0] + np.uint64(0x9E3779B9)) & MASK, (k[1] + np.uint64(0xBB67AE85)) & MASK]
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        high = np.uint64(32)
        c = [(b >> high) ^ c[1] ^ k[0], b & MASK, (a >> high) ^ c[3] ^ k[1], a & MASK]
    return np.stack(c, 1)


def draws(key, count, stream=(0, 0, 0)):
    """The first `count` 32-bit draws of a stream."""
    blocks = -(-count // 4)
    counters = np.zeros((blocks, 4), np.uint64)
    counters[:, 0] = np.arange(blocks)
    counters[:, 1:] = stream
    return philox(counters, key).reshape(-1)[:count]


def unit(bits):
    return (bits >> np.uint64(8)).astype(np.float32) * np.float32(2.0 ** -24)


def values(name, shape, scale=1.0, steps=0):
    """float32 numbers within ±scale; with `steps`, rounded down to multiples of 1/steps, so that ties and zeros occur."""
    signed = np.float32(2) * unit(draws(key(0, "oracle", name), int(np.prod(shape)))) - np.float32(1)
    if steps:
        signed = np.floor(signed * np.float32(steps)) / np.float32(steps)
    return torch.from_numpy((signed * np.float32(scale)).reshape(shape))


def labels(name, count, classes=10):
    return torch.from_numpy((draws(key(0, "oracle", name), count) % np.uint64(classes)).astype(np.int64))


def mask(seed, layer, epoch, examples, per_example, p):
    """Rows of 0 or 1/(1 − p) as the layer called `layer` draws them: kept where the draw is not below p."""
    rows = [unit(draws(key(seed, "dropout", layer), per_example, (epoch, e, 0))).astype(np.float64) for e in examples]
    return torch.from_numpy(np.where(np.stack(rows) >= p, 1 / (1 - p), 0.0))


class Dropout(nn.Module):
    """nn.Dropout whose masks are the keyed ones; the caller sets `rows` = (seed, epoch, examples) before each step."""

    def __init__(self, name, p):
        super().__init__()
        self.name, self.p, self.rows = name, p, None

    def forward(self, x):
        if not self.training:
            return x
        seed, epoch, examples = self.rows
        return x * mask(seed, self.name, epoch, examples, x[0].numel(), self.p).reshape(x.shape).to(x.dtype)


class Net(nn.Module):
    """The seed's class: one nn.Sequential called net."""

    def __init__(self, dropout=False, bn=False):
        super().__init__()
        layers = [nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5)]
        layers += [nn.BatchNorm2d(16)] if bn else []
        layers += [nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU()]
        layers += [Dropout(f"net.{len(layers)}", 0.5)] if dropout else []
        layers += [nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
        self.net = nn.Sequential(*layers)

    def forward(self, x):
        return self.net(x)

    def rows(self, *rows):
        for layer in self.net:
            if isinstance(layer, Dropout):
                layer.rows = rows


MODELS = {"lenet": {}, "lenet-dropout": {"dropout": True}, "lenet-dropout-bn": {"dropout": True, "bn": True}}


def initial(model, seed):
    """Fills the parameters with ±1/√fan_in, each from its own key; BatchNorm keeps its ones and zeros."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = np.float32(1 / np.sqrt(np.float64(module.weight[0].numel())))
            for kind, tensor in module.named_parameters():
                u = unit(draws(key(seed, "init", f"{name}.{kind}"), tensor.numel()))
                tensor.data = torch.from_numpy((-bound + (bound - -bound) * u).reshape(tensor.shape))
    return model


def sketch(array):
    flat = np.asarray(array, np.float64).reshape(-1)
    if flat.size <= SKETCH:
        return digits(flat)
    bits = draws(key(0, "oracle", "sketch"), flat.size)
    signs = np.where(bits & np.uint64(SKETCH), -1.0, 1.0)
    buckets = (bits % np.uint64(SKETCH)).astype(np.int64)
    return digits(np.bincount(buckets, weights=signs * flat, minlength=SKETCH))


def digits(array):
    """13 significant digits: a hundred-thousandth of float32's rounding, and short files."""
    return [float(f"{value:.13g}") for value in array]


def record(reference, single):
    """A tensor in float64 and PyTorch's float32 of it → what is stored."""
    reference, single = (t.detach().to(torch.float64).numpy() for t in (reference, single))
    norm, distance = digits([np.linalg.norm(reference), np.linalg.norm(reference - single)])
    return {"shape": list(reference.shape), "norm": norm, "torch_f32_distance": distance, "sketch": sketch(reference)}


def write(script, content):
    """Writes the JSON file next to the script, or where the first argument says."""
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.splitext(os.path.abspath(script))[0] + ".json"
    content = {"made_by": f"tests/oracle/{os.path.basename(script)}, PyTorch {torch.__version__}", **content}
    lines = [f"{json.dumps(k)}: {body(v)}" for k, v in content.items()]
    with open(path, "w") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


def body(value):
    """One case a line, so that a change shows as the case that it is about."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(json.dumps(case) for case in value) + "\n]"
    return json.dumps(value)
