"""Studies: methods x data x shots x seeds x settings, computed cell by cell.

=============  ====================================================================================
``study``      a study's config, and its cells
``compose``    one complete config from host, method, data and settings
``images``     data sets built once, images kept in memory
``jobs``       cells as trainings with their tests, each known by all that it depends on
``worker``     computes jobs in one process, with ``training`` and ``testing``
``running``    all jobs of a study: in this process, or in several on Ray
``plan``       what a study would compute, and what that takes, by ``measure``
``records``    the results of a study: one JSON object a line, one line a cell
``frame``      the records as one tidy table; means over seeds and data sets
``view``       what tables and plots are made of
``tables``     the tables of each protocol
``published``  numbers of papers beside ours
``plots``      scores against shots, trainable parameters and varied settings
``page``       tables and plots as Markdown, CSV, LaTeX and HTML
=============  ====================================================================================
"""
