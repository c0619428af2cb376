//! What the tests of whole groups share.
