"""Answers that outlive their connection and their server: glmserve.journal, seen from the API.

The events of an answer follow from its request, its identity, and its tokens in the order and
grouping in which they were taken from the engine. These are recorded. To resume an answer is to
write it once more from the record, to leave out the events that the client has, and to go on
computing.
"""
