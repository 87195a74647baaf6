"""Policies measured by their answers: who wins against a reference, by how much of that is length, and what grade they
get.

outputs.py            AlpacaEval's files of answers
mt_bench.py           MT-Bench's questions, two-turn answers and ratings
answering.py          a policy answers either, and goes on where it was interrupted
chat_endpoint.py      any OpenAI-compatible chat server, every answer kept on disk and counted
answer_cache.py       that disk
judge_prompts.py      what a chat model is asked, and how its verdict is read
chat_judge.py         a chat model as a `gpmjax.judges.judge.Judge`
grading.py            a chat model grades MT-Bench answers from 1 to 10
win_rate.py           win rate against the reference
length_controlled.py  the win rate that answers of equal length would have had
compare.py            answers and a judge in, a summary out
table.py              the summary for people
"""
