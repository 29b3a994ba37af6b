"""The Open Inference Protocol over gRPC, beside REST and from the same data plane. Imported where it is served only."""
