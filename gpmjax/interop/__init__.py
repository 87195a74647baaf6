"""gpmjax models as rewards in other people's trainers and benchmarks.

    rewards.py      one number for each completion, out of a model that compares
    settings.py     which model and which number, from a call or from the environment
    templated.py    texts that a chat template has written already
    gather.py       a group whose completions come one by one
    server.py       OpenRLHF's reward server;  client.py  asks one
    trl.py  openrlhf.py  verl.py  rewardbench.py    the signatures of each

None of those packages is imported; only their signatures are spoken.
"""
