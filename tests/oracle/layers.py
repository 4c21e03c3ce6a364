"""Each layer alone: output and gradients in PyTorch's float64, and the distance of its float32 from them.

The loss of a case is Σ output × probe with a fixed probe, so that every output has a gradient of its own. Inputs are
`common.values` under the name "CASE/TENSOR". Read by worker/tests/oracle/layers.rs; see common.py for how to run it.
"""
import torch
import torch.nn.functional as F

import common

CASES = [
    # name, layer, arguments, {tensor: (shape, scale, steps)}
    ("lenet's first", "conv2d", {}, {
        "x": ([4, 3, 32, 32], 1, 0), "weight": ([6, 3, 5, 5], 0.2, 0), "bias": ([6], 0.2, 0)}),
    ("lenet's second", "conv2d", {}, {
        "x": ([5, 6, 14, 14], 1, 0), "weight": ([16, 6, 5, 5], 0.1, 0), "bias": ([16], 0.1, 0)}),
    ("padded", "conv2d", {"padding": 1}, {
        "x": ([2, 32, 15, 15], 1, 0), "weight": ([64, 32, 3, 3], 0.1, 0), "bias": ([64], 0.1, 0)}),
    ("many channels", "conv2d", {"padding": 1}, {
        "x": ([2, 128, 16, 16], 1, 0), "weight": ([128, 128, 3, 3], 0.03, 0), "bias": ([128], 0.03, 0)}),
    ("many channels, short rows", "conv2d", {"padding": 1}, {
        "x": ([4, 256, 8, 8], 1, 0), "weight": ([96, 256, 3, 3], 0.02, 0)}),
    ("many channels, large kernel", "conv2d", {}, {
        "x": ([2, 100, 18, 18], 1, 0), "weight": ([100, 100, 5, 5], 0.02, 0), "bias": ([100], 0.02, 0)}),
    ("strided", "conv2d", {"stride": 2, "padding": 1}, {
        "x": ([3, 8, 9, 10], 1, 0), "weight": ([12, 8, 3, 3], 0.1, 0), "bias": ([12], 0.1, 0)}),
    ("pointwise", "conv2d", {}, {"x": ([3, 7, 5, 5], 1, 0), "weight": ([9, 7, 1, 1], 0.4, 0)}),
    ("patches", "conv2d", {"stride": 4}, {
        "x": ([2, 3, 16, 16], 1, 0), "weight": ([20, 3, 4, 4], 0.1, 0), "bias": ([20], 0.1, 0)}),
    ("lenet's widest", "linear", {}, {
        "x": ([7, 400], 1, 0), "weight": ([120, 400], 0.05, 0), "bias": ([120], 0.05, 0)}),
    ("no bias", "linear", {}, {"x": ([3, 33], 1, 0), "weight": ([10, 33], 0.2, 0)}),
    ("one row", "linear", {}, {"x": ([1, 84], 1, 0), "weight": ([10, 84], 0.1, 0), "bias": ([10], 0.1, 0)}),
    ("zeros too", "relu", {}, {"x": ([3, 4, 5, 5], 1, 4)}),
    ("zeros too", "leaky_relu", {"slope": 0.01}, {"x": ([3, 4, 5, 5], 1, 4)}),
    ("ties too", "max_pool2d", {"kernel": 2}, {"x": ([3, 4, 8, 8], 1, 4)}),
    ("a row left over", "max_pool2d", {"kernel": 2}, {"x": ([2, 3, 7, 9], 1, 0)}),
    ("overlapping, padded, ties", "max_pool2d", {"kernel": 3, "stride": 2, "padding": 1}, {"x": ([2, 3, 8, 8], 1, 4)}),
    ("plain", "avg_pool2d", {"kernel": 2}, {"x": ([3, 4, 8, 8], 1, 0)}),
    ("overlapping, padded", "avg_pool2d", {"kernel": 3, "stride": 2, "padding": 1}, {"x": ([2, 3, 8, 8], 1, 0)}),
    ("images", "batch_norm", {"eps": 1e-05}, {
        "x": ([5, 16, 10, 10], 1, 0), "weight": ([16], 1, 0), "bias": ([16], 1, 0)}),
    ("vectors", "batch_norm", {"eps": 1e-05}, {"x": ([9, 20], 3, 0), "weight": ([20], 1, 0), "bias": ([20], 1, 0)}),
    ("wide eps", "batch_norm", {"eps": 0.1}, {"x": ([4, 3, 6, 6], 0.1, 0), "weight": ([3], 1, 0), "bias": ([3], 1, 0)}),
    ("images", "batch_norm_eval", {"eps": 1e-05}, {
        "x": ([5, 16, 10, 10], 1, 0), "weight": ([16], 1, 0), "bias": ([16], 1, 0), "mean": ([16], 0.3, 0),
        "deviation": ([16], 1, 0)}),
    ("vectors", "dropout", {"p": 0.3, "epoch": 4, "examples": [7, 1, 90000]}, {"x": ([3, 50], 1, 0)}),
    ("images", "dropout", {"p": 0.5, "epoch": 0, "examples": [3, 2]}, {"x": ([2, 3, 5, 5], 1, 0)}),
    ("channels", "dropout2d", {"p": 0.4, "epoch": 1, "examples": [0, 49999]}, {"x": ([2, 24, 3, 3], 1, 0)}),
    ("ten classes", "cross_entropy", {"divisor": 64}, {"x": ([9, 10], 6, 0)}),
    ("sure of itself", "cross_entropy", {"divisor": 3}, {"x": ([3, 10], 90, 0)}),
    ("ten classes", "l1_logits", {"divisor": 64}, {"x": ([9, 10], 6, 0)}),
    # multiples of 1 from -3 to 2: some are the label's 1 or another's 0, where PyTorch's slope is 0
    ("hits too", "l1_logits", {"divisor": 7}, {"x": ([7, 10], 3, 3)}),
    ("ten classes", "l1_softmax", {"divisor": 64}, {"x": ([9, 10], 6, 0)}),
    ("sure of itself", "l1_softmax", {"divisor": 3}, {"x": ([3, 10], 30, 0)}),
]


def forward(name, layer, a, t):
    """The layer's output, and for batch_norm the statistics that training sees."""
    window = (a.get("kernel"), a.get("stride"), a.get("padding", 0))
    if layer == "conv2d":
        return {"y": F.conv2d(t["x"], t["weight"], t.get("bias"), a.get("stride", 1), a.get("padding", 0))}
    if layer == "linear":
        return {"y": F.linear(t["x"], t["weight"], t.get("bias"))}
    if layer == "relu":
        return {"y": F.relu(t["x"])}
    if layer == "leaky_relu":
        return {"y": F.leaky_relu(t["x"], a["slope"])}
    if layer == "max_pool2d":
        return {"y": F.max_pool2d(t["x"], *window)}
    if layer == "avg_pool2d":
        return {"y": F.avg_pool2d(t["x"], *window)}
    if layer == "batch_norm":
        # momentum 1 leaves the batch's own mean and unbiased variance in the running statistics
        mean, variance = (torch.zeros(t["x"].shape[1], dtype=t["x"].dtype) for _ in range(2))
        y = F.batch_norm(t["x"], mean, variance, t["weight"], t["bias"], True, 1.0, a["eps"])
        return {"y": y, "mean": mean, "variance": variance}
    if layer == "batch_norm_eval":
        return {"y": F.batch_norm(t["x"], t["mean"], t["variance"], t["weight"], t["bias"], False, 0.0, a["eps"])}
    if layer in ("dropout", "dropout2d"):
        shape = t["x"].shape if layer == "dropout" else (*t["x"].shape[:2], 1, 1)
        per_example = int(torch.Size(shape[1:]).numel())
        rows = common.mask(0, name, a["epoch"], a["examples"], per_example, a["p"])
        return {"y": t["x"] * rows.reshape(shape).to(t["x"].dtype)}
    if layer == "cross_entropy":
        labels = common.labels(f"{name}/labels", len(t["x"]))
        return {"y": F.cross_entropy(t["x"], labels, reduction="sum") / a["divisor"]}
    if layer in ("l1_logits", "l1_softmax"):
        labels = common.labels(f"{name}/labels", len(t["x"]))
        answers = F.softmax(t["x"], 1) if layer == "l1_softmax" else t["x"]
        targets = F.one_hot(labels, answers.shape[1]).to(answers.dtype)
        # nn.L1Loss means over examples and classes; a shard's share of a batch: a sum over examples, over the batch's size
        return {"y": F.l1_loss(answers, targets, reduction="sum") / (answers.shape[1] * a["divisor"])}
    raise ValueError(layer)


def run(name, layer, arguments, tensors, dtype):
    t = {k: v.to(dtype).requires_grad_(k not in ("mean", "deviation")) for k, v in tensors.items()}
    if "deviation" in t:  # squared in float32, so that all start from one variance
        t["variance"] = (tensors["deviation"] ** 2).to(dtype)
    out = forward(name, layer, arguments, t)
    y = out["y"]
    probe = torch.ones((), dtype=dtype) if y.dim() == 0 else common.values(f"{name}/probe", list(y.shape)).to(dtype)
    (y * probe).sum().backward()
    return {**out, **{f"d{k}": v.grad for k, v in t.items() if v.grad is not None}}


def main():
    cases = []
    for name, layer, arguments, inputs in CASES:
        name = f"{layer}: {name}"
        tensors = {k: common.values(f"{name}/{k}", *spec) for k, spec in inputs.items()}
        exact, single = (run(name, layer, arguments, tensors, dtype) for dtype in (torch.float64, torch.float32))
        shapes = {k: {"shape": shape, "scale": scale, "steps": steps} for k, (shape, scale, steps) in inputs.items()}
        outputs = {k: common.record(exact[k], single[k]) for k in exact}
        cases.append({"name": name, "layer": layer, "arguments": arguments, "inputs": shapes, "outputs": outputs})
    common.write(__file__, {"cases": cases})


main()
