//! The data plane: accept, detect, identify, authorize, route, pick, connect, forward, record.
