//! Label selectors of Kubernetes.

use std::collections::BTreeMap;

use crate::check;
use crate::codes;
use crate::decode::Decoder;

object! {
    /// Which objects are meant, by their labels. All conditions must hold; without conditions every object is meant.
    LabelSelector {
        /// Labels that must have exactly this value.
        "matchLabels" => match_labels: BTreeMap<String, String> [key_check(check::label_key), item_check(check::label_value)],
        /// Further conditions.
        "matchExpressions" => match_expressions: Vec<LabelSelectorRequirement>,
    }
}

object! {
    /// One condition on a label.
    LabelSelectorRequirement {
        /// The label.
        "key" => key: String [required, check(check::label_key)],
        /// How its value is compared.
        "operator" => operator: Option<LabelSelectorOperator> [required],
        /// The values; at least one for `In` and `NotIn`, none for the others.
        "values" => values: Vec<String> [item_check(check::label_value)],
    }
    check values_fit
}

choice! {
    /// How a label is compared.
    LabelSelectorOperator {
        /// The label has one of the values.
        "In" => In,
        /// The label has none of the values, or is absent.
        "NotIn" => NotIn,
        /// The label is there.
        "Exists" => Exists,
        /// The label is absent.
        "DoesNotExist" => DoesNotExist,
    }
}

fn values_fit(decoder: &mut Decoder<'_>, requirement: &LabelSelectorRequirement) {
    let Some(operator) = requirement.operator else { return };
    let wants = matches!(operator, LabelSelectorOperator::In | LabelSelectorOperator::NotIn);
    if wants == requirement.values.is_empty() {
        let must = if wants { "needs values" } else { "takes no values" };
        let message = format!("`{}` {must}", operator.as_str());
        decoder.error(codes::RULE, requirement.at, message, None);
    }
}

impl LabelSelector {
    /// Whether an object with these labels is meant.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_by(|key| labels.get(key).map(String::as_str))
    }

    /// Whether an object is meant whose labels `label` looks up.
    pub fn matches_by<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.match_labels.iter().all(|(key, value)| label(key) == Some(value))
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.holds(label(&requirement.key)))
    }
}

impl LabelSelectorRequirement {
    /// Whether the condition holds for these labels. A broken condition never holds.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.holds(labels.get(&self.key).map(String::as_str))
    }

    /// Whether the condition holds for the value of its label.
    fn holds(&self, value: Option<&str>) -> bool {
        let listed = value.is_some_and(|value| self.values.iter().any(|own| own == value));
        match self.operator {
            Some(LabelSelectorOperator::In) => listed,
            Some(LabelSelectorOperator::NotIn) => !listed,
            Some(LabelSelectorOperator::Exists) => value.is_some(),
            Some(LabelSelectorOperator::DoesNotExist) => value.is_none(),
            None => false,
        }
    }
}
