"""The known data sets, one file each."""
