"""Evaluation of policies by their answers: win rates against a reference, length-controlled win rates, and grades.

outputs.py            AlpacaEval's files of answers
mt_bench.py           MT-Bench's questions, two-turn answers and ratings
answering.py          a policy answers the questions of either, and resumes where it was interrupted
grading.py            a chat model grades MT-Bench answers from 1 to 10
win_rate.py           win rate against the reference
length_controlled.py  win rate that answers of the reference's length would have
compare.py            compares policies' answers with the reference's by a judge
"""
