"""The LeNet's parameters after 200 steps of SGD with momentum and of Adam in PyTorch's float64, and the distance of its
float32 from them.

Weights: PyTorch's default initialisation from seed 7 (`common.initial`). Data: 512 examples in 16 batches of 32; step s takes
batch s mod 16. Example i has label `labels("trajectory/labels")[i]` and the image (pattern of its label + noise of its own) / 2 in
float32, where both are unit draws under the keys (0, "oracle", "trajectory/patterns") and (0, "oracle", "trajectory/noise"):
3072 numbers a pattern, then the next; 3072 an image, then the next. The loss is the mean cross-entropy. No dropout.

Stored a case: the optimizer's arguments; the loss before steps 1, 2, 5, 10, 20, 50, 100 and 200; for each parameter after step 200 a
`common.record` and how far it moved from its start. Two neighbouring float32 trajectories drift apart step by step, so PyTorch's
float32 is run four times, in ways that differ in rounding only: as it is, with channels_last, without oneDNN, with each batch
backwards. `torch_f32_distance` is the first, `torch_f32_distances` all of them: the distance is a draw, and their spread says how
sharp "twice PyTorch's float32" is.
"""
import copy

import torch
import torch.nn.functional as F

import common

SEED, STEPS, BATCH, BATCHES = 7, 200, 32, 16
OPTIMIZERS = {
    "sgd": dict(lr=0.01, momentum=0.9),
    "sgd-nesterov": dict(lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4),
    "adam": dict(lr=1e-3),
    "adamw": dict(lr=1e-3, weight_decay=0.01),
}
MAKE = {"sgd": torch.optim.SGD, "sgd-nesterov": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def data():
    count = BATCH * BATCHES
    labels = common.labels("trajectory/labels", count)
    draw = lambda name, n: torch.from_numpy(common.unit(common.draws(common.key(0, "oracle", name), n * 3072)))
    patterns = draw("trajectory/patterns", 10).reshape(10, 3, 32, 32)
    noise = draw("trajectory/noise", count).reshape(count, 3, 32, 32)
    return (patterns[labels] + noise) * 0.5, labels


def train(start, optimizer, dtype, variant=""):
    model = copy.deepcopy(start).to(dtype)
    images, labels = data()
    images = images.to(dtype)
    if variant == "channels_last":
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    optimizer = MAKE[optimizer](model.parameters(), **OPTIMIZERS[optimizer])
    losses = []
    with torch.backends.mkldnn.flags(enabled=variant != "no oneDNN"):
        for step in range(STEPS):
            at = slice(step % BATCHES * BATCH, (step % BATCHES + 1) * BATCH)
            x, y = images[at], labels[at]
            if variant == "backwards":
                x, y = x.flip(0), y.flip(0)
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return {name: p.detach() for name, p in model.named_parameters()}, losses


def main():
    cases = []
    start = common.initial(common.Net(), SEED)
    begun = dict(start.named_parameters())
    for optimizer, arguments in OPTIMIZERS.items():
        exact, losses = train(start, optimizer, torch.float64)
        variants = ["", "channels_last", "no oneDNN", "backwards"]
        singles = [train(start, optimizer, torch.float32, variant)[0] for variant in variants]
        tensors = {}
        for name, reference in exact.items():
            records = [common.record(reference, single[name]) for single in singles]
            moved = torch.linalg.vector_norm(reference - begun[name].detach().double()).item()
            distances = [record["torch_f32_distance"] for record in records]
            tensors[name] = {**records[0], "moved": moved, "torch_f32_distances": distances}
        shown = {s: losses[s - 1] for s in (1, 2, 5, 10, 20, 50, 100, 200)}
        cases.append({"optimizer": optimizer, "arguments": arguments, "model": "lenet", "seed": SEED, "steps": STEPS,
                      "batch": BATCH, "batches": BATCHES, "losses": shown, "tensors": tensors})
    common.write(__file__, {"cases": cases})


main()
