"""From a folder of pictures to a model file that brickworkd serves; docs/TRAINING.md is the walk.

    files      safetensors and JSON, written so that a reader never sees half of them
    config     what a run is: the network's shape and the recipe
    network    the bricks
    diffusion  preconditioning, loss, coordinates, samplers
    data       what prepare wrote, cut into batches
    optimizer  Muon, and which weights it moves
    run        one run's state, its steps, its checkpoints; several processes
    features, chart    a small classifier to compare pictures by; diagrams as SVG and PNG

and one file for each command of __main__. Everything random in a step is a pure function of the seed, the step
and the piece of the batch, so there is no state of random numbers to keep, and how many GPUs shared the work
makes no difference to what was drawn.
"""
