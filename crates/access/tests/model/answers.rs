//! What `authorize` should answer, told from the model.

use penstock_access::authorize::{Answer, Request};
use penstock_access::rows::*;
use uuid::Uuid;

use crate::asked::expired;
use crate::reference::Model;

/// An answer in few words.
pub fn in_short(answer: &Answer) -> String {
    match answer {
        Answer::Ok { flow } => format!(
            "ok {} {} {} {:?}",
            flow.policy_id, flow.actor_group_membership_id, flow.gateway_id, flow.expires_at
        ),
        Answer::Forbidden { violated_properties } => {
            format!("forbidden {:?}", violated_properties.iter().map(|name| name.to_string()).collect::<Vec<_>>())
        }
        Answer::NotFound => "not found".to_owned(),
        Answer::Offline => "offline".to_owned(),
        Answer::VersionMismatch => "version mismatch".to_owned(),
        Answer::Unavailable { .. } => "unavailable".to_owned(),
    }
}

/// The same of the answer that the rules give.
pub fn expected_answer(model: &Model, request: &Request<'_>, now: i64, hold: bool) -> String {
    if hold {
        return "unavailable".to_owned();
    }
    let Some(client) = model.client(request.client).filter(|row| row.live) else { return "not found".to_owned() };
    let version = client.last_seen_version.as_deref().unwrap_or("0.0.0");
    if !model.connectable(request.resource) || crate::oracle::for_client(model, request.resource, version).is_none() {
        return "not found".to_owned();
    }
    let token = model.token(request.token, now).filter(|token| token.actor == Some(client.actor));
    let Some(token) = token.filter(|_| model.client_is_live(request.client)) else { return "forbidden []".to_owned() };
    let mut grants = model.grants(request.client, request.resource, now);
    grants.sort_by_key(|(policy, _, until)| (std::cmp::Reverse(until.unwrap_or(i64::MAX)), *policy));
    let Some((policy, _, until)) = grants.first() else {
        return format!("forbidden {:?}", model.violated(request.client, request.resource, now));
    };
    let mut gateways: Vec<Uuid> =
        request.online.iter().copied().filter(|id| model.serves(*id, request.resource)).collect();
    if gateways.is_empty() {
        return "offline".to_owned();
    }
    let of = |id: &Uuid| model.gateway(*id).unwrap().last_seen_version.as_deref().unwrap_or("0.0.0");
    let needed = ["1.4.0", "1.1.0", "0.0.0"].into_iter().find(|least| version >= *least).unwrap();
    gateways.retain(|id| of(id) >= needed);
    let distance = |id: &Uuid| match (client.coordinates, model.gateway(*id).unwrap().coordinates) {
        (Some(here), Some(there)) if (here.0 - there.0).abs() < 1.0 => 1,
        (Some(_), Some(_)) => 2,
        _ => 3,
    };
    let used = |id: &Uuid| model.authorized(*id, now).keys().any(|(client, _)| *client == request.client);
    gateways.sort_by(|one, other| {
        used(other)
            .cmp(&used(one))
            .then(distance(one).cmp(&distance(other)))
            .then(of(other).cmp(of(one)))
            .then(one.cmp(other))
    });
    let Some(gateway) = gateways.first() else { return "version mismatch".to_owned() };
    let until = [*until, last_second(token.expires_at)].into_iter().flatten().min();
    assert!(!expired(until, now));
    let actor = client.actor;
    let group = model.rows[&(Table::Policies, RowId::Id(*policy))].1.clone();
    let Row::Policy(PolicyRow { group, .. }) = group else { panic!("a policy") };
    let membership = model
        .rows
        .iter()
        .find_map(|((_, key), (_, row))| match (key, row) {
            (RowId::Id(id), Row::Membership(row)) if row.actor == actor && row.group == group => Some(*id),
            _ => None,
        })
        .expect("it is granted by a membership");
    format!("ok {policy} {membership} {gateway} {until:?}")
}
