"""Responses of a policy, drawn on this machine or requested from a server.

logits.py    temperature, top-k, top-p and the draw
generate.py  K responses to each prompt; the prompt is encoded once
rollout.py   the Rollout protocol, and a rollout that draws on this machine
endpoint.py  a rollout that asks an OpenAI-compatible server
http.py      requests with a bounded number of retries, several at once
fetch.py     one HTTP request with bounds on its time and size
"""
