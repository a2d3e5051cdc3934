"""What a run is: the network's shape and the recipe, from one JSON file.

OPTIONS lists every key with its default and what it may be; docs/TRAINING.md says what each changes. The shape is
given by `arrangement` and `size`, or in full by `bricks`, `hidden_size` and `num_heads`.
"""
from train import files

FORMAT = 1
HIDDEN_MULTIPLE, MAX_BRICKS = 32, 8  # what the engine takes

# name: (hidden size, heads, transformer blocks of the whole stack)
SIZES = {"S": (384, 6, 12), "L": (1024, 16, 24), "XL": (1152, 16, 28)}

# Bricks from first to last: (picture side / tile side, picture side / patch side, share of the blocks).
SMALL, MIDDLE, GLOBAL = (16, 32), (4, 32), (1, 16)
ARRANGEMENTS = {
    "PG": [(*SMALL, 1 / 4), (*MIDDLE, 1 / 4), (*GLOBAL, 1 / 2)],
    "PR": [(*GLOBAL, 1 / 2), (*MIDDLE, 1 / 4), (*SMALL, 1 / 4)],
    "U": [(*GLOBAL, 1 / 4), (*MIDDLE, 1 / 8), (*SMALL, 1 / 4), (*MIDDLE, 1 / 8), (*GLOBAL, 1 / 4)],
}


# ---- what a value may be: each says what it wants, or None if the value is right ----

def number(low, high):
    def check(value):
        right = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
        return None if right else f"a number from {low} to {high}"
    return check


def integer(low, high):
    def check(value):
        right = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if right else f"an integer from {low} to {high}"
    return check


def one_of(*words):
    return lambda value: None if value in words else "one of " + ", ".join(map(str, words))


def text(value):
    right = isinstance(value, str) and 0 < len(value.encode()) < 96
    return None if right else "text of 1 to 95 bytes"


def flag(value):
    return None if isinstance(value, bool) else "true or false"


def pairs(value):
    side = integer(1, 2048)
    right = isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and not any(map(side, pair)) for pair in value)
    return None if right else "a list of [width, height]"


def stack(value):
    """Bricks in full; whether they fit each other check_network() says."""
    keys = {"size", "patch", "depth"}
    right = isinstance(value, list) and 1 <= len(value) <= MAX_BRICKS and all(
        isinstance(b, dict) and set(b) == keys and not any(integer(1, 2048)(b[k]) for k in keys) for b in value)
    return None if right else f'a list of 1 to {MAX_BRICKS} of {{"size", "patch", "depth"}}'


def optional(check):
    def either(value):
        wanted = None if value is None else check(value)
        return wanted and wanted + ", or null"
    return either


# key: (default, what it may be)
OPTIONS = {
    "name": ("mine", text),
    # shape
    "image_size": (64, integer(4, 2048)),
    "min_size": (None, optional(integer(1, 2048))),
    "arrangement": ("PG", one_of(*ARRANGEMENTS)),
    "size": ("S", one_of(*SIZES)),
    "bricks": (None, optional(stack)),
    "hidden_size": (None, optional(integer(32, 4096))),
    "num_heads": (None, optional(integer(1, 4096))),
    "mlp_ratio": (4, integer(1, 8)),
    "sigma_data": (None, optional(number(0.01, 100))),
    # budget
    "images": (None, optional(integer(1, 10**12))),
    "seconds": (None, optional(number(0.1, 10**8))),
    # batches
    "batch": (512, integer(1, 10**6)),
    "micro_batch": (None, optional(integer(1, 10**6))),
    "sizes": ([], pairs),
    "windows": (0.0, number(0, 1)),
    "flip": (True, flag),
    "label_drop": (0.1, number(0, 1)),
    "held_out": (0.05, number(0.001, 0.5)),
    # loss
    "training": ("joint", one_of("joint", "in turn")),
    "early_weight": (0.5, number(0, 10)),
    "partial": (0.35, number(0, 1)),
    "shifted": (0.8, number(0, 1)),
    "noise_mean": (-0.8, number(-10, 10)),
    "noise_std": (1.4, number(0.01, 10)),
    # optimizer
    "optimizer": ("muon", one_of("muon", "adamw")),
    "lr": (1e-3, number(0, 10)),
    "adam_lr": (6e-4, number(0, 10)),
    "warmup": (300, integer(1, 10**6)),
    "decay": (0.3, number(0.001, 1)),
    "clip": (2.0, number(0.001, 10**6)),
    "ema": (0.0006, number(1e-6, 1)),
    # machine
    "bf16": (True, flag),
    "compile": (True, flag),
    "resident": (True, flag),
    "seed": (0, integer(0, 2**31 - 1)),
    "report_steps": (500, integer(1, 10**9)),
    "checkpoint_steps": (2500, integer(1, 10**9)),
}


def complete(given):
    """Every option: as given, or its default. ValueError names what is unknown or out of range."""
    unknown = sorted(set(given) - set(OPTIONS))
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}")
    recipe = {key: given.get(key, default) for key, (default, _) in OPTIONS.items()}
    for key, (_, check) in OPTIONS.items():
        if wanted := check(recipe[key]):
            raise ValueError(f"{key} is not {wanted}")
    if (recipe["images"] is None) == (recipe["seconds"] is None):
        raise ValueError("the budget is either images or seconds")
    if recipe["batch"] % (recipe["micro_batch"] or recipe["batch"]):
        raise ValueError("batch is not a multiple of micro_batch")
    return recipe


def read(path):
    given = files.read_json(path)
    if not isinstance(given, dict):
        raise ValueError(f"{path}: not an object")
    try:
        return complete(given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


# ---- the network ----

def named_stack(arrangement, image_size, depth):
    """The bricks of a named arrangement for pictures of that side."""
    return [{"size": max(1, image_size // tiles), "patch": max(1, image_size // patches),
             "depth": max(1, round(share * depth))} for tiles, patches, share in ARRANGEMENTS[arrangement]]


def tiles_side(network, side):
    """Can every brick cover a side of that length?"""
    return all(side % b["patch"] == 0 if side < b["size"]
               else b["size"] == network["image_size"] or side % b["size"] == 0 for b in network["bricks"])


def check_network(network):
    """ValueError if the engine would not take it."""
    hidden, heads, side = network["hidden_size"], network["num_heads"], network["image_size"]
    if hidden % HIDDEN_MULTIPLE or hidden % heads:
        raise ValueError(f"hidden_size {hidden} is not a multiple of {HIDDEN_MULTIPLE} and of num_heads {heads}")
    for brick in network["bricks"]:
        if side % brick["size"] or brick["size"] % brick["patch"]:
            raise ValueError(f"tiles of {brick['size']} in patches of {brick['patch']} do not divide {side}")
    if not tiles_side(network, network.get("min_size", side)):
        raise ValueError(f"the bricks cannot tile min_size {network['min_size']}")
    return network


def network_of(recipe, dataset):
    """The metadata "lego" of the model to be: `dataset` is what prepare wrote about the pictures."""
    hidden, heads, depth = SIZES[recipe["size"]]
    network = {
        "format": FORMAT, "name": recipe["name"], "image_size": recipe["image_size"],
        "channels": dataset["channels"], "num_classes": len(dataset["classes"]), "classes": dataset["classes"],
        "hidden_size": recipe["hidden_size"] or hidden, "num_heads": recipe["num_heads"] or heads,
        "mlp_ratio": recipe["mlp_ratio"], "sigma_data": recipe["sigma_data"] or round(dataset["std"], 2),
        "bricks": recipe["bricks"] or named_stack(recipe["arrangement"], recipe["image_size"], depth)}
    if recipe["min_size"]:
        network["min_size"] = recipe["min_size"]
    check_network(network)
    for size in recipe["sizes"]:
        if not all(tiles_side(network, side) for side in size):
            raise ValueError(f"the bricks cannot tile {size} of sizes")
    return network
