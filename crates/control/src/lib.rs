//! The control plane: objects in, IR and certificates out.
