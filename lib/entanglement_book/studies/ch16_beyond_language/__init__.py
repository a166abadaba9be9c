"""Beyond language: several objectives in one network, of pictures, genes, films and driving."""
