"""Studies: methods x data x shots x seeds x settings, computed cell by cell.

=============  ====================================================================================
``study``      hosts, methods, data and settings, and the cells that follow from them
``loading``    reads and checks a study's config, with ``configs`` for those that it names
``compose``    one complete config from host, method, data and settings
``images``     datasets built once, images cached in memory
``jobs``       cells as trainings with their tests, identified by a digest of their inputs
``worker``     computes jobs in one process, with ``training`` and ``testing``
``running``    all jobs of a study: in this process, or in several on Ray
``plan``       the cells of a study and their cost, estimated by ``measure``
``records``    the results of a study: one JSON object per line, one line per cell
``frame``      the records as one tidy table; means over seeds and datasets
``view``       the results that tables and plots show
``tables``     the tables of each protocol
``published``  published numbers beside ours
``plots``      scores against shots, trainable parameters and varied settings
``page``       tables and plots as Markdown, CSV, LaTeX and HTML
=============  ====================================================================================
"""
