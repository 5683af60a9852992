"""Many callers of one gateway, in any order: a model of `gateway.runs` and `gateway.hub` over a log.

A world is a service, a hub, a log, and the callers that one seed draws for it: they start runs, publish, pause, cancel,
finish, erase, wait and watch, leave amid it all and come back. Whatever they met in whatever order, this holds:

Law 1: every call is answered, by what it asked for or by a refusal that can be meant (`world`).
Law 2: what was acknowledged stands in the log, once, where the answer said; what was refused does not (`laws`).
Law 3: every run ends, by one terminal event, and as those were told who ended it (`laws`).
Law 4: who watches a run gets its events in order, each once, without a hole that no `gap` told of, and comes to the
state that the gateway tells (`viewers`).
Law 5: when all is over nothing is left: no place taken, no task, no topic, no sink (`laws`).

Over a log in memory a seed repeats its world to the last turn of the loop, as time is virtual there. Over SQLite it
does not: two threads and a real file have a say in the order. `python -m tests.model SEED` plays one.
"""
