"""What programs on devices print, read line by line: a format that is not known is an error that shows the line."""
