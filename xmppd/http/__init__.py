"""HTTP on 5280 and 5281: the site, and what of it belongs to no module."""
