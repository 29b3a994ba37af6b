"""The fixtures of Knative's own conformance and e2e tests (spec/knative.md 6.4), on onebox.

The test servers are Knative's, rewritten in Python (tests/e2e/servers). Where a fixture's numbers are not given here they are
Knative's. All run in `make test-long`: their windows, probes and grace periods take minutes. Where a test has a short and a
long form, both run there. What runs otherwise than in Knative's tests:

| fixture | here | why |
|---|---|---|
| F7 | 200 requests, and twenty seconds | the same five clients ask the same server |
| F9 | the container ends at once | a crash after ten seconds is the same condition, later |
| F10 | PORT is 8801 in the pod's spec, another port in the process | pods share one machine (docs/decisions/0001) |
| F12 | ready after 3 s, failing with a period of 1 s; and 10 s, and a period of 0 | what counts is the order |
| F12 | no failing of a TCP probe | a server that is connected to cannot fail one |
| F13 | both windows 10 s, two targets; and 1 to 8 targets for two minutes | test_autoscaling.py says why ten |
| F14 | windows 10 s, 20 and 40 rps; and 20, 30, 40 | the same |
| F15 | windows 10 s; six clients and six more | at seven of seven, one request more for a millisecond decides |
| F16 | a deadline of 90 s | a busy machine; nothing but the deadline is longer |
| F18 | pods are made ready one by one by the test | no race between them decides what is seen |
| F19 | 8 s, and 60 s | the number of steps follows the duration |
| F21 | a request of 6 s, timeout 20 s; and 35 s, timeout 45 s | what counts is the order |
| F22 | the client goes on talking after the deletion, and closes | the pod drains for as long as a socket is open |

No fixture needs a container engine: what Knative's images do, a program behind the sidecar does.
"""
