"""Diagnostics of a preference model beyond accuracy: pure functions of judged groups (`judge.group_record`).

records.py      reads and checks the file of judged groups
correlation.py  rank correlation over pairs of responses
cycles.py       how cyclic a model's scores are: cyclic triads, and energy that no reward explains
vote_noise.py   tests labels, and a model's cycles, against Bradley–Terry with vote noise
gate.py         spectrum of the scale gate over prompts
blocks.py       which 2-d block decides which pairs
edges.py        which block decides which edge of a rated cycle
aspects.py      which block correlates with which human rating
length.py       whether the model prefers longer responses
symmetry.py     a pairwise model's verdicts on the same pair in both orders
cost.py         tokens through the backbone, measured and by formula
diagnose.py     all of these as one summary
run.py          judges groups and writes the summary
"""
