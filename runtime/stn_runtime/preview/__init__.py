"""The page on which a run can be watched from a browser."""
