//! Decides who may talk to whom; the only maker of a permit.
