"""The machine learning: pure functions over arrays, with no web and no database.

Where is what. A module imports only what stands above it here; tests/test_contracts.py reads this list.

What is trained
    spec_base           what every part of a spec has in common
    spec_layers         layers, and what they make of shapes
    spec_optimizers     optimizers and learning-rate schedules
    spec_augmentation   how training images are varied
    spec_callbacks      when to stop, when to lower the learning rate
    spec                everything that determines a run's result
    presets             ready trainings

MNIST
    files               written whole or not at all
    sources             mirrors, and the package index
    data                the cache, checksums, the split

Drawings
    decoding            an image file's bytes as an upright picture
    paper               photographs and scans: light, lines, dust go
    sheet               a sheet on a table, between bars, in a frame
    ink                 ink from what it is drawn on
    drawing             into MNIST's form
    segmentation        a number into its digits

Networks
    products            a mini-batch times a kernel
    fourier             convolution of small images by their transforms
    convolution         convolution and pooling, fast on every backend
    layers              (init, apply) of each kind of layer
    network             Sequential: parameters, logits, outputs
    inference           calibrated probabilities, and whether it is a digit
    explain             saliency and activations
    checkpoint          parameters as safetensors, with spec and scores

How good they are
    losses              losses and metrics of one example each
    scores              how good a network is, as data
    evaluate            what computes that

Training
    handwriting         slashed 0s, flagged 1s, barred 7s
    augment             images moved, bent, thickened, noisy
    optimizers          a spec as an Optax transformation
    reports             what fit() yields
    plan                steps, chunks, time and memory, before the start
    devices             how arrays lie on several devices
    memory              whether a training fits into the device
    compilation         compiled code gives the same bits, and is kept on disk
    callbacks           decisions after an epoch
    step                one mini-batch, and the scan over a chunk of them
    resume              a training in the middle, as bytes
    training            the host's side: data, rates, callbacks
    train               fit(), and when to make a checkpoint

Publishing
    kept                arrays that follow from the images alone, on disk
    confidence          fits what inference needs beside the parameters
    finish              from trained parameters to what is published
"""
