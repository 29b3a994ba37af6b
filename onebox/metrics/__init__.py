"""One page of metrics for the whole onebox."""
