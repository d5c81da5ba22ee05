//! Giving privileges away, in the order that still allows the next step.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use super::plan::{Capabilities, Limit, Limited};

/// Keeps other processes of the same user out of this one's memory, and its memory out of core dumps.
///
/// The kernel forgets this when a program is started, so a process that holds keys must call it itself,
/// before it receives them.
pub fn protect_memory() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    Ok(rustix::process::setrlimit(Resource::Core, none)?)
}

/// Drops every capability but the kept ones, for good: a user 0 that starts a program would get all
/// back otherwise.
pub(super) fn keep_capabilities(kept: Capabilities) -> io::Result<()> {
    if kept == Capabilities::KEEP {
        return Ok(());
    }
    let present = rustix::thread::capabilities(None)?;
    let keep = CapabilitySet::from_bits_retain(kept.0) & present.permitted;
    // An unprivileged process may not change these, and needs not: it has nothing to get back.
    if present.permitted.contains(CapabilitySet::SETPCAP) {
        for number in 0..64 {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            if keep.contains(capability) {
                continue;
            }
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // Numbers this kernel does not know end the list.
                Err(rustix::io::Errno::INVAL) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        let bits = CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED;
        rustix::thread::set_capabilities_secure_bits(bits)?;
    }
    rustix::thread::clear_ambient_capability_set()?;
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: keep };
    rustix::thread::set_capabilities(None, sets)?;
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(capability) {
            // Ambient: the set that an ordinary program starts with.
            rustix::thread::configure_capability_in_ambient_set(capability, true)?;
        }
    }
    Ok(())
}

pub(super) fn set_limit(limit: Limit) -> io::Result<()> {
    let resource = match limit.of {
        Limited::AddressSpaceBytes => Resource::As,
        Limited::CoreBytes => Resource::Core,
        Limited::FileBytes => Resource::Fsize,
        Limited::LockedBytes => Resource::Memlock,
        Limited::OpenFiles => Resource::Nofile,
        Limited::Processes => Resource::Nproc,
    };
    let limits = Rlimit { current: Some(limit.soft), maximum: Some(limit.hard) };
    Ok(rustix::process::setrlimit(resource, limits)?)
}
