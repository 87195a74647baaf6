"""Responses from a policy: drawn here, or asked of a server.

logits.py    temperature, top-k, top-p and the draw
generate.py  K responses a prompt, the prompt encoded once
rollout.py   one protocol over the local sampler and an OpenAI-compatible endpoint
endpoint.py  that endpoint
http.py      requests that are sent again, a bounded number of times, and several at once
"""
