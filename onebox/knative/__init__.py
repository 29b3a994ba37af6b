"""Knative Serving's behaviour on one machine.

    Service ──> Configuration ──> Revision ──> Deployment, public and private Service, Endpoints
                                           └──> PodAutoscaler ──> ServerlessService
       └──────> Route ──────────> VirtualService `<route>-ingress`, placeholder Services

Each kind has a pure plan and a thin controller; `run.py` runs them. The autoscaler writes a Deployment's replicas, the
activator takes requests while there are no pods. PodAutoscaler and ServerlessService show what is decided on a board inside
the process; Ingress and Metric stay inside: as rules of a route, as windows of the autoscaler.
"""
