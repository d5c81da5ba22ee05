//! Certificates with their ages, and warnings about roots that grow old.

use std::time::SystemTime;

use heddle_cert::{HolderId, HolderRecord};
use serde_json::{Value, json};

use super::State;
use crate::certificates::{days_left, of_secret, warning_bound};
use crate::timestamp::{millis, text};

impl State {
    /// Every certificate that is in use, by workload.
    pub(super) fn leaves(&self, now: SystemTime) -> Vec<Value> {
        let holders = self.authority.holders();
        let mut leaves = Vec::new();
        for entry in self.plan.pods() {
            let machine = super::machines::machine_holder(&entry.workload);
            let ids = super::holders(&entry.workload, &entry.uid).into_iter().chain([machine]);
            let ids: Vec<HolderId> = ids.collect();
            let own = ids.iter().zip(["proxy", "application", "machine"]);
            for (holder, of) in own.filter_map(|(id, of)| Some((find(&holders, id)?, of))) {
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
                    "of": of,
                }));
                }
            }
        }
        leaves
    }

    /// What stands between the signing root and certificates.
    pub(super) fn describe_intermediates(&self, now: SystemTime) -> Vec<Value> {
        let intermediates = self.authority.intermediates().into_iter();
        intermediates.map(|(id, validity)| describe(id.as_str(), validity, now)).collect()
    }

    /// Roots that are trusted beside those of the authority, by trust domain.
    pub(super) fn describe_other_roots(&self, now: SystemTime) -> Vec<Value> {
        let roots = self.authority.other_roots().into_iter();
        let describe = |(domain, root): (heddle_ident::TrustDomain, heddle_cert::Root)| {
            let mut described = describe(root.id.as_str(), root.validity, now);
            described["trust_domain"] = domain.to_string().into();
            described
        };
        roots.map(describe).collect()
    }

    /// Revoked certificates that have not expired yet.
    pub(super) fn describe_revoked(&self) -> Vec<Value> {
        let revoked = self.authority.revoked();
        let describe = |(serial, until): (heddle_cert::Serial, SystemTime)| json!({"serial": serial.to_string(), "not_after": text(millis(until))});
        revoked.map(describe).collect()
    }

    /// What comes to its end soon: which, the bound in days, and a sentence.
    fn expiry_warnings(&self, now: SystemTime) -> Vec<(String, u64, String)> {
        let mut aging: Vec<Aging> = Vec::new();
        let own = self.authority.roots().map(|(root, signs)| Aging {
            what: format!("root {}", root.id.as_str()),
            until: root.not_after(),
            hint: match (signs, self.authority.is_plugged()) {
                (true, false) => {
                    "`heddle certs --rotate-root` replaces it without a failed request"
                }
                (true, true) => {
                    "put the files of another authority in place: it is replaced in stages"
                }
                (false, _) => "",
            },
        });
        aging.extend(own);
        aging.extend(self.authority.intermediates().into_iter().map(|(id, validity)| Aging {
            what: format!("intermediate {}", id.as_str()),
            until: validity.not_after,
            hint: "put a renewed one in place: certificates live no longer than it",
        }));
        aging.extend(self.authority.other_roots().into_iter().map(|(domain, root)| Aging {
            what: format!("root {} of trust domain {domain}", root.id.as_str()),
            until: root.not_after(),
            hint: "ask those who run that domain for the next one",
        }));
        aging.extend(self.aging_secrets());
        aging.extend(self.authority.aging_lists().into_iter().map(|(number, until)| Aging {
            what: format!("revocation list number {number} of ca-crl.pem"),
            until,
            hint: "what it names stays revoked; put the next list in place",
        }));
        aging.into_iter().filter_map(|aging| aging.warning(now)).collect()
    }

    /// Certificates that users have put into Secrets, those of gateways among them.
    fn aging_secrets(&self) -> Vec<Aging> {
        let mut aging = Vec::new();
        for stored in self.objects.iter() {
            let heddle_api::Resource::Secret(secret) = &stored.candidate.object else { continue };
            for (what, until) in of_secret(secret) {
                let Ok(until) = until else { continue };
                let (namespace, name) = (&secret.meta.namespace, &secret.meta.name);
                let what = format!("certificate {what} in Secret {namespace}/{name}");
                aging.push(Aging { what, until, hint: "apply the Secret with a renewed one" });
            }
        }
        aging
    }

    /// What people should know about certificates.
    pub(super) fn warnings(&self, now: SystemTime) -> Vec<String> {
        let aging = self.expiry_warnings(now).into_iter().map(|(_, _, sentence)| sentence);
        let refused = self.plugging.refused.iter();
        let refused = refused.map(|why| format!("the plugged-in authority cannot be used: {why}"));
        refused.chain(aging).collect()
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

/// Something with an end.
struct Aging {
    what: String,
    until: SystemTime,
    /// What to do; empty: nothing.
    hint: &'static str,
}

impl Aging {
    /// Which, the bound in days and a sentence, when the end is near.
    fn warning(self, now: SystemTime) -> Option<(String, u64, String)> {
        let Self { what, until, hint } = self;
        let bound = warning_bound(days_left(until, now))?;
        let end = text(millis(until));
        let said = if until <= now {
            format!("{what} has expired, on {end}")
        } else {
            format!("{what} expires in less than {bound} days, on {end}")
        };
        let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
        Some((what, bound, format!("{said}{hint}")))
    }
}

fn describe(id: &str, validity: heddle_cert::Validity, now: SystemTime) -> Value {
    json!({
        "id": id,
        "not_before": text(millis(validity.not_before)),
        "not_after": text(millis(validity.not_after)),
        "days_left": days_left(validity.not_after, now),
    })
}

fn find<'a>(holders: &'a [HolderRecord], id: &HolderId) -> Option<&'a HolderRecord> {
    holders.iter().find(|holder| holder.holder == *id)
}
