"""Parts that the methods of several papers share."""
