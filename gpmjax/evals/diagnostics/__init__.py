"""What accuracies do not say of a preference model: pure functions of judged groups (`judging.group_record`).

records.py      the file of judged groups, and what is read from a line of it
correlation.py  rank correlation over pairs of responses
cycles.py       how cyclic a model's scores are: triads, and energy that rewards cannot explain
vote_noise.py   are the cycles real? labels beside Bradley–Terry with vote noise, alone and against a model's cycles
gate.py         spectrum of the scale gate over prompts
blocks.py       which 2-d block decides which pairs
aspects.py      which block goes with which human rating
length.py       whether length is preferred
symmetry.py     what a pairwise model says of the same pair in both orders
cost.py         tokens through the backbone, measured and by formula
diagnose.py     all of it as one summary; table.py shows it, run.py judges and writes
"""
