//! From a condition as it stands in a row to one that can be asked.

use std::sync::Arc;

use serde_json::Value as Json;
use uuid::Uuid;

use super::networks::{Network, Networks};
use super::schedule::Schedule;
use super::texts::Texts;
use super::{Condition, Test};

/// A condition that can never hold because it is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("condition {condition}: {reason}; the policy grants nothing")]
pub struct Problem {
    /// Its place in the array, from 0.
    pub condition: usize,
    pub reason: Reason,
}

/// What is not understood. Never holds what stands in the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("not an object with a property")]
    Shape,
    #[error("the property is not known")]
    Property,
    #[error("{0} has no such operator")]
    Operator(&'static str),
    #[error("the values of {0} are not an array of texts that it can read")]
    Values(&'static str),
}

/// Compiles an element that is not NULL. A problem is added unless there is one for the same reason.
pub(super) fn condition(index: usize, element: &Json, problems: &mut Vec<Problem>) -> Condition {
    let property = element.get("property").and_then(Json::as_str);
    let test = test(property, element).unwrap_or_else(|reason| {
        if problems.iter().all(|problem| problem.reason != reason) {
            problems.push(Problem { condition: index, reason });
        }
        Test::Never
    });
    Condition { property: property.map(Arc::from), test }
}

fn test(property: Option<&str>, element: &Json) -> Result<Test, Reason> {
    let operator = element.get("operator").and_then(Json::as_str).unwrap_or_default();
    let (property, compile) = compiler(property.ok_or(Reason::Shape)?, operator)?;
    let values = texts(element).ok_or(Reason::Values(property))?;
    compile(&values).ok_or(Reason::Values(property))
}

/// Makes a test of a condition's values; None: one of them is not what the property takes.
type Compiler = fn(&[&str]) -> Option<Test>;

fn compiler(property: &str, operator: &str) -> Result<(&'static str, Compiler), Reason> {
    const REGION: &str = "remote_ip_location_region";
    const ADDRESS: &str = "remote_ip";
    const PROVIDER: &str = "provider_id";
    const VERIFIED: &str = "client_verified";
    const TIME: &str = "current_utc_datetime";
    Ok(match (property, operator) {
        (REGION, "is_in") => (REGION, |values| Some(region(true, values))),
        (REGION, "is_not_in") => (REGION, |values| Some(region(false, values))),
        (ADDRESS, "is_in_cidr") => (ADDRESS, |values| address(true, values)),
        (ADDRESS, "is_not_in_cidr") => (ADDRESS, |values| address(false, values)),
        (PROVIDER, "is_in") => (PROVIDER, |values| Some(provider(true, values))),
        (PROVIDER, "is_not_in") => (PROVIDER, |values| Some(provider(false, values))),
        (VERIFIED, "is") => (VERIFIED, verified),
        (TIME, "is_in_day_of_week_time_ranges") => {
            (TIME, |values| Schedule::compile(values.iter().copied()).map(Test::Time))
        }
        (REGION, _) => return Err(Reason::Operator(REGION)),
        (ADDRESS, _) => return Err(Reason::Operator(ADDRESS)),
        (PROVIDER, _) => return Err(Reason::Operator(PROVIDER)),
        (VERIFIED, _) => return Err(Reason::Operator(VERIFIED)),
        (TIME, _) => return Err(Reason::Operator(TIME)),
        (_, _) => return Err(Reason::Property),
    })
}

fn texts(element: &Json) -> Option<Vec<&str>> {
    element.get("values")?.as_array()?.iter().map(Json::as_str).collect()
}

fn region(within: bool, values: &[&str]) -> Test {
    Test::Region { within, values: Texts::of(values) }
}

fn address(within: bool, values: &[&str]) -> Option<Test> {
    let networks = values.iter().map(|value| Network::parse(value)).collect::<Option<Vec<_>>>()?;
    Some(Test::Address { within, networks: Networks::of(&networks) })
}

/// Ids compare as texts: what is not written as Postgres prints an id is the id of nobody.
fn provider(within: bool, values: &[&str]) -> Test {
    let printed = |value: &&str| Uuid::try_parse(value).ok().filter(|id| *value == id.to_string());
    let mut values: Box<[Uuid]> = values.iter().filter_map(printed).collect();
    values.sort_unstable();
    Test::Provider { within, values }
}

fn verified(values: &[&str]) -> Option<Test> {
    match values {
        ["true"] => Some(Test::Verified { needed: true }),
        ["false"] => Some(Test::Verified { needed: false }),
        _ => None,
    }
}
