//! ServiceProfile (`linkerd.io`).

use crate::codes;
use crate::decode::{Decode, Decoder};
use crate::schema::TypeSchema;
use crate::tree::{At, Value};
use crate::value::{Duration, Quantity};

object! {
    /// Routes of a service, by their name in metrics, with time limits and retries. The object's name is the service's
    /// full host name.
    ServiceProfile {
        /// Other services that take a share of the requests.
        "dstOverrides" => dst_overrides: Vec<WeightedDestination>,
        /// Ports whose traffic is not looked into.
        "opaquePorts" => opaque_ports: Vec<String>,
        /// How many retries there may be.
        "retryBudget" => retry_budget: Option<ProfileRetryBudget>,
        /// The routes; the first whose condition holds is taken.
        "routes" => routes: Vec<ProfileRoute>,
    }
}

object! {
    /// A service with its share.
    WeightedDestination {
        /// `host:port`, or a host.
        "authority" => authority: String [required],
        /// Its share of the sum.
        "weight" => weight: Quantity [required],
    }
}

object! {
    /// How many retries there may be.
    ProfileRetryBudget {
        /// Retries a second that are always there.
        "minRetriesPerSecond" => min_retries_per_second: Option<u32> [required],
        /// Retries as a share of the requests.
        "retryRatio" => retry_ratio: Option<f64> [required, min(0.0)],
        /// How long requests count.
        "ttl" => ttl: Option<Duration> [required],
    }
}

object! {
    /// A route.
    ProfileRoute {
        /// Which requests are meant.
        "condition" => condition: Option<RequestCondition> [required],
        /// Whether failed requests may be sent again.
        "isRetryable" => is_retryable: Option<bool>,
        /// Its name in metrics.
        "name" => name: String [required, not_empty],
        /// Time for a request, retries included.
        "timeout" => timeout: Option<Duration>,
        /// What counts as a failure; the first whose condition holds decides.
        "responseClasses" => response_classes: Vec<ResponseClass>,
        /// Not a field of a route: the budget belongs beside `routes`.
        "retryBudget" => retry_budget: Option<ProfileRetryBudget>,
    }
}

object! {
    /// A condition on a request; what is set must all hold.
    RequestCondition {
        /// RE2 expression for the whole path.
        "pathRegex" => path_regex: Option<String>,
        /// The method.
        "method" => method: Option<String>,
        /// All must hold.
        "all" => all: RequestConditions,
        /// One must hold.
        "any" => any: RequestConditions,
        /// Must not hold.
        "not" => not: RequestConditions,
    }
    at_least_one ["pathRegex", "method", "all", "any", "not"]
}

object! {
    /// What a response counts as.
    ResponseClass {
        /// Which responses are meant.
        "condition" => condition: Option<ResponseCondition> [required],
        /// Whether they are failures.
        "isFailure" => is_failure: Option<bool>,
    }
}

object! {
    /// A condition on a response; what is set must all hold.
    ResponseCondition {
        /// Range of statuses.
        "status" => status: Option<StatusRange>,
        /// All must hold.
        "all" => all: ResponseConditions,
        /// One must hold.
        "any" => any: ResponseConditions,
        /// Must not hold.
        "not" => not: ResponseConditions,
    }
    at_least_one ["status", "all", "any", "not"]
}

object! {
    /// Range of statuses, both ends included.
    StatusRange {
        /// The first; absent means that of `max`.
        "min" => min: Option<u16> [range(100.0, 599.0)],
        /// The last; absent means that of `min`.
        "max" => max: Option<u16> [range(100.0, 599.0)],
    }
    at_least_one ["min", "max"]
    check range_is_ordered
}

fn range_is_ordered(decoder: &mut Decoder<'_>, range: &StatusRange) {
    if let (Some(min), Some(max)) = (range.min, range.max)
        && max < min
    {
        let message = format!("the last status {max} is before the first {min}");
        decoder.error(codes::RULE, range.at, message, None);
    }
}

macro_rules! conditions {
    ($(#[$meta:meta])* $name:ident($of:ty)) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Default, Debug)]
        pub struct $name(
            /// In written order.
            pub Vec<$of>,
        );

        impl Decode for $name {
            // Conditions nest, which a schema in a constant cannot.
            const SCHEMA: TypeSchema = TypeSchema::Free;

            fn decode(decoder: &mut Decoder<'_>, at: At) -> Option<Self> {
                match decoder.tree().value(at) {
                    Value::Map => <$of>::decode(decoder, at).map(|one| Self(vec![one])),
                    Value::List => Vec::decode(decoder, at).map(Self),
                    _ => {
                        decoder.wrong_type(at, "a condition or a list of conditions", None);
                        None
                    }
                }
            }
        }
    };
}

conditions! {
    /// Conditions on a request; one of them may stand without a list.
    RequestConditions(RequestCondition)
}

conditions! {
    /// Conditions on a response; one of them may stand without a list.
    ResponseConditions(ResponseCondition)
}
