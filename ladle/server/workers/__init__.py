"""Several processes that serve as one: `--workers N`.

A parent without threads forks N workers, which share the ports by SO_REUSEPORT. What is asked of one and concerns all goes
through the parent (`switchboard`, `fleet`); what each has to know of the others at any moment lies in shared memory
(`scoreboard`).
"""
