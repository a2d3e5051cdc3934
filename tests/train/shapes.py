"""A data set that a tiny model can learn in a minute: coloured shapes, one kind and colour for each class."""
import numpy as np
from PIL import Image, ImageDraw

SIDE = 48  # pixels of a picture's shorter side, before prepare scales it
COLOURS = {"blue triangles": (40, 70, 220), "green discs": (40, 170, 60), "red squares": (220, 40, 40),
           "yellow crosses": (235, 210, 40)}
OUTLINES = {
    "blue triangles": lambda draw, x, y, r, fill: draw.polygon([(x - r, y + r), (x + r, y + r), (x, y - r)], fill),
    "green discs": lambda draw, x, y, r, fill: draw.ellipse((x - r, y - r, x + r, y + r), fill),
    "red squares": lambda draw, x, y, r, fill: draw.rectangle((x - r, y - r, x + r, y + r), fill),
    "yellow crosses": lambda draw, x, y, r, fill: [
        draw.rectangle((x - a, y - b, x + a, y + b), fill) for a, b in ((r, r / 2), (r / 2, r))],
}


def picture(name, random, size=(SIDE, SIDE)):
    """One shape of that class near the middle, on grey."""
    image = Image.new("RGB", size, (int(random.integers(200, 256)),) * 3)
    x, y = (side / 2 + random.uniform(-5, 5) for side in size)
    fill = tuple(int(np.clip(v + random.integers(-20, 21), 0, 255)) for v in COLOURS[name])
    OUTLINES[name](ImageDraw.Draw(image), x, y, random.uniform(11, 16), fill)
    return image


def write(folder, each, seed=0, sizes=((SIDE, SIDE),)):
    """`each` pictures of every class, in a folder of its name; sizes in turn."""
    random = np.random.default_rng(seed)
    for name in COLOURS:
        (folder / name).mkdir(parents=True)
        for i in range(each):
            picture(name, random, sizes[i % len(sizes)]).save(folder / name / f"{i}.png")


def colour_of(pixels):
    """The class whose colour is nearest to what stands out of the grey. pixels [H, W, 3]."""
    pixels = pixels.reshape(-1, 3).astype(float)
    vivid = pixels[np.argsort(np.ptp(pixels, 1))[-len(pixels) // 10:]].mean(0)
    return min(COLOURS, key=lambda name: np.linalg.norm(vivid - COLOURS[name]))
