#!/usr/bin/env python3
"""PyTorch's optimizers and schedulers on formulas that both sides can compute to the bit.

    python tests/oracle/optimizer.py            writes optimizer.json beside this file
    python tests/oracle/optimizer.py --check    makes the numbers again and compares them with that file

Gradients: g(t, i) = ((7919 t + 104729 i) mod 1009 - 504) / 512 * 2^(i mod 7 - 4) + p / 8, which float32 holds exactly but for
the one addition; parameter 0 gets no gradient at all. Rate: 0.05 (1 - t / 400). Floats are written as their bits. Penalties are
added to the loss, so that autograd gives their part of the gradient; their values before the shown steps are written too.
"""
import json, os, struct, sys
import torch
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, MultiStepLR, SequentialLR, StepLR

torch.set_num_threads(1)
FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "optimizer.json")
PARAMETERS, STEPS, SHOWN = 17, 200, (1, 25, 200)

OPTIMIZERS = {  # recipe settings; the learning rate is the formula's
    "sgd": {"name": "sgd", "momentum": 0.0},
    "sgd-decay": {"name": "sgd", "momentum": 0.0, "weight_decay": 0.05},
    "momentum": {"name": "sgd", "momentum": 0.9},
    "dampening": {"name": "sgd", "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
    "nesterov": {"name": "sgd", "momentum": 0.9, "nesterov": True},
    "nesterov-decay": {"name": "sgd", "momentum": 0.7, "nesterov": True, "weight_decay": 0.01},
    "clipped": {"name": "sgd", "momentum": 0.9, "clip_grad_norm": 0.5},
    "adam": {"name": "adam"},
    "adam-decay": {"name": "adam", "weight_decay": 0.05, "eps": 1e-4},
    "adam-short": {"name": "adam", "betas": [0.3, 0.7]},
    "adamw": {"name": "adamw", "weight_decay": 0.05},
    "l1": {"name": "sgd", "momentum": 0.9},
    "l2": {"name": "sgd", "momentum": 0.9},
    "l1-adam": {"name": "adam"},
    "both-clipped": {"name": "adam", "clip_grad_norm": 0.5},
}
PENALTIES = {"l1": {"l1": 0.01}, "l2": {"l2": 0.02}, "l1-adam": {"l1": 0.01}, "both-clipped": {"l1": 0.01, "l2": 0.02}}


def hexed(values, dtype):
    code, width = ("<f", 4) if dtype == torch.float32 else ("<d", 8)
    return ["%0*x" % (2 * width, int.from_bytes(struct.pack(code, v), "little")) for v in values.tolist()]


def trajectory(name, dtype):
    """The parameters after the shown steps, and the penalties before them."""
    s, penalties = dict(OPTIMIZERS[name]), PENALTIES.get(name, {})
    kind, clip = s.pop("name"), s.pop("clip_grad_norm", 0.0)
    p = torch.tensor([((37 * i) % 64 - 31.5) / 32 for i in range(PARAMETERS)], dtype=dtype, requires_grad=True)
    optimizer = {"sgd": SGD, "adam": Adam, "adamw": AdamW}[kind]([p], lr=0.05, **({"weight_decay": 0.0} | s))
    shown, paid = {}, []
    for t in range(STEPS):
        g = [((7919 * t + 104729 * i) % 1009 - 504) / 512 * 2.0 ** (i % 7 - 4) for i in range(PARAMETERS)]
        g = torch.tensor(g, dtype=dtype) + p.detach() * 0.125
        g[0] = 0.0
        p.grad = None
        if penalties:
            # as the reports have it: a sum over the parameters, added to the loss
            penalty = penalties.get("l1", 0.0) * p.abs().sum() + penalties.get("l2", 0.0) * (p ** 2).sum()
            penalty.backward()
            if t + 1 in SHOWN:
                paid.append(penalty.detach())
        p.grad = g if p.grad is None else g + p.grad
        if clip:
            torch.nn.utils.clip_grad_norm_([p], clip)
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - t / 400)
        optimizer.step()
        if t + 1 in SHOWN:
            shown[str(t + 1)] = hexed(p.detach(), dtype)
    return shown, hexed(torch.stack(paid), dtype) if paid else []


EPOCHS, PER_EPOCH, BASE = 6, 5, 0.3
SCHEDULES = {
    "constant": {"name": "constant"},
    "constant-warm": {"name": "constant", "warmup_steps": 7, "warmup_start_factor": 0.25},
    "step": {"name": "step", "step_size": 2, "gamma": 0.3},
    "step-by-step": {"name": "step", "unit": "step", "step_size": 7, "gamma": 0.3},
    "multi": {"name": "multi-step", "milestones": [1, 4], "gamma": 0.2},
    "multi-warm": {"name": "multi-step", "milestones": [1, 4], "gamma": 0.2, "warmup_steps": 7},
    "multi-by-step-warm": {"name": "multi-step", "unit": "step", "milestones": [3, 11], "gamma": 0.5, "warmup_steps": 8},
    "cosine": {"name": "cosine", "eta_min": 0.01},
    "cosine-short": {"name": "cosine", "t_max": 2},
    "cosine-by-step": {"name": "cosine", "unit": "step", "eta_min": 0.02},
    "cosine-by-step-warm": {"name": "cosine", "unit": "step", "eta_min": 0.02, "warmup_steps": 9, "warmup_start_factor": 0.1},
    "cosine-warm-epochs": {"name": "cosine", "warmup_steps": 10},
}


def scheduler(optimizer, s, total):
    if s["name"] == "step":
        return StepLR(optimizer, s["step_size"], s["gamma"])
    if s["name"] == "multi-step":
        return MultiStepLR(optimizer, s["milestones"], s["gamma"])
    if s["name"] == "cosine":
        return CosineAnnealingLR(optimizer, s.get("t_max", total), s.get("eta_min", 0.0))
    return None


def rates(s):
    """The rate of every step, from PyTorch's own scheduler objects."""
    new = lambda: SGD([torch.zeros(1, requires_grad=True)], lr=BASE)
    warm, by_step = s.get("warmup_steps", 0), s.get("unit") == "step"
    linear = lambda optimizer: LinearLR(optimizer, s.get("warmup_start_factor", 1 / 3), total_iters=warm)
    optimizer = new()
    if s["name"] == "cosine" and warm:
        # the cosine starts where the warm-up ends
        if by_step:
            plans = [linear(optimizer), scheduler(optimizer, s, EPOCHS * PER_EPOCH - warm)]
            plan, out = SequentialLR(optimizer, plans, [warm]), []
            for _ in range(EPOCHS * PER_EPOCH):
                out.append(optimizer.param_groups[0]["lr"])
                optimizer.step(), plan.step()
            return out
        assert warm % PER_EPOCH == 0
        plan, out = linear(optimizer), []
        for _ in range(warm):
            out.append(optimizer.param_groups[0]["lr"])
            optimizer.step(), plan.step()
        optimizer = new()
        plan = scheduler(optimizer, s, EPOCHS - warm // PER_EPOCH)
        for _ in range(EPOCHS - warm // PER_EPOCH):
            out += [optimizer.param_groups[0]["lr"]] * PER_EPOCH
            optimizer.step(), plan.step()
        return out
    # two schedulers on one optimizer: their factors multiply
    plan = scheduler(optimizer, s, EPOCHS * PER_EPOCH if by_step else EPOCHS)
    warmer, out = linear(optimizer) if warm else None, []
    for t in range(EPOCHS * PER_EPOCH):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if warmer:
            warmer.step()
        if plan and (by_step or (t + 1) % PER_EPOCH == 0):
            plan.step()
    return out


def floats(node):
    if isinstance(node, dict):
        return [x for key in sorted(node) for x in floats(node[key])]
    if isinstance(node, list):
        return [x for item in node for x in floats(item)]
    if isinstance(node, str) and len(node) in (8, 16):
        try:
            raw = int(node, 16).to_bytes(len(node) // 2, "little")
        except ValueError:
            return []
        return [struct.unpack("<f" if len(raw) == 4 else "<d", raw)[0]]
    return [float(node)] if isinstance(node, (int, float)) else []


def optimizer(name):
    (single, _), (exact, paid) = trajectory(name, torch.float32), trajectory(name, torch.float64)
    penalties = {"loss": PENALTIES[name], "penalty": paid} if name in PENALTIES else {}
    return {"settings": OPTIMIZERS[name], "f32": single, "f64": exact, **penalties}


def main():
    zero = torch.zeros(1, requires_grad=True)
    zero.abs().sum().backward()
    assert zero.grad.item() == 0, "sign(0) is 0"
    made = {
        "torch": torch.__version__,
        "parameters": PARAMETERS, "steps": STEPS,
        "optimizers": {name: optimizer(name) for name in OPTIMIZERS},
        "epochs": EPOCHS, "per_epoch": PER_EPOCH, "base": BASE,
        "schedules": {name: {"settings": s, "lr": rates(s)} for name, s in SCHEDULES.items()},
    }
    if "--check" in sys.argv:
        committed = json.load(open(FILE))
        ours, theirs = [floats({k: v for k, v in d.items() if k != "torch"}) for d in (made, committed)]
        assert len(ours) == len(theirs), "the file was made by another version of this script"
        # float32 kernels differ a little between processors
        worst = max(abs(a - b) / max(abs(a), abs(b), 1e-3) for a, b in zip(ours, theirs))
        assert worst < 1e-5, f"the numbers differ by {worst} from optimizer.json"
        print(f"{len(ours)} numbers agree within {worst:.1e}")
        return
    with open(FILE, "w") as out:
        # a line a list: small in git, still legible
        lists = []
        mark = lambda x: (lists.append(json.dumps(x)), f"@{len(lists) - 1}@")[1] if isinstance(x, list) else \
            {k: mark(v) for k, v in x.items()} if isinstance(x, dict) else x
        text = json.dumps(mark(made), indent=1)
        for number, item in enumerate(lists):
            text = text.replace(f'"@{number}@"', item)
        out.write(text + "\n")


if __name__ == "__main__":
    main()
