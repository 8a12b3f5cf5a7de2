//! PROVISIONAL until a1 is merged.
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value as Json;
use uuid::Uuid;

use crate::rows::Micros;

#[derive(Clone, Debug, PartialEq)]
pub struct Problem(pub String);

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub other_family_allows: bool,
    pub unknown_provider_allows_not_in: bool,
}

#[derive(Debug)]
pub struct Facts<'a> {
    pub region: Option<&'a str>,
    pub remote_ip: Option<IpAddr>,
    pub provider: Option<Uuid>,
    pub verified: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: i64,
    pub until: Option<i64>,
    /// None: closed.
    pub open: Option<Option<i64>>,
}

#[derive(Debug)]
enum One {
    Bad(Arc<str>),
    Region(bool, Vec<String>),
    Provider(bool, Vec<String>),
    Verified(bool),
    Time(Vec<(u8, i64, i64)>),
}

#[derive(Debug)]
pub struct Conditions(Option<Vec<One>>);

impl Conditions {
    pub fn compile(conditions: &Option<Arc<[Option<Json>]>>) -> (Self, Vec<Problem>) {
        let Some(list) = conditions else { return (Self(None), vec![]) };
        let mut problems = vec![];
        let mut out = vec![];
        for c in list.iter() {
            let Some(c) = c else { return (Self(None), vec![]) };
            let property = c["property"].as_str().unwrap_or("").to_owned();
            let operator = c["operator"].as_str().unwrap_or("");
            let values: Option<Vec<String>> =
                c["values"].as_array().and_then(|v| v.iter().map(|v| v.as_str().map(str::to_owned)).collect());
            let one = match (property.as_str(), operator, values) {
                ("remote_ip_location_region", "is_in", Some(v)) => One::Region(true, v),
                ("remote_ip_location_region", "is_not_in", Some(v)) => One::Region(false, v),
                ("provider_id", "is_in", Some(v)) => One::Provider(true, v),
                ("provider_id", "is_not_in", Some(v)) => One::Provider(false, v),
                ("client_verified", "is", Some(v)) if v == ["true"] => One::Verified(true),
                ("client_verified", "is", Some(v)) if v == ["false"] => One::Verified(false),
                ("current_utc_datetime", _, Some(v)) => match v.iter().map(|v| window(v)).collect::<Option<Vec<_>>>() {
                    Some(all) => One::Time(all.into_iter().flatten().collect()),
                    None => One::Bad(property.as_str().into()),
                },
                _ => {
                    problems.push(Problem(property.clone()));
                    One::Bad(property.as_str().into())
                }
            };
            out.push(one);
        }
        (Self(Some(out)), problems)
    }

    pub fn client_holds(&self, facts: &Facts<'_>, options: &Options) -> bool {
        let Some(list) = &self.0 else { return false };
        list.iter().all(|one| holds(one, facts, options))
    }

    pub fn window_at(&self, now: Micros) -> Window {
        let second = now.seconds();
        let Some(list) = &self.0 else { return Window { from: i64::MIN, until: None, open: None } };
        let times: Vec<&Vec<(u8, i64, i64)>> =
            list.iter().filter_map(|o| if let One::Time(t) = o { Some(t) } else { None }).collect();
        if times.is_empty() {
            return Window { from: i64::MIN, until: None, open: Some(None) };
        }
        let eval = |s: i64| -> Option<i64> {
            let mut min = i64::MAX;
            for t in &times {
                let day = s.div_euclid(86400);
                let dow = u8::try_from((day + 3).rem_euclid(7)).unwrap();
                let hit = t
                    .iter()
                    .filter(|(d, a, b)| *d == dow && (*a..=*b).contains(&s.rem_euclid(86400)))
                    .map(|(_, _, b)| day * 86400 + b)
                    .max()?;
                min = min.min(hit);
            }
            Some(min)
        };
        let now_open = eval(second);
        let mut edges = vec![];
        let day = second.div_euclid(86400);
        for d in day - 8..=day + 8 {
            for t in &times {
                for (dow, a, b) in t.iter() {
                    if *dow == u8::try_from((d + 3).rem_euclid(7)).unwrap() {
                        edges.push(d * 86400 + a);
                        edges.push(d * 86400 + b + 1);
                    }
                }
            }
        }
        edges.sort_unstable();
        let until = edges.iter().copied().find(|e| *e > second);
        let from = edges.iter().rev().copied().find(|e| *e <= second).unwrap_or(i64::MIN);
        Window { from, until, open: now_open.map(Some) }
    }

    pub fn violated(&self, facts: &Facts<'_>, now: Micros, options: &Options, out: &mut Vec<Arc<str>>) {
        let Some(list) = &self.0 else { return };
        for one in list {
            let (fails, name): (bool, Arc<str>) = match one {
                One::Bad(n) => (true, n.clone()),
                One::Time(_) => (
                    Self(Some(vec![match one {
                        One::Time(t) => One::Time(t.clone()),
                        _ => unreachable!(),
                    }]))
                    .window_at(now)
                    .open
                    .is_none(),
                    "current_utc_datetime".into(),
                ),
                One::Region(..) => (!holds(one, facts, options), "remote_ip_location_region".into()),
                One::Provider(..) => (!holds(one, facts, options), "provider_id".into()),
                One::Verified(..) => (!holds(one, facts, options), "client_verified".into()),
            };
            if fails && !out.contains(&name) {
                out.push(name);
            }
        }
    }
}

fn holds(one: &One, facts: &Facts<'_>, options: &Options) -> bool {
    match one {
        One::Bad(_) => false,
        One::Region(want, list) => facts.region.is_some_and(|r| list.iter().any(|l| l == r) == *want),
        One::Provider(want, list) => match facts.provider {
            Some(p) => list.iter().any(|l| *l == p.to_string()) == *want,
            None => !want && options.unknown_provider_allows_not_in,
        },
        One::Verified(need) => !need || facts.verified,
        One::Time(_) => true,
    }
}

fn window(value: &str) -> Option<Vec<(u8, i64, i64)>> {
    let mut parts = value.split('/');
    let day = u8::try_from("MTWRFSU".find(parts.next()?)?).ok()?;
    let ranges = parts.next()?;
    parts.next()?;
    if ranges == "true" {
        return Some(vec![(day, 0, 86399)]);
    }
    let at = |t: &str| -> Option<i64> {
        let mut v = t.split(':').map(|p| p.parse::<i64>());
        Some(
            v.next()?.ok()? * 3600
                + v.next().map_or(Some(0), Result::ok)? * 60
                + v.next().map_or(Some(0), Result::ok)?,
        )
    };
    ranges
        .split(',')
        .map(|r| {
            let (a, b) = r.split_once('-')?;
            Some((day, at(a)?, at(b)?))
        })
        .collect()
}
