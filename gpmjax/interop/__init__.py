"""gpmjax models as rewards in other trainers and benchmarks.

    rewards.py      one number for each completion, from a model that compares
    settings.py     which model and which number, from a call or from the environment
    templated.py    texts that already went through a chat template
    gather.py       groups whose completions arrive one by one
    server.py       a server that speaks OpenRLHF's reward protocol
    client.py       a client of such a server
    trl.py  openrlhf.py  verl.py  rewardbench.py    the signatures of each package

None of those packages is imported; this package only implements their signatures.
"""
