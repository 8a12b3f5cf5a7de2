//! Input that is not as it should be: it is told where it stands, and denies.

use super::by_hand::{next_header, produce};
use super::*;
use crate::reader::Record;

/// What is wrong, what makes it so, and what has to be in the report.
struct Case {
    what: &'static str,
    make: Make,
    words: &'static [&'static str],
    /// Whether the account is quarantined for it.
    quarantined: bool,
}

enum Make {
    Sql(&'static str),
    /// The value under the key of a policy's record, made from its value.
    Value(fn(&[u8]) -> Vec<u8>),
}

const POLICY_OF_NOBODY: &str = "
    ALTER TABLE policies ALTER COLUMN account_id DROP NOT NULL;
    INSERT INTO policies (id, account_id, actor_group_id, resource_id, inserted_at, updated_at)
    VALUES ('00000000-0000-4000-8000-0000000000f5', NULL, '00000000-0000-4000-8000-0000000000a2',
            '00000000-0000-4000-8000-000000000b02', now(), now())";

const POLICY_OF_NO_GROUP: &str = "
    SET session_replication_role = replica;
    INSERT INTO policies (id, account_id, actor_group_id, resource_id, inserted_at, updated_at)
    VALUES ('00000000-0000-4000-8000-0000000000f6', '00000000-0000-4000-8000-0000000000a0',
            '00000000-0000-4000-8000-0000000000a9', '00000000-0000-4000-8000-000000000b02', now(), now())";

fn cases() -> Vec<Case> {
    let sql = |what, sql, words| Case { what, make: Make::Sql(sql), words, quarantined: false };
    let value = |what, make, words| Case { what, make: Make::Value(make), words, quarantined: true };
    vec![
        value("a record that is cut off", |value| value[..9].to_vec(), &["cannot be read", "policies"]),
        value("a record that is not framed", |_| b"x".to_vec(), &["cannot be read", "not framed"]),
        value(
            "a schema that nobody registered",
            |value| [&[0, 0x7f, 0xff, 0xff, 0xf0], &value[5..]].concat(),
            &["cannot be read", "schema 2147483632", "the registry does not have it"],
        ),
        sql(
            "a value that an enumeration does not have",
            "UPDATE resources SET type = 'tunnel' WHERE id = '00000000-0000-4000-8000-000000000b01'",
            &["a row of resources", "type", "none of those that are known"],
        ),
        sql("a row of no account", POLICY_OF_NOBODY, &["a row of policies", "account_id", "no account"]),
        sql("a row without its parent", POLICY_OF_NO_GROUP, &["a row of policies", "a row of actor_groups", ACCOUNT]),
        sql(
            "a condition on nothing that is known",
            "UPDATE policies SET conditions = ARRAY['{\"property\": \"moon\", \"operator\": \"is\", \"values\": [\"full\"]}'::jsonb]",
            &["policy 00000000-0000-4000-8000-0000000000f1"],
        ),
        sql(
            "a condition with a value that means nothing",
            "UPDATE policies SET conditions = ARRAY['{\"property\": \"remote_ip\", \"operator\": \"is_in_cidr\", \"values\": [\"0.0.0.0/0\", 7]}'::jsonb]",
            &["policy 00000000-0000-4000-8000-0000000000f1"],
        ),
        sql(
            "a condition that is none",
            "UPDATE policies SET conditions = ARRAY['[[[1e999]]]'::jsonb, '{}'::jsonb]",
            &["policy 00000000-0000-4000-8000-0000000000f1"],
        ),
    ]
}

fn is_of_the_account(record: &Record) -> bool {
    [ACCOUNT, "global"].contains(&record.account.as_str()) && record.change().is_some()
}

#[test]
fn what_cannot_be_read_is_told_where_it_stands_and_gives_nothing() {
    for case in cases() {
        let Case { what, make, words, quarantined } = case;
        let (mut scene, runtime) = (scene(), runtime());
        let access = consumer_with(&scene, &runtime, "", "stale_after = 30");
        let mut client = access.subscribe_client(CLIENT, None, ClientOptions::default());
        assert_eq!(told(&runtime, &mut client), "init [b01]");
        assert!(access.reports().is_empty(), "{what}: {:?}", access.reports());
        let records = scene.records();
        let place = match make {
            Make::Value(make) => {
                let of_policies =
                    |record: &&Record| record.change().is_some_and(|change| change.source.table == "policies");
                let like = records.iter().rfind(of_policies).expect("there is a policy");
                let header = next_header(&records, like.partition);
                let value = make(like.raw.as_ref().expect("it is no tombstone"));
                produce(&scene, like.partition, &like.key, Some(&value), Some(&header.encode()));
                (like.partition, None, header.position)
            }
            Make::Sql(sql) => {
                scene.sql(sql);
                let records = scene.records();
                let record = crate::scene::in_order(records.into_iter().filter(is_of_the_account).collect());
                let record = record.last().expect("what was done is told").clone();
                (record.partition, Some(record.offset), record.header.position)
            }
        };
        wait("a report", PATIENCE, || !access.reports().is_empty()).unwrap_or_else(|late| panic!("{what}: {late}"));
        // Of a schema there is a report of its own, which stands nowhere.
        let reports = access.reports();
        let report =
            reports.iter().find(|report| report.offset.is_some()).unwrap_or_else(|| panic!("{what}: {reports:?}"));
        let (partition, offset, position) = place;
        let said = report.to_string();
        assert_eq!(report.partition, u32::try_from(partition).ok(), "{what}: {said}");
        assert_eq!(report.position.map(|(_, position)| position), Some(position), "{what}: {said}");
        assert!(offset.is_none_or(|offset| report.offset == Some(offset)), "{what}: {said}");
        assert!(
            said.contains(&format!("topic {}, partition {partition}, offset ", scene.world.topic)),
            "{what}: {said}"
        );
        for word in words {
            assert!(said.contains(word), "{what}: {word:?} is not in {said}");
        }
        // The second resource was never given, and is not for this.
        let answer = authorize(&access, RESOURCES[1]);
        if quarantined {
            assert_eq!(told(&runtime, &mut client), "stale Quarantined", "{what}");
            assert_eq!(answer, Answer::Unavailable { reason: Reason::Quarantined }, "{what}");
        } else {
            assert!(matches!(answer, Answer::Forbidden { .. } | Answer::NotFound), "{what}: {answer:?}");
            let heard = heard_by_client(&scene, &runtime, &mut client);
            assert!(heard.iter().all(|push| push == "deleted b01"), "{what}: {heard:?}");
        }
        runtime.block_on(access.close());
        scene.stop();
    }
}
