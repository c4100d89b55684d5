"""Whether a window can be opened."""

from .finding import Finding


def check_display() -> Finding:
    """Return whether a window can be opened, which only ``--show`` needs; takes OpenCV."""
    from ..views.window import display_problem

    problem = display_problem()
    if problem:
        reason, _, remedy = problem.partition("; ")
        return Finding("display", "note", f"only --show needs one: {reason}", remedy)
    return Finding("display", "ok", "a window can be opened")
