//! Turns user-facing objects into the IR, with diagnostics and an outcome for every field.
