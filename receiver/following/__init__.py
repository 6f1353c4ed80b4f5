"""Handing the change feed on to an endpoint of the user's own, with a cursor that the database keeps."""
