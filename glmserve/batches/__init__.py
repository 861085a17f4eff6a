"""Batches of requests in files: their lines, their outputs, and the folder that keeps them.

It knows neither HTTP nor models. `glmserve serve` and `glmserve batch` use it.
"""
