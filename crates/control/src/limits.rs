//! The rate limits that heddle counts itself: the service that proxies ask where no other is there
//! (`docs/decisions/0110`). Beside the state and its lock: requests wait for the answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use heddle_balance::counting::{AskedDescriptor, Counters, DescriptorVerdict};
use heddle_ir::rate_limit::{CountedDomain, RateLimitUnit};
use heddle_proto::rate_limit_service::{
    Code, DescriptorStatus, Duration, Limit, RateLimitDescriptor, RateLimitRequest,
    RateLimitResponse, Unit,
};

/// Descriptors of one request.
const DESCRIPTORS_MAX: usize = 64;
/// Keys and values of one descriptor together, in bytes.
const DESCRIPTOR_BYTES_MAX: usize = 16 << 10;

/// What is counted, and how much so far.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    domains: Mutex<Arc<[CountedDomain]>>,
    counters: Mutex<Counters>,
}

/// Why a question has no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitsError {
    /// It has no domain, or no descriptor, or one without entries.
    #[error("a question needs a domain and descriptors with entries")]
    Empty,
    /// It is too long.
    #[error(
        "a question has at most {DESCRIPTORS_MAX} descriptors of {DESCRIPTOR_BYTES_MAX} bytes each"
    )]
    TooLong,
}

impl Limits {
    /// Counts by other limits from now on; counters go on.
    pub(crate) fn set(&self, domains: Arc<[CountedDomain]>) {
        *self.domains.lock().unwrap_or_else(PoisonError::into_inner) = domains;
    }

    /// Counts a request.
    pub(crate) fn answer(
        &self,
        request: &RateLimitRequest,
        now: SystemTime,
    ) -> Result<RateLimitResponse, LimitsError> {
        let descriptors = &request.descriptors;
        let has_empty = descriptors.iter().any(|own| own.entries.is_empty());
        if request.domain.is_empty() || descriptors.is_empty() || has_empty {
            return Err(LimitsError::Empty);
        }
        let bytes = |own: &RateLimitDescriptor| {
            own.entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum::<usize>()
        };
        if descriptors.len() > DESCRIPTORS_MAX
            || descriptors.iter().any(|own| bytes(own) > DESCRIPTOR_BYTES_MAX)
        {
            return Err(LimitsError::TooLong);
        }
        let asked: Vec<AskedDescriptor> = descriptors.iter().map(asked).collect();
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let hits = request.hits_addend.max(1);
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let verdicts = counters.count(&domains, &request.domain, &asked, hits, now);
        drop(counters);
        let is_over = verdicts.iter().any(|verdict| verdict.is_over);
        Ok(RateLimitResponse {
            overall_code: code(is_over),
            statuses: verdicts.iter().map(status).collect(),
            ..RateLimitResponse::default()
        })
    }
}

fn code(is_over: bool) -> i32 {
    if is_over { Code::OverLimit.into() } else { Code::Ok.into() }
}

fn asked(own: &RateLimitDescriptor) -> AskedDescriptor {
    let entries = own.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone()));
    let hits = own.hits_addend.map(|hits| u32::try_from(hits.value).unwrap_or(u32::MAX));
    let limit = own.limit.and_then(|limit| Some((limit.requests_per_unit, length(limit.unit())?)));
    AskedDescriptor { entries: entries.collect(), limit, hits }
}

fn length(unit: Unit) -> Option<RateLimitUnit> {
    Some(match unit {
        Unit::Unknown => return None,
        Unit::Second => RateLimitUnit::Second,
        Unit::Minute => RateLimitUnit::Minute,
        Unit::Hour => RateLimitUnit::Hour,
        Unit::Day => RateLimitUnit::Day,
        Unit::Week => RateLimitUnit::Week,
        Unit::Month => RateLimitUnit::Month,
        Unit::Year => RateLimitUnit::Year,
    })
}

fn unit(length: RateLimitUnit) -> Unit {
    match length {
        RateLimitUnit::Second => Unit::Second,
        RateLimitUnit::Minute => Unit::Minute,
        RateLimitUnit::Hour => Unit::Hour,
        RateLimitUnit::Day => Unit::Day,
        RateLimitUnit::Week => Unit::Week,
        RateLimitUnit::Month => Unit::Month,
        RateLimitUnit::Year => Unit::Year,
    }
}

fn status(verdict: &DescriptorVerdict) -> DescriptorStatus {
    let limit = verdict.limit.as_ref().map(|limit| Limit {
        requests_per_unit: limit.requests,
        unit: unit(limit.unit).into(),
        name: limit.name.to_string(),
    });
    let seconds = i64::try_from(verdict.reset_seconds).unwrap_or(i64::MAX);
    DescriptorStatus {
        code: code(verdict.is_over),
        duration_until_reset: limit.as_ref().map(|_| Duration { seconds, nanos: 0 }),
        current_limit: limit,
        limit_remaining: verdict.remaining,
    }
}

#[cfg(test)]
mod tests {
    use heddle_diag::Origin;
    use heddle_ir::rate_limit::{CountedDescriptor, CountedLimit};
    use heddle_proto::rate_limit_service::DescriptorEntry;

    use super::*;

    fn question(key: &str) -> RateLimitRequest {
        let entry = DescriptorEntry { key: key.to_owned(), value: "/".to_owned() };
        let own = RateLimitDescriptor { entries: vec![entry], limit: None, hits_addend: None };
        RateLimitRequest { domain: "d".to_owned(), descriptors: vec![own], hits_addend: 0 }
    }

    #[test]
    fn proxies_are_told_what_is_left_until_when() {
        let limits = Limits::default();
        let limit = CountedLimit {
            name: "n".into(),
            rate: Some((1, RateLimitUnit::Minute)),
            replaces: Vec::new(),
            is_shadow: false,
        };
        let descriptor = CountedDescriptor {
            key: "PATH".into(),
            value: None,
            limit: Some(limit),
            shares_threshold: false,
            descriptors: Vec::new(),
        };
        let origin = Origin::built_in("d");
        let domain = CountedDomain { origin, domain: "d".into(), descriptors: vec![descriptor] };
        limits.set([domain].into());
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(65);
        let ask = |key| limits.answer(&question(key), now).unwrap();
        let first = ask("PATH");
        assert_eq!(first.overall_code(), Code::Ok);
        let status = &first.statuses[0];
        let limit = status.current_limit.as_ref().unwrap();
        assert_eq!((limit.requests_per_unit, limit.unit(), &*limit.name), (1, Unit::Minute, "n"));
        assert_eq!(status.limit_remaining, 0);
        assert_eq!(status.duration_until_reset, Some(Duration { seconds: 55, nanos: 0 }));
        assert_eq!(ask("PATH").overall_code(), Code::OverLimit);
        assert_eq!(ask("other").overall_code(), Code::Ok);
        // The limits are put again as they are: what was counted stays.
        let domains = limits.domains.lock().unwrap().clone();
        limits.set(domains);
        assert_eq!(ask("PATH").overall_code(), Code::OverLimit);
    }

    #[test]
    fn questions_have_a_form_and_a_bound() {
        let limits = Limits::default();
        let answer = |request| limits.answer(&request, SystemTime::UNIX_EPOCH).map(|_| ());
        let question = question("k");
        assert_eq!(answer(question.clone()), Ok(()));
        let none = RateLimitRequest { descriptors: Vec::new(), ..question.clone() };
        assert_eq!(answer(none), Err(LimitsError::Empty));
        let many = vec![question.descriptors[0].clone(); DESCRIPTORS_MAX + 1];
        let many = RateLimitRequest { descriptors: many, ..question.clone() };
        assert_eq!(answer(many), Err(LimitsError::TooLong));
        let mut long = question;
        long.descriptors[0].entries[0].value = "x".repeat(DESCRIPTOR_BYTES_MAX);
        assert_eq!(answer(long), Err(LimitsError::TooLong));
    }
}
