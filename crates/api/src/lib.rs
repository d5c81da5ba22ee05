//! User-facing objects, decoded with the position of every field.
