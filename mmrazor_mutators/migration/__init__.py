"""Configs and files of other versions of MMRazor, in our terms."""
