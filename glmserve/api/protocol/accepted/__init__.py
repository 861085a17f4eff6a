"""The fields that clients send although nothing has to be done for them: one module per API.

`fields.py` explains the two kinds of such fields. A table belongs to one object of a request, and
the model of this object names it as its `accepted`. `python -m glmserve.api.operator.accepted_page`
writes the guide's page from these tables.
"""
