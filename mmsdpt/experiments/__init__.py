"""Studies: methods x data x shots x seeds x settings, computed cell by cell.

===========  ====================================================================================
``records``  the results of a study: one JSON object a line, one line a cell
===========  ====================================================================================
"""
