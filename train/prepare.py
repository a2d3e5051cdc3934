"""A folder for each class -> arrays. A picture of any aspect goes to the canvas nearest to its own, is scaled to
cover it and cut at the centre.

    python3 -m train prepare PICTURES OUT --canvas 128x128 --canvas 128x192 --license NOTE --source NOTE

PICTURES/apples/*.jpg become class "apples"; pictures in PICTURES itself make a model without classes. OUT gets,
for each canvas that has pictures, pixels-WxH.npy [N, H, W, 3] and labels-WxH.npy [N], and dataset.json. Without
--license the file LICENSE or LICENSE.txt of PICTURES is carried along if there is one.
"""
import argparse
import math
import pathlib

import numpy as np
from PIL import Image, ImageOps

from train import config, files

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
NOTES = ("LICENSE", "LICENSE.txt")
DESCRIPTION = "dataset.json"


def canvas(text):
    """"128x192" -> (128, 192), width first."""
    width, x, height = text.partition("x")
    if not (x and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text} is not WIDTHxHEIGHT")
    return int(width), int(height)


def pictures_in(folder):
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


def find(folder):
    """(class names, [(file, label)]); label 0 and no names where there are no folders of classes."""
    folders = sorted(p for p in folder.iterdir() if p.is_dir() and pictures_in(p))
    loose = pictures_in(folder)
    if folders and loose:
        raise ValueError(f"{folder} has both pictures and folders of pictures")
    found = [(file, i) for i, one in enumerate(folders or [folder]) for file in pictures_in(one)]
    if not found:
        raise ValueError(f"{folder} has no pictures")
    names = [one.name for one in folders]
    if len(set(map(str.lower, names))) < len(names):
        raise ValueError("two classes have the same name, letter case aside")
    for name in names:
        if wanted := config.text(name):
            raise ValueError(f"the class name {name} is not {wanted}")
    return names, found


def nearest(size, canvases):
    """The canvas whose aspect is nearest to that of a picture of `size`."""
    def turn(canvas_size):
        return abs(math.log(size[0] / size[1]) - math.log(canvas_size[0] / canvas_size[1]))
    return min(canvases, key=turn)


def load(path):
    """A picture as its maker meant it: upright, on white where it is transparent, in RGB."""
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def fit(image, size):
    """[H, W, 3] bytes of `size` (W, H)."""
    return np.asarray(ImageOps.fit(image, size, Image.Resampling.LANCZOS))


def collect(found, canvases):
    """({canvas: ([pixels], [label], [file])}, [what could not be read])."""
    piles, unreadable = {size: ([], [], []) for size in canvases}, []
    for file, label in found:
        try:
            image = load(file)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            unreadable.append(f"{file}: {error}")
            continue
        size = nearest(image.size, canvases)
        for pile, value in zip(piles[size], (fit(image, size), label, str(file))):
            pile.append(value)
    return {size: pile for size, pile in piles.items() if pile[0]}, unreadable


def deviation(arrays):
    """Standard deviation of all pixels, as -1 to 1: the sigma_data of these pictures."""
    counts = sum(np.bincount(picture.ravel(), minlength=256) for array in arrays for picture in array)
    values = np.arange(256) / 127.5 - 1
    mean = np.average(values, weights=counts)
    return math.sqrt(np.average((values - mean) ** 2, weights=counts))


def note(folder, given):
    """The licence as given, or as it lies beside the pictures."""
    lying = [folder / name for name in NOTES if (folder / name).is_file()]
    return given or (lying[0].read_text(encoding="utf-8").strip() if lying else "")


def prepare(folder, out, canvases, licence="", source=""):
    """Returns what dataset.json says, and what could not be read."""
    folder, out = pathlib.Path(folder), pathlib.Path(out)
    names, found = find(folder)
    piles, unreadable = collect(found, canvases)
    if not piles:
        raise ValueError(f"none of the pictures can be read, the first: {unreadable[0]}")
    out.mkdir(parents=True, exist_ok=True)
    arrays = {size: np.stack(pile[0]) for size, pile in piles.items()}
    for (width, height), pixels in arrays.items():
        np.save(out / f"pixels-{width}x{height}.npy", pixels)
        np.save(out / f"labels-{width}x{height}.npy", np.array(piles[width, height][1], np.int64))
    description = {
        "classes": names, "channels": 3, "std": deviation(list(arrays.values())),
        "license": note(folder, licence), "source": source,
        "canvases": [{"width": w, "height": h, "count": len(arrays[w, h]), "files": piles[w, h][2]}
                     for w, h in arrays]}
    files.write_json(out / DESCRIPTION, description)
    return description, unreadable


def main(arguments):
    parser = argparse.ArgumentParser(prog="train prepare", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--canvas", type=canvas, action="append", help="WIDTHxHEIGHT, once for each (64x64)")
    parser.add_argument("--license", default="", help="carried into the model file")
    parser.add_argument("--source", default="", help="likewise: where the pictures are from")
    options = parser.parse_args(arguments)
    description, unreadable = prepare(options.pictures, options.out, options.canvas or [(64, 64)],
                                      options.license, options.source)
    for line in unreadable:
        print("left out", line)
    for one in description["canvases"]:
        print(f"{one['width']}x{one['height']}: {one['count']} pictures")
    print(f"{len(description['classes'])} classes, standard deviation {description['std']:.3f}, "
          f"{len(unreadable)} left out")
