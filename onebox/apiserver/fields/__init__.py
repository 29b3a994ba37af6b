"""Who owns which field: sets of fields, merging along a schema, and the managedFields of an object. All pure."""
