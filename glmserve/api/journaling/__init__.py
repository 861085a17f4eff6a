"""Answers that outlive their connection and their server: glmserve.journal, seen from the API.

The events of an answer follow from its request, its identity and its tokens in the order and
grouping in which they were made into events. So these are recorded, and to go on with an answer is
to write it once more from the record, to leave out what the client has, and to go on computing.
"""
