//! What the program prints for people: an account, an answer. JSON is for everybody else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::account::show::Show;
use crate::authorize::Answer;
use crate::knowledge::Reason;

/// Names of resources, by id.
pub type Names = BTreeMap<Uuid, Arc<str>>;

/// `show` without `--json`. `doubt`: why the account is not answered for; None: it is.
pub fn show(show: &Show, names: &Names, doubt: Option<Reason>) -> String {
    let mut text = format!("account   {}\n", show.account);
    let as_of = show.as_of.map_or_else(|| "not known".to_owned(), instant);
    let _ = writeln!(text, "as of     {as_of}\nposition  {} (epoch:commit LSN:seq)", show.position);
    match doubt {
        None => text.push_str("answered  yes\n"),
        Some(reason) => {
            let _ = writeln!(text, "answered  NO, {reason}: {}", meaning(reason));
        }
    }
    let _ = writeln!(text, "\nclients and the resources that they may reach: {}", show.clients.len());
    for client in &show.clients {
        let _ = writeln!(text, "  {}  {}", client.id, count(client.allowed.len(), "resource"));
        for resource in &client.allowed {
            let _ = writeln!(text, "    {}", named(*resource, names));
        }
    }
    let _ = writeln!(text, "\ngateways and the pairs that they let through: {}", show.gateways.len());
    for gateway in &show.gateways {
        let _ = writeln!(text, "  {}  {}", gateway.id, count(gateway.authorized.len(), "pair"));
        for pair in &gateway.authorized {
            let resource = named(pair.resource_id, names);
            let flows = count(pair.flow_ids.len(), "flow");
            let until = until(pair.expires_at);
            let _ = writeln!(text, "    client {} to {resource}, {until}, {flows}", pair.client_id);
        }
    }
    text.push_str("\nrows\n");
    let width = show.tables.keys().map(|table| table.len()).max().unwrap_or_default();
    for (table, rows) in &show.tables {
        let _ = writeln!(text, "  {table:<width$}  {rows:>9}");
    }
    text
}

/// `authorize` without `--json`.
pub fn answer(answer: &Answer, names: &Names) -> String {
    match answer {
        Answer::Ok { flow } => format!(
            "allowed, {until}\n  client      {client}\n  resource    {resource}\n  gateway     {gateway}\n  policy      {policy}\n  \
             membership  {membership}\n  token       {token}\n",
            until = until(flow.expires_at),
            client = flow.client_id,
            resource = named(flow.resource_id, names),
            gateway = flow.gateway_id,
            policy = flow.policy_id,
            membership = flow.actor_group_membership_id,
            token = flow.token_id,
        ),
        Answer::Forbidden { violated_properties } if violated_properties.is_empty() => {
            "forbidden: no live policy gives the resource to a group of the client's actor, or the actor, the account or \
             the token is not live, or the token is another actor's\n"
                .to_owned()
        }
        Answer::Forbidden { violated_properties } => {
            format!("forbidden: conditions do not hold, of {}\n", violated_properties.join(", "))
        }
        Answer::NotFound => "not found: the client or the resource is unknown or not live, or the resource is in no site with a \
                             live gateway group, or the client's version cannot be shown it\n"
            .to_owned(),
        Answer::Offline => {
            "offline: none of the gateways given with --gateway is live and in a site of the resource\n".to_owned()
        }
        Answer::VersionMismatch => {
            "version mismatch: the gateways of the resource that are online are too old for the client\n".to_owned()
        }
        Answer::Unavailable { reason } => format!("unavailable ({reason}): {}\n", meaning(*reason)),
    }
}

/// What a reason means, and what ends it.
fn meaning(reason: Reason) -> &'static str {
    match reason {
        Reason::NotAssigned => "another instance reads the account's partition; ask there",
        Reason::Rebuilding => "the topic is still being read; wait",
        Reason::Unproven => "rows may be missing; load the account again with penstock backfill",
        Reason::Quarantined => {
            "a record could not be read or delivered (the log says where); mend its cause and load the account again with \
             penstock backfill"
        }
        Reason::Stale => {
            "the bridge was not heard of lately, or the topic is not read to its end; is the bridge running?"
        }
    }
}

fn named(resource: Uuid, names: &Names) -> String {
    names.get(&resource).map_or_else(|| resource.to_string(), |name| format!("{resource} {}", printable(name)))
}

/// Names come from a database: what would move the cursor is not printed.
fn printable(name: &str) -> String {
    name.chars().map(|letter| if letter.is_control() { '.' } else { letter }).collect()
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn until(expires_at: Option<i64>) -> String {
    expires_at.map_or_else(|| "for ever".to_owned(), |second| format!("until {}", instant(second)))
}

fn instant(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| format!("unix second {second}"), |instant| instant.to_string())
}

#[cfg(test)]
mod tests {
    use penstock_wire::lsn::CommitLsn;
    use penstock_wire::position::{Position, Seq};

    use super::*;
    use crate::account::show::{ShownClient, ShownGateway, ShownPair};
    use crate::authorize::NewFlow;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn names() -> Names {
        BTreeMap::from([(id(1), "wiki".into()), (id(2), "bell\u{7}".into())])
    }

    fn account() -> Show {
        let position = Position { epoch: 1, commit_lsn: CommitLsn::new(0x16B_3748), seq: Seq(8) };
        let pair = ShownPair {
            client_id: id(0xc),
            resource_id: id(1),
            expires_at: Some(1_609_495_199),
            flow_ids: vec![id(7), id(8)],
        };
        let for_ever = ShownPair { resource_id: id(3), expires_at: None, flow_ids: vec![id(9)], ..pair.clone() };
        Show {
            account: "acme".into(),
            as_of: Some(1_609_459_200),
            position: position.into(),
            clients: vec![
                ShownClient { id: id(0xc), allowed: vec![id(1), id(2)] },
                ShownClient { id: id(0xd), allowed: Vec::new() },
            ],
            gateways: vec![ShownGateway { id: id(0xe), authorized: vec![pair, for_ever] }],
            tables: BTreeMap::from([("flows", 3), ("resource_connections", 12)]),
        }
    }

    #[test]
    fn an_account_is_told_in_tables() {
        let expected = "\
account   acme
as of     2021-01-01T00:00:00Z
position  1:0/16B3748:8 (epoch:commit LSN:seq)
answered  yes

clients and the resources that they may reach: 2
  00000000-0000-0000-0000-00000000000c  2 resources
    00000000-0000-0000-0000-000000000001 wiki
    00000000-0000-0000-0000-000000000002 bell.
  00000000-0000-0000-0000-00000000000d  0 resources

gateways and the pairs that they let through: 1
  00000000-0000-0000-0000-00000000000e  2 pairs
    client 00000000-0000-0000-0000-00000000000c to 00000000-0000-0000-0000-000000000001 wiki, until 2021-01-01T09:59:59Z, 2 flows
    client 00000000-0000-0000-0000-00000000000c to 00000000-0000-0000-0000-000000000003, for ever, 1 flow

rows
  flows                         3
  resource_connections         12
";
        assert_eq!(show(&account(), &names(), None), expected);
    }

    #[test]
    fn an_account_that_is_not_answered_for_says_why_and_what_helps() {
        let unknown = Show { as_of: None, ..account() };
        let text = show(&unknown, &names(), Some(Reason::Quarantined));
        assert!(text.contains("\nas of     not known\n"), "{text}");
        assert!(text.contains("\nanswered  NO, quarantined: a record could not be read"), "{text}");
    }

    #[test]
    fn answers_are_sentences() {
        let flow = NewFlow {
            id: id(0),
            account_id: "acme".into(),
            policy_id: id(4),
            client_id: id(0xc),
            gateway_id: id(0xe),
            resource_id: id(1),
            token_id: id(5),
            actor_group_membership_id: id(6),
            client_remote_ip: None,
            expires_at: Some(1_609_495_199),
            inserted_at: 0,
        };
        let ok = "\
allowed, until 2021-01-01T09:59:59Z
  client      00000000-0000-0000-0000-00000000000c
  resource    00000000-0000-0000-0000-000000000001 wiki
  gateway     00000000-0000-0000-0000-00000000000e
  policy      00000000-0000-0000-0000-000000000004
  membership  00000000-0000-0000-0000-000000000006
  token       00000000-0000-0000-0000-000000000005
";
        assert_eq!(answer(&Answer::Ok { flow }, &names()), ok);
        let violated = |properties: &[&str]| Answer::Forbidden {
            violated_properties: properties.iter().map(|&property| property.into()).collect(),
        };
        let cases = [
            (violated(&[]), "forbidden: no live policy gives"),
            (violated(&["remote_ip", "provider_id"]), "forbidden: conditions do not hold, of remote_ip, provider_id\n"),
            (Answer::NotFound, "not found: "),
            (Answer::Offline, "offline: "),
            (Answer::VersionMismatch, "version mismatch: "),
            (Answer::Unavailable { reason: Reason::Stale }, "unavailable (stale): the bridge was not heard of"),
        ];
        for (given, beginning) in cases {
            let text = answer(&given, &names());
            assert!(text.starts_with(beginning) && text.ends_with('\n'), "{text}");
        }
    }
}
