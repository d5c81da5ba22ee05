//! Metrics registry, bounded log writer, names of metrics and events.
