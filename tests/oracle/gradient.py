"""One step's gradient of each LeNet in PyTorch's float64, and the distance of its float32 from it.

Weights: PyTorch's default initialisation from seed 7. Batch: 32 examples, the whole step, images within [0, 1) and labels
as in `batch` below. Dropout's masks are the keyed ones of seed 7, epoch 2, examples 1000 to 1031. The loss is the mean cross-entropy.
Stored a model: the loss, the right answers, the gradient of each parameter, and for BatchNorm the batch's mean and
unbiased variance; then loss and logits of the same batch in evaluation mode. Read by worker/tests/oracle/gradient.rs.
"""
import copy

import torch
import torch.nn.functional as F

import common

SEED, EPOCH, EXAMPLES = 7, 2, list(range(1000, 1032))


def batch(dtype):
    images = common.unit(common.draws(common.key(0, "oracle", "gradient/images"), 32 * 3 * 32 * 32))
    return torch.from_numpy(images.reshape(32, 3, 32, 32)).to(dtype), common.labels("gradient/labels", 32)


def step(model, dtype):
    model = copy.deepcopy(model).to(dtype)
    images, labels = batch(dtype)
    model.rows(SEED, EPOCH, EXAMPLES)
    model.eval()
    logits = model(images)
    evaluation = F.cross_entropy(logits, labels, reduction="sum")
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # leaves the batch's own statistics in the running ones
    answers = model(images)
    loss = F.cross_entropy(answers, labels)
    loss.backward()
    tensors = {name: p.grad for name, p in model.named_parameters()}
    tensors |= {name: b for name, b in model.named_buffers() if "num_batches" not in name}
    return {"loss": loss, "correct": (answers.argmax(1) == labels).sum().item(), "tensors": tensors,
            "evaluation_loss": evaluation, "evaluation_correct": (logits.argmax(1) == labels).sum().item()}


def main():
    cases = []
    for name, arguments in common.MODELS.items():
        model = common.initial(common.Net(**arguments), SEED)
        exact, single = (step(model, dtype) for dtype in (torch.float64, torch.float32))
        case = {"model": name, "seed": SEED, "epoch": EPOCH, "examples": [EXAMPLES[0], EXAMPLES[-1] + 1]}
        for key in ("loss", "evaluation_loss"):
            case[key] = common.record(exact[key], single[key])
        for key in ("correct", "evaluation_correct"):
            case[key] = exact[key]
        case["tensors"] = {k: common.record(v, single["tensors"][k]) for k, v in exact["tensors"].items()}
        # the same formula gives the same start: norms of the initial weights
        case["initial"] = {k: common.record(v, v) for k, v in model.named_parameters()}
        cases.append(case)
    common.write(__file__, {"cases": cases})


main()
