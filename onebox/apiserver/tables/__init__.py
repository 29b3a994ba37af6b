"""What `kubectl get` prints: columns of built-in kinds in code, those of custom kinds by JSONPath. All pure."""
