"""The commands train, evaluate and sheet."""
