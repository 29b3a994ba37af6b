"""Knative Serving's behaviour on one machine.

    Service ──> Configuration ──> Revision ──> Deployment, public and private Service, Endpoints
       └──────> Route ──────────> VirtualService `<route>-ingress`, placeholder Services

Each kind has a pure plan and a thin controller; `run.py` runs them. The autoscaler writes a Deployment's replicas, the
activator takes requests while there are no pods. PodAutoscaler, ServerlessService, Ingress and Metric stay inside the
process for now: as reports on a board, as a decision about Endpoints, as rules of a route.
"""
