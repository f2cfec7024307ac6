"""The companion job: a new head, or a whole network, from photographs in class folders.

find ──► decode ──► extract ──► features ──► train ──► evaluate ──► export ──► label's --model
"""
