#!/usr/bin/env python3
"""PyTorch on a recipe of ours: what to set beside a reproduction whose figures lie apart from the report's.

    lockstep recipes show NAME --json | python peer.py IMAGES [--seeds 0,1,2] [--epochs N] [--threads T]
        [--init-from model.safetensors] [--state FOLDER] [--channels-last]

IMAGES: the folder cifar-10-batches-bin. Layers, initial weights, shuffling, dropout and the images held out for validation are PyTorch's
own, augmentations torchvision's; partitions and schedules are refused. --init-from: the weights that a warm start begins with. --state: keeps
each seed's state there after every epoch, and goes on from it. One line of JSON a seed and epoch: {"seed", "epoch",
"train_loss", "train_accuracy", "test_loss", "test_accuracy", "validation_accuracy", "dead_outputs"}; losses and accuracies of training are
means as trained, with penalties. A dead output is above 0 for less than one test image in a thousand, where the network ends in a ReLU.
"""
import argparse
import json
import os
import re
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def network(layers):
    parts, shape = [], (3, 32, 32)
    for layer in layers:
        kind = layer.pop("type")
        layer.pop("prefix", None)
        if kind.endswith("_pool") and not layer["stride"]:
            layer.pop("stride")  # the window's own size, as PyTorch has it
        if kind == "conv":
            part = nn.Conv2d(shape[0], **layer)
        elif kind == "linear":
            part = nn.Linear(shape[0], **layer)
        elif kind == "batch_norm":
            part = (nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d)(shape[0], **layer)
        elif kind in ("relu", "leaky_relu", "max_pool", "avg_pool", "flatten", "dropout", "dropout2d"):
            names = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "max_pool": nn.MaxPool2d, "avg_pool": nn.AvgPool2d,
                     "flatten": nn.Flatten, "dropout": nn.Dropout, "dropout2d": nn.Dropout2d}
            part = names[kind](**layer)
        else:
            sys.exit(f"peer.py: no {kind}")
        parts.append(part)
        with torch.no_grad():
            shape = tuple(nn.Sequential(part).eval()(torch.zeros(2, *shape)).shape[1:])
    return nn.Sequential(*parts)


def augmentation(data):
    """torchvision's, in our order; None where there is nothing to do."""
    affine = data["rotation"] or data["translate"] != [0.0, 0.0] or data["scale"] != [1.0, 1.0]
    colours = {name: data[name] for name in ("brightness", "contrast", "saturation", "hue")}
    if not (data["crop_padding"] or data["horizontal_flip"] or data["vertical_flip"] or affine or any(colours.values())):
        return None
    from torchvision.transforms import v2
    parts = []
    if data["crop_padding"]:
        parts.append(v2.RandomCrop(32, padding=data["crop_padding"]))
    parts += [v2.RandomHorizontalFlip(data["horizontal_flip"]), v2.RandomVerticalFlip(data["vertical_flip"])]
    if affine:
        parts.append(v2.RandomAffine(data["rotation"], translate=data["translate"], scale=data["scale"]))
    if any(colours.values()):
        parts.append(v2.ColorJitter(**colours))
    return v2.Compose(parts)


def begin(net, path):
    """Weights of ours, by their order: PyTorch's names of a Sequential are other ones."""
    from safetensors.torch import load_file
    def natural(name):
        layer, tensor = name.rsplit(".", 1)
        order = ["weight", "bias", "running_mean", "running_var"].index(tensor)
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", layer)], order
    ours = load_file(path)
    names = [name for name in net.state_dict() if not name.endswith("num_batches_tracked")]
    pairs = list(zip(names, sorted((name for name in ours if not name.endswith("num_batches_tracked")), key=natural), strict=True))
    for name, of in pairs:
        if net.state_dict()[name].shape != ours[of].shape or name.rsplit(".", 1)[1] != of.rsplit(".", 1)[1]:
            sys.exit(f"peer.py: {path} has {of} where the network has {name}")
    net.load_state_dict({name: ours[of] for name, of in pairs}, strict=False)


def split(folder, names):
    raw = np.concatenate([np.fromfile(os.path.join(folder, name), np.uint8).reshape(-1, 3073) for name in names])
    return torch.from_numpy(raw[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255.0), torch.from_numpy(raw[:, 0].astype(np.int64))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("images")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--epochs", type=int, default=0, help="fewer than the recipe's")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--init-from", help="a model.safetensors")
    parser.add_argument("--state", help="a folder")
    parser.add_argument("--channels-last", action="store_true", help="the layout that is faster for large convolutions")
    args = parser.parse_args()
    recipe = json.load(sys.stdin)
    data, optimizer = recipe["data"], recipe["optimizer"]
    wrong = [name for name, plain in (("fraction", 1.0), ("partition", "shuffled")) if data[name] != plain]
    if bool(recipe["init_from"]) != bool(args.init_from):
        sys.exit(f"peer.py: the recipe begins with {recipe['init_from'] or 'weights of its own'}, --init-from is {args.init_from}")
    if wrong or recipe["loss"]["name"] != "cross-entropy" or recipe["schedule"]["name"] != "constant":
        sys.exit(f"peer.py: not with {wrong or 'another loss or a schedule'}")
    l1, l2 = recipe["loss"]["l1"], recipe["loss"]["l2"]
    if args.threads:
        torch.set_num_threads(args.threads)
    x, y = split(args.images, [f"data_batch_{number}.bin" for number in range(1, 6)])
    rows = {"all": slice(None), "first-half": slice(0, 25000), "second-half": slice(25000, None),
            "even": slice(0, None, 2), "odd": slice(1, None, 2)}[data["subset"]]
    mean, std = (torch.tensor(data[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    x, y = x[rows], y[rows]
    augment = augmentation(data)
    if not augment:
        x = (x - mean) / std
    test_x, test_y = split(args.images, ["test_batch.bin"])
    test_x = (test_x - mean) / std
    relu = recipe["model"]["layers"][-1]["type"] == "relu"
    for seed in map(int, args.seeds.split(",")):
        torch.manual_seed(seed)
        order = torch.randperm(len(x))
        held = order[:round(len(x) * data["validation"])]
        kept = order[len(held):]
        held_x = (x[held] - mean) / std if augment else x[held]
        net = network(json.loads(json.dumps(recipe["model"]["layers"])))
        if optimizer["name"] == "adam":
            step = torch.optim.Adam(net.parameters(), lr=optimizer["lr"], betas=optimizer["betas"], eps=optimizer["eps"],
                                    weight_decay=optimizer["weight_decay"])
        else:
            step = torch.optim.SGD(net.parameters(), lr=optimizer["lr"], momentum=optimizer["momentum"],
                                   weight_decay=optimizer["weight_decay"])
        if args.channels_last:
            net = net.to(memory_format=torch.channels_last)
        if args.init_from:
            begin(net, args.init_from)
        path, done = args.state and os.path.join(args.state, f"{recipe['name']}-{seed}.pt"), 0
        if path and os.path.exists(path):
            state = torch.load(path)
            net.load_state_dict(state["net"]), step.load_state_dict(state["step"]), torch.set_rng_state(state["draws"])
            done = state["epoch"]
        for epoch in range(done + 1, (args.epochs or recipe["epochs"]) + 1):
            net.train()
            loss_sum = right = 0
            for index in kept[torch.randperm(len(kept))].split(recipe["batch_size"]):
                if augment:
                    images = torch.stack([augment(image) for image in (x[index] * 255).round().byte()])
                    images = (images.float() / 255 - mean) / std
                else:
                    images = x[index]
                if args.channels_last:
                    images = images.contiguous(memory_format=torch.channels_last)
                out = net(images)
                loss = F.cross_entropy(out, y[index])
                if l1:
                    loss = loss + l1 * sum(p.abs().sum() for p in net.parameters())
                if l2:
                    loss = loss + l2 * sum((p * p).sum() for p in net.parameters())
                step.zero_grad(set_to_none=True)
                loss.backward()
                step.step()
                loss_sum, right = loss_sum + loss.item() * len(index), right + (out.argmax(1) == y[index]).sum().item()
            net.eval()
            with torch.no_grad():
                out = torch.cat([net(part) for part in test_x.split(500)])
                held_out = [net(part).argmax(1) for part in held_x.split(500)] if len(held) else []
            line = {"seed": seed, "epoch": epoch, "train_loss": loss_sum / len(kept), "train_accuracy": right / len(kept),
                    "test_loss": F.cross_entropy(out, test_y).item(),
                    "test_accuracy": (out.argmax(1) == test_y).float().mean().item()}
            if held_out:
                line["validation_accuracy"] = (torch.cat(held_out) == y[held]).float().mean().item()
            if relu:
                alive = (out > 0).sum(0)
                line["dead_outputs"] = [number for number in range(out.shape[1]) if alive[number] * 1000 < len(out)]
            print(json.dumps(line), flush=True)
            if path:
                state = {"net": net.state_dict(), "step": step.state_dict(), "draws": torch.get_rng_state(), "epoch": epoch}
                torch.save(state, path + ".new")
                os.replace(path + ".new", path)


main()
