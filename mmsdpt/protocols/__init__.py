"""The protocols of prompt learning on CLIP: what is trained, on what it is tested, and the tables.

=================  ==============================================================================
``methods``        the methods of the comparison, each read from its config
``plan``           the four protocols as lists of cells
``configs``        reading configs that many cells share
``compose``        one config from model, dataset and method
``images``         images kept in memory between cells
``templates``      sentences of the zero-shot ensemble
``trainings``      a method, trained on its few images
``evaluate``       a trained method, tested on a full test set
``results``        files of results, by which a run that was broken off goes on
``workshop``       trains and tests cells, one after the other, in one process
``execute``        all cells, in one or more processes
``rows``           results as rows of one table
``scores``         mean, standard deviation, harmonic mean
``report``         the rows as a Markdown page
``published``      the papers' numbers
``plot``           accuracy against shots
``curves``         what is plotted
``study``          variants of one method
``command_line``   arguments, names of configs, the progress bar
=================  ==============================================================================
"""
