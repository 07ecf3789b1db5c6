"""One format each: ``read(path, settings) -> RawTable``, every value as the text that stands in the file."""
