// The target of nibble_test_headers needs a source; the headers are named in CMakeLists.txt.
