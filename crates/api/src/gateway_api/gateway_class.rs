//! GatewayClass.

use super::common::ParametersReference;
use super::rules;

object! {
    /// A class of Gateways and who is responsible for it.
    GatewayClass {
        /// The controller as `domain/path`; cannot be changed.
        "controllerName" => controller_name: String [required, len(1, 253), check(rules::controller_name)],
        /// For people.
        "description" => description: Option<String> [len(0, 64)],
        /// Parameters of the controller.
        "parametersRef" => parameters_ref: Option<ParametersReference>,
    }
}
