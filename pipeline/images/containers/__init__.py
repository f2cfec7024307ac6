"""The formats of images: what a file holds around its pixels, looked through before it is decoded.

A hostile or damaged file of a few kilobytes can keep a decoder busy for minutes, or make it ask for
hundreds of gigabytes: with metadata that is copied again for each of its parts, with directories
whose entries all claim the whole file, with thousands of scans. All of that is outside the pixels.
So decoders are given files that are reduced to what the pixels of the first frame need, and what
would still take too long is refused here. What is found to be an everyday file is decoded in the
process that read it. No Beam, no TensorFlow.
"""
