//! Certificates with their ages, and warnings about roots that grow old.

use std::time::SystemTime;

use heddle_cert::{HolderId, HolderRecord};
use serde_json::{Value, json};

use super::State;
use crate::timestamp::{millis, text};

/// So many days before the end of a root it is warned of.
const WARN_DAYS: [u64; 3] = [30, 7, 1];

/// Whole days until then; 0 when it is over.
pub(super) fn days_left(until: SystemTime, now: SystemTime) -> u64 {
    until.duration_since(now).map_or(0, |left| left.as_secs() / 86_400)
}

/// The narrowest of the bounds that so many days are within.
fn warning_bound(days_left: u64) -> Option<u64> {
    WARN_DAYS.into_iter().rev().find(|bound| days_left < *bound)
}

impl State {
    /// Every certificate that is in use, by workload.
    pub(super) fn leaves(&self, now: SystemTime) -> Vec<Value> {
        let holders = self.authority.holders();
        let mut leaves = Vec::new();
        for entry in self.plan.pods() {
            let id = super::holder(&entry.workload, &entry.uid);
            let Some(holder) = find(&holders, &id) else { continue };
            // The last of an identity is the newest; older ones are listed until their holder lets go of them.
            for leaf in holder.leaves.iter().filter(|leaf| leaf.not_after >= now) {
                leaves.push(json!({
                    "workload": entry.workload.as_str(),
                    "identity": leaf.identity.to_string(),
                    "serial": leaf.serial.to_string(),
                    "not_before": text(millis(leaf.not_before)),
                    "not_after": text(millis(leaf.not_after)),
                    "issuer": leaf.root.as_str(),
                    "days_left": days_left(leaf.not_after, now),
                    "minutes_left": leaf.not_after.duration_since(now).unwrap_or_default().as_secs() / 60,
                    "bundle_generation": holder.acknowledged,
                }));
            }
        }
        leaves
    }

    /// Roots that come to their end soon: which, the bound in days, and a sentence.
    pub(super) fn expiry_warnings(&self, now: SystemTime) -> Vec<(String, u64, String)> {
        let warn = |(root, signs): (&heddle_cert::Root, bool)| {
            let left = days_left(root.not_after(), now);
            let bound = warning_bound(left)?;
            let hint = if signs {
                "; `heddle certs --rotate-root` replaces it without a failed request"
            } else {
                ""
            };
            let id = root.id.as_str().to_owned();
            let sentence = format!(
                "root {id} expires in less than {bound} days, on {}{hint}",
                text(millis(root.not_after()))
            );
            Some((id, bound, sentence))
        };
        self.authority.roots().filter_map(warn).collect()
    }

    /// Writes each warning into the log once.
    pub(super) fn warn_of_expiry(&mut self, now: SystemTime) {
        for (id, bound, sentence) in self.expiry_warnings(now) {
            if self.warned.insert(id, bound) != Some(bound) {
                tracing::warn!("{sentence}");
            }
        }
    }
}

fn find<'a>(holders: &'a [HolderRecord], id: &HolderId) -> Option<&'a HolderRecord> {
    holders.iter().find(|holder| holder.holder == *id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_root_is_warned_of_three_times() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (hours, expected) in [
            (24 * 31, None),
            (24 * 30, None),
            (24 * 30 - 1, Some(30)),
            (24 * 7, Some(30)),
            (24 * 7 - 1, Some(7)),
            (25, Some(7)),
            (23, Some(1)),
            (0, Some(1)),
        ] {
            let until = now + Duration::from_hours(hours);
            assert_eq!(warning_bound(days_left(until, now)), expected, "{hours}");
        }
        assert_eq!(days_left(now - Duration::from_secs(1), now), 0);
    }
}
