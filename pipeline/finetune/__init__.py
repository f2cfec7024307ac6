"""Train a classifier, its head or the whole network, on images with known classes.

find ──► decode ──► extract ──► features ──► train ──► evaluate ──► export ──► label's --model
"""
