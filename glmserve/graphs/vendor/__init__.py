"""What the compilers of two vendors of inference cards take, and how they are called.

No such card and no such compiler was at hand. Facts come from what the vendors publish, named where
they are used; where nothing is published, the guide says so.
"""
