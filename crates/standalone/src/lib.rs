//! A mesh on one machine: workloads as processes in namespaces of their own.
