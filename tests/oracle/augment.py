"""torchvision's transforms of uint8 images with given draws, and a hash of what comes out.

Called are the functions of torchvision.transforms.functional that RandomCrop, RandomHorizontalFlip, RandomVerticalFlip,
RandomAffine and ColorJitter call on tensors, one after another where a case has several steps. Images are three planes of
bytes: `cube` is (at // 64^channel mod 64) * 255 // 63 over all places, `smooth` a ramp (8 rows, 8 columns, 4 of both), the
others come from the bits of the key (0, "oracle", "augment/NAME"): `noise` bits mod 256, `dark` bits mod 20, `coarse`
51 (bits mod 6). Factors and angles are float32, as the transforms draw them. Stored a case: the first 16 digits of the
BLAKE3 hash of the result, so the comparison is exact; when it fails, `show(case)` here has the bytes.

    python tests/oracle/augment.py [FILE] [N]      N random cases of each kind instead of 12; the first 12 are the same
    python tests/oracle/augment.py --v2            how many bytes torchvision.transforms.v2.functional makes otherwise

Needs torchvision beside what common.py needs; without it the exit code is 77. Read by worker/src/dataset/augment/oracle.rs.
"""
import sys

try:
    import torchvision
except ImportError:
    sys.exit(77)
import blake3
import numpy as np
import torch
import torchvision.transforms.functional as F
import torchvision.transforms.v2.functional as F2

import common

CASES = 12
PADDING = 40  # more than any window of a case needs


def image(name, size):
    height, width = size
    plane = height * width
    if name == "cube":
        at = np.arange(plane)
        made = np.stack([(at // step % 64) * 255 // 63 for step in (1, 64, 64 * 64)])
    elif name == "smooth":
        row, column = np.mgrid[:height, :width]
        made = np.stack([row * 8, column * 8, 4 * (row + column)]) % 256
    else:
        bits = common.draws(common.key(0, "oracle", f"augment/{name}"), 3 * plane).astype(np.int64)
        made = {"noise": bits % 256, "dark": bits % 20, "coarse": bits % 6 * 51}[name]
    return torch.from_numpy(made.reshape(3, height, width).astype(np.uint8))


def apply(img, step, f=F):
    transform = step["transform"]
    if transform == "window":
        height, width = img.shape[-2:]
        img = f.crop(f.pad(img, [PADDING] * 4), step["top"] + PADDING, step["left"] + PADDING, height, width)
        img = f.hflip(img) if step["mirrored"] else img
        return f.vflip(img) if step["upside_down"] else img
    if transform == "affine":
        return f.affine(img, angle=step["angle"], translate=step["translate"], scale=step["scale"], shear=[0.0, 0.0],
                        interpolation=F.InterpolationMode.NEAREST, fill=[0.0] * len(img))
    adjust = {"brightness": f.adjust_brightness, "contrast": f.adjust_contrast, "saturation": f.adjust_saturation,
              "hue": f.adjust_hue}
    return adjust[transform](img, step["factor"])


def show(case, f=F):
    img = image(case["image"], case["size"])
    for step in case["steps"]:
        img = apply(img, step, f)
    return img


class Draws:
    """Uniform float32 numbers, independent of what is compared: numpy's generator."""

    def __init__(self, kind, number):
        self.generator = np.random.default_rng([*kind.encode(), number])

    def between(self, low, high):
        return float(np.float32(self.generator.uniform(low, high)))

    def whole(self, low, high):
        return int(self.generator.integers(low, high + 1))

    def coin(self):
        return bool(self.generator.integers(2))


def window(d):
    return {"transform": "window", "top": d.whole(-6, 6), "left": d.whole(-6, 6), "mirrored": d.coin(), "upside_down": d.coin()}


def affine(d):
    # a third each: all three, the lab sheet's shift and scale, a turn alone
    kind = d.whole(0, 2)
    angle = 0.0 if kind == 1 else d.between(-180, 180)
    shift = [0, 0] if kind == 2 else [d.whole(-16, 16), d.whole(-16, 16)]
    return {"transform": "affine", "angle": angle, "translate": shift, "scale": 1.0 if kind == 2 else d.between(0.5, 2)}


def factor(transform):
    return lambda d: {"transform": transform, "factor": d.between(0, 2.5)}


def hue(d):
    return {"transform": "hue", "factor": d.between(-0.5, 0.5)}


KINDS = {"window": window, "affine": affine, "brightness": factor("brightness"), "contrast": factor("contrast"),
         "saturation": factor("saturation"), "hue": hue}
IMAGES = ["noise", "coarse", "smooth", "dark"]


def cases(count):
    def case(name, steps, size=(32, 32)):
        return {"image": name, "size": list(size), "steps": steps}

    for kind, draw in KINDS.items():
        for number in range(count):
            yield case(IMAGES[number % 4], [draw(Draws(kind, number))])
    for number in range(count):  # all, colours in any order
        d = Draws("all", number)
        colours = d.generator.permutation(["brightness", "contrast", "saturation", "hue"])
        yield case(IMAGES[number % 4], [draw(d) for draw in (window, affine, *(KINDS[c] for c in colours))])
    # numbers with an exact answer, ties between two pixels, and the ends of the ranges
    for angle in (0.0, 45.0, 90.0, -90.0, 135.0, 180.0, -180.0):
        for scale in (1.0, 0.5, 2.0, 4.0, 0.25, 3.0):
            step = {"transform": "affine", "angle": angle, "translate": [3, -5] if angle else [0, 0], "scale": scale}
            yield case("noise", [step])
    for scale in (0.01, 100.0):
        yield case("noise", [{"transform": "affine", "angle": 0.0, "translate": [0, 0], "scale": scale}])
    for transform in ("brightness", "contrast", "saturation"):
        for value in (0.0, 0.5, 1.0, 2.0, 256.0):
            yield case("coarse", [{"transform": transform, "factor": value}])
    for value in (0.0, 0.5, -0.5, 0.25, float(np.float32(1 / 3)), float(np.float32(-1 / 6)), 0.125):
        yield case("coarse", [{"transform": "hue", "factor": value}])
        yield case("cube", [{"transform": "hue", "factor": value}], (512, 512))
    for value in (0.0, 0.7, 1.3):
        yield case("cube", [{"transform": "saturation", "factor": float(np.float32(value))}], (512, 512))


def compare_with_v2(count):
    """The newer functions differ in the last bit of a float32 here and there, so in a byte that was cut off."""
    counts = {}
    for case in cases(count):
        name = case["steps"][0]["transform"] if len(case["steps"]) == 1 else "all"
        old, new = (show(case, f).to(torch.int64) for f in (F, F2))
        total = counts.setdefault(name, [0, 0, 0])
        total[0] += old.numel()
        total[1] += int((old != new).sum())
        total[2] = max(total[2], int((old - new).abs().max()))
    for name, (total, different, most) in counts.items():
        print(f"{name:11} {different:8} of {total:10} bytes differ, by at most {most}")


def main():
    if "--v2" in sys.argv:
        compare_with_v2(100)
        return
    count = int(sys.argv[2]) if len(sys.argv) > 2 else CASES
    made = []
    for case in cases(count):
        result = show(case)
        assert result.dtype == torch.uint8
        made.append({**case, "blake3": blake3.blake3(result.contiguous().numpy().tobytes()).hexdigest()[:16]})
    common.write(__file__, {"torchvision": torchvision.__version__, "cases": made})


main()
