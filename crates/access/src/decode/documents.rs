//! Columns that hold JSON: an account's config, a resource's filters, a policy's conditions.

use std::sync::Arc;

use serde_json::Value as Json;

use super::columns::{Columns, complaint, text};
use super::input::Input;
use super::problem::Complaint;
use super::schema::{Raw, each, nullable_text};
use crate::render;
use crate::rows::{Filter, Protocol, UpstreamDns};

/// What is read of an account's `config`.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub(super) search_domain: Option<Arc<str>>,
    pub(super) upstream_dns: Vec<UpstreamDns>,
}

/// Takes `config`. What cannot be read is left out, and reported.
pub(super) fn config(columns: &mut Columns<'_, '_>) -> Config {
    let value = columns.take();
    if matches!(value, Raw::Absent | Raw::Null) {
        return Config::default();
    }
    let Some(Json::Object(object)) = text(value).and_then(json) else {
        columns.complain(complaint(value));
        return Config::default();
    };
    let mut all = true;
    let search_domain = match object.get("search_domain") {
        None | Some(Json::Null) => None,
        Some(Json::String(domain)) => Some(Arc::from(domain.as_str())),
        Some(_) => {
            all = false;
            None
        }
    };
    let servers = match object.get("clients_upstream_dns") {
        None | Some(Json::Null) => &[],
        Some(Json::Array(servers)) => servers.as_slice(),
        Some(_) => {
            all = false;
            &[]
        }
    };
    let upstream_dns: Vec<UpstreamDns> = servers.iter().filter_map(name_server).collect();
    if !all || upstream_dns.len() < servers.len() {
        columns.complain(Complaint::Part);
    }
    Config { search_domain, upstream_dns }
}

fn name_server(json: &Json) -> Option<UpstreamDns> {
    let text = |key: &str| json.get(key).and_then(Json::as_str).map(Arc::from);
    let server = UpstreamDns { protocol: text("protocol")?, address: text("address")? };
    render::name_server(&server).is_some().then_some(server)
}

/// Takes `filters`, one for each port. What cannot be read is left out, and reported.
///
/// No filters let everything through: where some stand in the row and none of them can be read, the row is not relied on.
pub(super) fn filters(columns: &mut Columns<'_, '_>) -> Arc<[Filter]> {
    let value = columns.take();
    if matches!(value, Raw::Absent | Raw::Null) {
        return Arc::default();
    }
    let Some(Json::Array(filters)) = text(value).and_then(json) else {
        columns.distrust(complaint(value));
        return Arc::default();
    };
    let mut readable = Vec::with_capacity(filters.len());
    let mut all = true;
    for filter in &filters {
        all &= put_filter(filter, &mut readable);
    }
    if readable.is_empty() && !filters.is_empty() {
        columns.distrust(Complaint::NothingLeft);
    } else if !all {
        columns.complain(Complaint::Part);
    }
    readable.into()
}

/// Whether all of it could be read.
fn put_filter(filter: &Json, out: &mut Vec<Filter>) -> bool {
    let protocol = match filter.get("protocol").and_then(Json::as_str) {
        Some("tcp") => Protocol::Tcp,
        Some("udp") => Protocol::Udp,
        Some("icmp") => Protocol::Icmp,
        Some(_) | None => return false,
    };
    let ports = match filter.get("ports") {
        None | Some(Json::Null) => &[],
        Some(Json::Array(ports)) => ports.as_slice(),
        Some(_) => return false,
    };
    if ports.is_empty() {
        out.push(Filter { protocol, ports: None });
        return true;
    }
    let before = out.len();
    let readable = ports.iter().filter_map(|port| port_range(port.as_str()?));
    out.extend(readable.map(|ports| Filter { protocol, ports: Some(ports) }));
    out.len() - before == ports.len()
}

/// `80` or `80 - 90`: first and last port, from 1 to 65,535.
fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first.trim_matches(' '))?, port(last.trim_matches(' '))?);
    (first <= last).then_some((first, last))
}

fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// Takes `conditions`. None: not an array of one dimension, or unknown. An element that is no JSON is a JSON null, which is
/// no condition.
pub(super) fn conditions(columns: &mut Columns<'_, '_>) -> Option<Arc<[Option<Json>]>> {
    match columns.take() {
        Raw::Absent | Raw::Null => None,
        Raw::Texts(items) => {
            let mut elements = Vec::new();
            let element = |text: &[u8]| std::str::from_utf8(text).ok().and_then(json).unwrap_or(Json::Null);
            let read = each(&mut Input(items), |input| {
                elements.push(nullable_text(input)?.map(element));
                Ok(())
            });
            read.is_ok().then(|| elements.into())
        }
        value @ (Raw::Unchanged | Raw::Micros(_) | Raw::Number(_) | Raw::Text(_) | Raw::Other) => {
            columns.complain(complaint(value));
            None
        }
    }
}

fn json(text: &str) -> Option<Json> {
    serde_json::from_str(text).ok()
}
