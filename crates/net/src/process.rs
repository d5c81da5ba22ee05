//! soon
/// soon
pub const RUN_PLAN: &str = "internal-run-plan";
/// soon
pub fn run_plan() -> &'static str {
    "soon"
}
