//! gRPC stubs and transports.
