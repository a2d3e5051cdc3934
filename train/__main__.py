"""python3 -m train COMMAND ...: see -h, of the whole and of each command."""
import importlib
import sys

COMMANDS = {
    "prepare": "a folder of pictures for each class becomes arrays",
    "train": "the arrays become weights, by a configuration",
    "evaluate": "what was learnt: losses by mask and noise, memorised pictures, distances, samples",
    "export": "the weights become a model file that brickworkd serves",
    "plot": "curves, masks and cost against quality as SVG and PNG",
    "import_lego": "a published checkpoint becomes a model file",
}


def main(arguments):
    if not arguments or arguments[0] not in COMMANDS:
        print("usage: python3 -m train COMMAND ...\n")
        print("\n".join(f"    {name:12} {what}" for name, what in COMMANDS.items()))
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    try:
        return importlib.import_module(f"train.{arguments[0]}").main(arguments[1:])
    except ModuleNotFoundError as error:
        print(f"{arguments[0]}: {error}; docs/TRAINING.md says what training needs", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"{arguments[0]}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
