"""From pictures to arrays to batches."""
import json
import pathlib
import tempfile
import unittest

import kit
import numpy as np
import shapes
import torch
from PIL import Image
from train import config, data, diffusion, prepare


class FolderCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.pictures, self.out = self.folder / "pictures", self.folder / "data"
        self.pictures.mkdir()

    def picture(self, name, size, colour, **how):
        path = self.pictures / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", size, colour).save(path, **how)
        return path


class TestPrepare(FolderCase):
    def test_every_aspect_finds_its_canvas(self):
        for name, size in {"a": (40, 40), "b": (30, 60), "c": (90, 30), "d": (41, 40)}.items():
            self.picture(f"one/{name}.png", size, "red")
        found, unreadable = prepare.prepare(self.pictures, self.out, [(16, 16), (16, 32), (32, 16)])
        self.assertEqual(unreadable, [])
        self.assertEqual({(c["width"], c["height"]): [pathlib.Path(f).stem for f in c["files"]]
                          for c in found["canvases"]}, {(16, 16): ["a", "d"], (16, 32): ["b"], (32, 16): ["c"]})
        self.assertEqual(np.load(self.out / "pixels-16x32.npy").shape, (1, 32, 16, 3))
        self.assertEqual(json.loads((self.out / "dataset.json").read_text()), found)

    def test_a_cut_is_at_the_centre(self):
        image = Image.new("RGB", (30, 10), "white")
        image.paste("red", (10, 0, 20, 10))
        image.save(self.pictures / "wide.png")
        prepare.prepare(self.pictures, self.out, [(10, 10)])
        self.assertTrue((np.load(self.out / "pixels-10x10.npy")[0] == (255, 0, 0)).all())

    def test_classes_are_folders_in_order(self):
        for name in ("pears", "apples", "plums"):
            self.picture(f"{name}/1.jpg", (8, 8), "green")
        found, _ = prepare.prepare(self.pictures, self.out, [(8, 8)])
        self.assertEqual(found["classes"], ["apples", "pears", "plums"])
        self.assertEqual(np.load(self.out / "labels-8x8.npy").tolist(), [0, 1, 2])

    def test_without_folders_there_are_no_classes(self):
        self.picture("1.png", (8, 8), "green")
        found, _ = prepare.prepare(self.pictures, self.out, [(8, 8)])
        self.assertEqual(found["classes"], [])

    def test_the_camera_was_held_sideways(self):
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees to look at it
        self.picture("1.jpg", (16, 8), "green", exif=exif)
        found, _ = prepare.prepare(self.pictures, self.out, [(8, 16), (16, 8)])
        self.assertEqual([(c["width"], c["height"]) for c in found["canvases"]], [(8, 16)])

    def test_what_is_transparent_is_on_white(self):
        Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(self.pictures / "1.png")
        prepare.prepare(self.pictures, self.out, [(8, 8)])
        self.assertTrue((np.load(self.out / "pixels-8x8.npy") == 255).all())

    def test_what_cannot_be_read_is_left_out_and_named(self):
        self.picture("1.png", (8, 8), "green")
        (self.pictures / "2.png").write_bytes(b"no picture")
        (self.pictures / "notes.txt").write_text("not looked at")
        found, unreadable = prepare.prepare(self.pictures, self.out, [(8, 8)])
        self.assertEqual([c["count"] for c in found["canvases"]], [1])
        self.assertEqual(len(unreadable), 1)
        self.assertIn("2.png", unreadable[0])

    def test_the_licence_comes_along(self):
        self.picture("1.png", (8, 8), "green")
        (self.pictures / "LICENSE.txt").write_text("public domain\n")
        self.assertEqual(prepare.prepare(self.pictures, self.out, [(8, 8)])[0]["license"], "public domain")
        said = prepare.prepare(self.pictures, self.out, [(8, 8)], "CC0-1.0", "a garden")[0]
        self.assertEqual((said["license"], said["source"]), ("CC0-1.0", "a garden"))

    def test_the_standard_deviation(self):
        random = np.random.default_rng(1).integers(0, 256, (5, 4, 4, 3), np.uint8)
        self.assertAlmostEqual(prepare.deviation([random[:2], random[2:]]), (random / 127.5 - 1).std(), 12)

    def test_what_is_refused(self):
        self.assertIn("no pictures", kit.command("prepare", self.pictures, self.out, status=1))
        self.picture("one/1.png", (8, 8), "green")
        self.picture("1.png", (8, 8), "green")
        self.assertIn("both pictures and folders", kit.command("prepare", self.pictures, self.out, status=1))
        (self.pictures / "1.png").unlink()
        self.picture("a" * 96 + "/1.png", (8, 8), "green")
        self.assertIn("is not text of 1 to 95 bytes", kit.command("prepare", self.pictures, self.out, status=1))
        self.assertIn("not WIDTHxHEIGHT", kit.command("prepare", self.pictures, self.out, "--canvas", "8", status=2))


def ramps(count, height, width):
    """Pictures whose pixels say where they are: [count, 3, height, width], row and column from -1 to 1."""
    return torch.cat([diffusion.whole(count, (height, width), torch.device("cpu")),
                      torch.zeros(count, 1, height, width)], 1)


class TestShowing(unittest.TestCase):
    def test_windows_know_where_they_are(self):
        """Of a canvas that shows its own coordinates, every window shows those it comes with."""
        dice = torch.Generator().manual_seed(1)
        shown, places = data.show(ramps(64, 32, 48), (16, 16), 1.0, dice)
        self.assertEqual(shown.shape, (64, 3, 16, 16))
        self.assertLess((shown[:, :2] - places).abs().max(), 1e-5)
        self.assertGreater(len({tuple(row.tolist()) for row in places[:, :, 0, 0]}), 32)

    def test_a_whole_picture_spans_everything(self):
        dice = torch.Generator().manual_seed(1)
        shown, places = data.show(ramps(2, 32, 48), (16, 16), 0.0, dice)
        self.assertTrue(torch.equal(places, diffusion.whole(2, (16, 16), shown.device)))
        self.assertAlmostEqual(float(shown[0, 0].mean()), 0, 5)
        self.assertGreater(float(shown[0, 0, -1].min()), 0.9, "scaled, so its edge is the canvas's edge")
        self.assertLess(float(shown[0, 1].max()), 0.7, "cut at the sides")

    def test_a_share_of_windows(self):
        dice = torch.Generator().manual_seed(1)
        _, places = data.show(ramps(1000, 16, 24), (16, 16), 0.3, dice)
        whole = (places == diffusion.whole(1, (16, 16), places.device)).all(3).all(2).all(1)
        self.assertAlmostEqual(float(whole.float().mean()), 0.7, delta=0.06)

    def test_a_smaller_canvas_has_no_windows(self):
        dice = torch.Generator().manual_seed(1)
        shown, places = data.show(ramps(2, 8, 8), (16, 16), 1.0, dice)
        self.assertEqual(shown.shape, (2, 3, 16, 16))
        self.assertTrue(torch.equal(places, diffusion.whole(2, (16, 16), shown.device)))


class TestFewPictures(FolderCase):
    def test_one_picture_is_not_enough(self):
        self.picture("1.png", (8, 8), "green")
        prepare.prepare(self.pictures, self.out, [(8, 8)])
        with self.assertRaisesRegex(ValueError, "too few pictures to hold one out"):
            data.Dataset(self.out, torch.device("cpu"))

    def test_a_canvas_with_one_picture_is_trained_on(self):
        for name, size in {"1": (8, 8), "2": (8, 8), "3": (8, 16)}.items():
            self.picture(f"{name}.png", size, "green")
        prepare.prepare(self.pictures, self.out, [(8, 8), (8, 16)])
        dataset = data.Dataset(self.out, torch.device("cpu"))
        self.assertEqual((len(dataset.held_out((8, 8))[0]), len(dataset.training((8, 8))[0])), (1, 2))


class TestDrawing(FolderCase):
    def setUp(self):
        super().setUp()
        shapes.write(self.pictures, 30, sizes=[(48, 48), (48, 96)])
        prepare.prepare(self.pictures, self.out, [(16, 16), (16, 32)])
        self.recipe = config.complete(kit.TINY)

    def dataset(self, resident=True):
        return data.Dataset(self.out, torch.device("cpu"), 0.1, resident)

    def draw(self, dataset, seed=0, size=(16, 16), **changes):
        dice = torch.Generator().manual_seed(seed)
        return data.draw(dataset, size, 32, {**self.recipe, **changes}, dice)

    def test_the_same_dice_draw_the_same(self):
        """Whether the pictures lie in memory or in the file."""
        for a, b in zip(self.draw(self.dataset()), self.draw(self.dataset(resident=False))):
            self.assertTrue(torch.equal(a, b))
        self.assertFalse(torch.equal(self.draw(self.dataset())[0], self.draw(self.dataset(), 1)[0]))

    def test_other_sizes(self):
        for size in ((8, 8), (16, 32), (32, 16), (32, 32)):
            pictures, places, _ = self.draw(self.dataset(), size=size)
            self.assertEqual((pictures.shape, places.shape), ((32, 3, *size), (32, 2, *size)))
            self.assertLessEqual(float(pictures.abs().max()), 1 + 1e-5)

    def test_labels_fit_and_some_are_dropped(self):
        names, right, dropped = sorted(shapes.COLOURS), 0, 0
        for seed in range(10):
            pictures, _, onehot = self.draw(self.dataset(), seed, label_drop=0.25)
            kept = onehot.sum(1) > 0
            dropped += int((~kept).sum())
            right += sum(shapes.colour_of(picture) == names[int(label)] for picture, label in
                         zip(diffusion.to_bytes(pictures[kept]), onehot[kept].argmax(1)))
        self.assertEqual(right, 320 - dropped)
        self.assertAlmostEqual(dropped / 320, 0.25, delta=0.1)

    def test_held_out_pictures_are_never_drawn(self):
        dataset = self.dataset()
        for canvas in dataset.canvases:
            self.assertFalse(set(canvas.held_out.tolist()) & set(canvas.train.tolist()))
            self.assertEqual(sorted(canvas.held_out.tolist() + canvas.train.tolist()), list(range(len(canvas.labels))))
        kept = dataset.held_out((16, 16))[0].flatten(1)
        for seed in range(10):
            drawn = torch.cat([x := self.draw(dataset, seed)[0], x.flip(3)]).flatten(1)
            self.assertGreater(float(torch.cdist(kept, drawn).min()), 1e-3)


if __name__ == "__main__":
    unittest.main()
