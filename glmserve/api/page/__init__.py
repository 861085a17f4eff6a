"""The page for people: its files, their headers, and what it asks the server about."""
