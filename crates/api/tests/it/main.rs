//! Tests against the data of the peers, read when it is beside the checkout.

mod samples;
