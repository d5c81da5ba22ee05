//! The one model of a mesh that every dialect translates into and every proxy obeys.
