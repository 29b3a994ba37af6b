"""The fixtures of Knative's own conformance and e2e tests (spec/knative.md 6.4), on onebox.

The test servers are Knative's, rewritten in Python (tests/e2e/servers). Where a fixture's numbers are not given here they are
Knative's. What runs otherwise, and why:
"""
