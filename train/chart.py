"""Diagrams as lists of shapes, which are written as SVG or painted as PNG.

A shape is ("line", points, colour), ("box", (x, y, w, h), colour) or ("text", (x, y), words, anchor), in pixels from
the top left; the anchor, "start", "middle" or "end", is the point of the words that lies at x.
"""
import html
import math

from PIL import Image, ImageDraw, ImageFont

from train import files

SIZE, LEFT, RIGHT, TOP, BOTTOM, LETTER = (720, 420), 80, 190, 40, 60, 12
COLOURS = ["#1b6ca8", "#d1495b", "#3a7d44", "#edae49", "#6a4c93", "#00798c", "#8d6346", "#555555"]
SHIFT = {"start": 0, "middle": 0.5, "end": 1}


# ---- output ----

def svg_shape(kind, where, what, anchor="start"):
    if kind == "line":
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in where)
        return f'<polyline points="{points}" fill="none" stroke="{what}" stroke-width="1.5"/>'
    if kind == "box":
        x, y, width, height = where
        return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{what}"/>'
    return f'<text x="{where[0]:.1f}" y="{where[1]:.1f}" text-anchor="{anchor}">{html.escape(what)}</text>'


def write_svg(path, shapes, size=SIZE):
    body = "\n".join(svg_shape(*shape) for shape in shapes)
    with files.replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" '
                   f'font-family="sans-serif" font-size="{LETTER}">\n'
                   f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n')


def write_png(path, shapes, size=SIZE):
    image = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default()
    for kind, where, what, *anchor in shapes:
        if kind == "line":
            draw.line(where, what, 2)
        elif kind == "box":
            x, y, width, height = where
            draw.rectangle((x, y, x + width - 1, y + height - 1), what)
        else:
            width = draw.textlength(what, font)
            draw.text((where[0] - SHIFT[anchor[0]] * width, where[1] - LETTER), what, "black", font)
    image.save(path)


def write(path, shapes, size=SIZE):
    """Both: path.svg and path.png."""
    write_svg(f"{path}.svg", shapes, size)
    write_png(f"{path}.png", shapes, size)


# ---- axes ----

class Axis:
    """A range of values on a range of pixels, in even or logarithmic steps."""

    def __init__(self, values, low, high, logarithmic=False):
        self.bend = math.log10 if logarithmic else float
        ends = self.bend(min(values)), self.bend(max(values))
        self.first, self.span = ends[0], (ends[1] - ends[0]) or 1
        self.low, self.high, self.logarithmic = low, high, logarithmic

    def __call__(self, value):
        return self.low + (self.bend(value) - self.first) / self.span * (self.high - self.low)

    def ticks(self, count=5):
        """(pixel, words), evenly spread."""
        for i in range(count):
            at = self.first + i / (count - 1) * self.span
            yield self.low + i / (count - 1) * (self.high - self.low), f"{10 ** at if self.logarithmic else at:.3g}"


def frame(title, x_name, y_name, x_axis, y_axis):
    """Title, axes and ticks."""
    left, right, top, bottom = LEFT, SIZE[0] - RIGHT, TOP, SIZE[1] - BOTTOM
    shapes = [("text", (left, 20), title, "start"), ("line", [(left, top), (left, bottom), (right, bottom)], "black"),
              ("text", ((left + right) / 2, SIZE[1] - 15), x_name, "middle"), ("text", (8, top - 12), y_name, "start")]
    for x, words in x_axis.ticks():
        shapes += [("line", [(x, bottom), (x, bottom + 4)], "black"), ("text", (x, bottom + 18), words, "middle")]
    for y, words in y_axis.ticks():
        shapes += [("line", [(left - 4, y), (left, y)], "black"), ("text", (left - 7, y + 4), words, "end")]
    return shapes


def curves(title, x_name, y_name, series, logarithmic=(False, False)):
    """Shapes of a diagram of lines: series {name: [(x, y), ...]}."""
    points = [point for line in series.values() for point in line]
    x_axis = Axis([x for x, _ in points], LEFT, SIZE[0] - RIGHT, logarithmic[0])
    y_axis = Axis([y for _, y in points], SIZE[1] - BOTTOM, TOP, logarithmic[1])
    shapes = frame(title, x_name, y_name, x_axis, y_axis)
    for i, (name, line) in enumerate(series.items()):
        colour, y, x = COLOURS[i % len(COLOURS)], TOP + 18 * i, SIZE[0] - RIGHT + 20
        shapes += [("line", [(x_axis(a), y_axis(b)) for a, b in line], colour),
                   ("line", [(x, y), (x + 18, y)], colour), ("text", (x + 24, y + 4), name, "start")]
    return shapes


def shade(share):
    """White to blue, for 0 to 1."""
    share = min(1.0, max(0.0, share))
    return "#%02x%02x%02x" % tuple(round(255 + share * (end - 255)) for end in (27, 108, 168))


def heat_map(title, rows, columns, values, dark):
    """(shapes, size) of a table: values[i][j] as words and as a shade that is darkest at `dark`."""
    cell, height, left = 58, 20, 90
    shapes = [("text", (8, 20), title, "start")]
    for j, name in enumerate(columns):
        shapes.append(("text", (left + (j + 0.5) * cell, 46), name, "middle"))
    for i, name in enumerate(rows):
        y = 54 + i * height
        shapes.append(("text", (left - 8, y + 14), name, "end"))
        for j, value in enumerate(values[i]):
            shapes += [("box", (left + j * cell, y, cell, height), shade(value / dark * 0.6)),
                       ("text", (left + (j + 0.5) * cell, y + 14), f"{100 * value:.1f}", "middle")]
    return shapes, (max(left + cell * len(columns) + 20, 16 + 7 * len(title)), 70 + height * len(rows))
