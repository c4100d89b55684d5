"""Digits as a camera sees them: glyphs, and the scenes they are shown in."""
