"""Parameters after 200 steps of each optimizer in PyTorch's float64, and the distance of its float32 from them.

Models: `lenet`, and `smooth` (smooth.toml beside this file), which has no ReLU and no maximum. In the LeNet one rounding that
switches one unit on or off grows from step to step: PyTorch's float32 is then 1e-6 or 1e-3 away, by chance, depending on the
order of its sums. So it is run in six ways that differ in rounding only: as it is, without oneDNN, with each batch backwards, and
with each batch in three fixed shuffles. `torch_f32_distance` is the first, `torch_f32_distances` are all. For `smooth` they agree and
"twice PyTorch's float32" is sharp; for `lenet` the greatest of the six is the yardstick, and for an L1 penalty, whose slope jumps where
a parameter changes its sign.

Weights: PyTorch's default initialisation from seed 7 (`common.initial`). Data: 512 examples in 16 batches of 32; step s (from 0)
takes batch s mod 16. Example i has label `labels("trajectory/labels")[i]` and the image (pattern of its label + its own noise) × 0.5
in float32, both `values`: "trajectory/patterns" of shape 10×3×32×32, "trajectory/noise" of shape 512×3×32×32. The loss is the mean
cross-entropy, or the one that the case names, plus l1·Σ|p| + l2·Σp² over all parameters where it has such. No dropout. Running statistics have momentum 0.1, one update a step.

Stored a case: the optimizer and its arguments as PyTorch names them; the loss as a recipe has it; the loss before steps 1, 2, 5, 10, 20, 50, 100 and 200; for each
parameter and buffer after step 200 a `common.record`, the six distances and how far it moved from its start.
"""
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F

import common

SEED, STEPS, BATCH, BATCHES, CLASSES = 7, 200, 32, 16, 10
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
CASES = [
    ("lenet", "sgd", dict(lr=0.001, momentum=0.9)),
    ("lenet", "adam", dict(lr=1e-4)),
    ("smooth", "sgd", dict(lr=0.01, momentum=0.9)),
    ("smooth", "sgd", dict(lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-3)),
    ("smooth", "sgd", dict(lr=0.01, momentum=0.9, dampening=0.5)),
    ("smooth", "adam", dict(lr=1e-3)),
    ("smooth", "adam", dict(lr=1e-3, weight_decay=1e-2)),
    ("smooth", "adamw", dict(lr=1e-3, weight_decay=0.1)),
    ("smooth", "sgd", dict(lr=0.1, momentum=0.9), dict(name="l1-softmax")),
    ("smooth", "sgd", dict(lr=0.01, momentum=0.9), dict(l2=1e-3)),
    ("smooth", "adam", dict(lr=1e-3), dict(l1=1e-4, l2=1e-3)),
]
VARIANTS = ["as it is", "no oneDNN", "backwards", "shuffle 1", "shuffle 2", "shuffle 3"]


class Smooth(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2, bias=False), nn.BatchNorm2d(8), nn.AvgPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(784, 32), nn.Linear(32, 10))

    def forward(self, x):
        return self.net(x)


def data():
    labels = common.labels("trajectory/labels", BATCH * BATCHES)
    patterns = common.values("trajectory/patterns", [CLASSES, 3, 32, 32])
    noise = common.values("trajectory/noise", [BATCH * BATCHES, 3, 32, 32])
    return (patterns[labels] + noise) * 0.5, labels


def order(variant):
    if variant == "backwards":
        return torch.arange(BATCH).flip(0)
    if variant.startswith("shuffle"):
        return torch.from_numpy(common.draws(common.key(0, "oracle", variant), BATCH).astype("int64")).argsort()
    return torch.arange(BATCH)


def tensors(model):
    buffers = {name: b for name, b in model.named_buffers() if "num_batches" not in name}
    return {**dict(model.named_parameters()), **buffers}


def data_loss(name, logits, labels):
    if name == "cross-entropy":
        return F.cross_entropy(logits, labels)
    answers = F.softmax(logits, 1) if name == "l1-softmax" else logits
    return F.l1_loss(answers, F.one_hot(labels, CLASSES).to(logits.dtype))


def train(start, optimizer, arguments, settings, dtype, variant="as it is"):
    model = copy.deepcopy(start).to(dtype)
    images, labels = data()
    images, within = images.to(dtype), order(variant)
    optimizer = OPTIMIZERS[optimizer](model.parameters(), **arguments)
    losses = []
    with torch.backends.mkldnn.flags(enabled=variant != "no oneDNN"):
        for step in range(STEPS):
            at = step % BATCHES * BATCH + within
            loss = data_loss(settings["name"], model(images[at]), labels[at])
            if settings["l1"]:
                loss = loss + settings["l1"] * sum(p.abs().sum() for p in model.parameters())
            if settings["l2"]:
                loss = loss + settings["l2"] * sum((p ** 2).sum() for p in model.parameters())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return {name: t.detach() for name, t in tensors(model).items()}, losses


def main():
    cases = []
    for model, optimizer, arguments, *settings in CASES:
        settings = {"name": "cross-entropy", "l1": 0.0, "l2": 0.0} | (settings[0] if settings else {})
        start = common.initial(common.Net() if model == "lenet" else Smooth(), SEED)
        begun = {name: t.detach().double() for name, t in tensors(start).items()}
        exact, losses = train(start, optimizer, arguments, settings, torch.float64)
        singles = [train(start, optimizer, arguments, settings, torch.float32, variant)[0] for variant in VARIANTS]
        stored = {}
        for name, reference in exact.items():
            records = [common.record(reference, single[name]) for single in singles]
            stored[name] = {**records[0], "torch_f32_distances": [r["torch_f32_distance"] for r in records],
                            "moved": common.record(reference, begun[name])["torch_f32_distance"]}
        shown = {s: losses[s - 1] for s in (1, 2, 5, 10, 20, 50, 100, 200)}
        cases.append({"model": model, "optimizer": optimizer, "arguments": arguments, "loss": settings, "seed": SEED, "steps": STEPS,
                      "batch": BATCH, "batches": BATCHES, "losses": shown, "tensors": stored})
    common.write(__file__, {"cases": cases})


main()
