"""How good the labels are: whether annotators agree, and which answers look wrong."""
