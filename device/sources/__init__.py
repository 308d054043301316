"""Picture sources: photos, a watched folder or file, standard input, video; each is one file, behind one seam."""
