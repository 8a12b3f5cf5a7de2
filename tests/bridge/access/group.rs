//! Several instances that share the partitions: an account has one owner, whoever dies, and channels are told.

use std::collections::BTreeSet;
use std::path::Path;

use penstock_access::account::ClientOptions;
use penstock_access::channel::push::Push;
use penstock_access::knowledge::Reason;
use penstock_access::service::{Access, Channel, Notice};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::program::Program;
use super::{CLIENT, config_of, configuration_text, connect, records, runtime, scene};
use crate::scene::{PARTITIONS, PATIENCE, Scene, wait_for_loads};
use crate::world::wait;

/// Accounts beside the scene's own: with three partitions every one has some.
const MORE_ACCOUNTS: u32 = 24;

fn account(number: u32) -> String {
    format!("10000000-0000-4000-8000-{number:012}")
}

fn member(scene: &Scene, folder: Option<&Path>) -> String {
    let kafka = format!(
        "assignment = \"group\"\ngroup = {:?}\nproperties = {{ \"session.timeout.ms\" = \"6000\" }}",
        format!("{}-owners", scene.world.topic)
    );
    let folder = folder.map(|folder| format!("[checkpoint]\nfolder = {:?}\nevery = 1", folder.display().to_string()));
    configuration_text(&scene.world, &kafka, &folder.unwrap_or_default())
}

fn assigned(access: &Access) -> BTreeSet<u32> {
    access.look(|replica| replica.assigned().into_iter().collect())
}

/// How many of these know each account; those that do not say that another instance has it.
fn owners(accesses: &[&Access]) -> Vec<usize> {
    let owners = |account: &str| {
        let doubts: Vec<_> = accesses.iter().map(|access| access.doubt(account)).collect();
        let knows = doubts.iter().filter(|doubt| doubt.is_none()).count();
        let not_assigned = doubts.iter().filter(|doubt| **doubt == Some(Reason::NotAssigned)).count();
        if knows + not_assigned == doubts.len() { knows } else { usize::MAX }
    };
    (0..MORE_ACCOUNTS).map(|number| owners(&account(number))).collect()
}

/// What a channel was told until now.
fn told(runtime: &Runtime, channel: &mut Channel) -> Vec<Push> {
    let mut pushes = Vec::new();
    while let Ok(next) = runtime.block_on(async { timeout(std::time::Duration::from_millis(50), channel.next()).await })
    {
        match next {
            Some(Notice::Push(message)) => pushes.push(message.push),
            other => panic!("{other:?}"),
        }
    }
    pushes
}

#[test]
fn every_account_has_one_owner_also_when_one_is_killed_and_what_comes_back_is_gone_on_with() {
    let (mut scene, runtime) = (scene(), runtime());
    scene.sql(&format!(
        "INSERT INTO accounts (id, name, slug, inserted_at, updated_at)
             SELECT ('10000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'n', 's' || n, now(), now()
               FROM generate_series(0, {}) n",
        MORE_ACCOUNTS - 1
    ));
    wait_for_loads(&scene);
    scene.world.wait_confirmed(&mut scene.bridge, PATIENCE);
    let folder = tempfile::tempdir().expect("a folder");
    let one = connect(&config_of(&member(&scene, Some(folder.path()))), &runtime);
    wait("one instance to own all", PATIENCE * 2, || owners(&[&one]).iter().all(|owners| *owners == 1))
        .unwrap_or_else(|late| panic!("{late}: {:?}", one.health()));
    let all: BTreeSet<u32> = (0..PARTITIONS).collect();
    assert_eq!(assigned(&one), all);
    let mut of_one = one.subscribe_client(CLIENT, None, ClientOptions::default());
    wait("checkpoints", PATIENCE, || {
        (0..PARTITIONS).all(|of| folder.path().join(format!("partition-{of}.checkpoint")).exists())
    })
    .expect("one is written every second");

    // A second and a third: each gets a partition.
    let two = connect(&config_of(&member(&scene, None)), &runtime);
    let mut of_two = two.subscribe_client(CLIENT, None, ClientOptions::default());
    let mut three = Program::start_with(&member(&scene, None), &["watch", "--client", &CLIENT.to_string()]);
    wait("a partition each", PATIENCE * 2, || {
        let (one, two) = (assigned(&one), assigned(&two));
        one.len() == 1 && two.len() == 1 && one.is_disjoint(&two)
    })
    .unwrap_or_else(|late| panic!("{late}: {:?} {:?}\n{}", assigned(&one), assigned(&two), three.log()));
    let partition = one.look(|replica| replica.partition_of(super::ACCOUNT));
    let owner_told = |access: &Access, pushes: &[Push]| {
        let last = pushes.last();
        match assigned(access).contains(&partition) {
            true => matches!(last, Some(Push::ClientInit { .. } | Push::Fresh { .. })),
            false => matches!(last, Some(Push::NotAssigned {})),
        }
    };
    let (mut of_one_told, mut of_two_told) = (Vec::new(), Vec::new());
    wait("who has it to be known", PATIENCE, || {
        of_one_told.extend(told(&runtime, &mut of_one));
        of_two_told.extend(told(&runtime, &mut of_two));
        let is_of_three = !assigned(&one).contains(&partition) && !assigned(&two).contains(&partition);
        let three_knows = three.lines().last().is_some_and(|last| last["push"] == "init" || last["push"] == "fresh");
        owner_told(&one, &of_one_told) && owner_told(&two, &of_two_told) && is_of_three == three_knows
    })
    .unwrap_or_else(|late| panic!("{late}: {of_one_told:?} {of_two_told:?} {:?}\n{}", three.lines(), three.log()));

    three.kill();
    wait("the others to own all", PATIENCE * 2, || {
        owners(&[&one, &two]).iter().all(|owners| *owners == 1)
            && assigned(&one).union(&assigned(&two)).copied().collect::<BTreeSet<_>>() == all
    })
    .unwrap_or_else(|late| panic!("{late}: {:?} {:?} {:?}", owners(&[&one, &two]), one.health(), two.health()));
    wait("the owner to open", PATIENCE, || {
        of_one_told.extend(told(&runtime, &mut of_one));
        of_two_told.extend(told(&runtime, &mut of_two));
        owner_told(&one, &of_one_told) && owner_told(&two, &of_two_told)
    })
    .unwrap_or_else(|late| panic!("{late}: {of_one_told:?} {of_two_told:?}"));

    // What the second one had comes back to the first, whose checkpoints fit: nothing is read again.
    let begun_before = records(&one);
    assert!(begun_before > u64::from(MORE_ACCOUNTS), "it has read every account once: {begun_before}");
    let gave_back = assigned(&two);
    assert!(!gave_back.is_empty(), "it owns some");
    runtime.block_on(two.close());
    wait("the first to own all again", PATIENCE * 2, || owners(&[&one]).iter().all(|owners| *owners == 1))
        .unwrap_or_else(|late| panic!("{late}: {:?}", one.health()));
    assert_eq!(records(&one), begun_before, "partitions {gave_back:?} were gone on with");
    wait("the first to open", PATIENCE, || {
        of_one_told.extend(told(&runtime, &mut of_one));
        owner_told(&one, &of_one_told)
    })
    .unwrap_or_else(|late| panic!("{late}: {of_one_told:?}"));
    runtime.block_on(one.close());
    scene.stop();
}
