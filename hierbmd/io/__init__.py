"""Reading and writing the types: CT, label maps, radiographs, geometry files, weights; writes are atomic."""
