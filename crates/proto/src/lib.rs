//! Wire types of the config stream and of the certificate API, and their conversion to and from the IR.
