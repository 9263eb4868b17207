"""What each command is asked: a record whose fields carry the options, so that an option stands in one place."""
