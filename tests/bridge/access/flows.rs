//! Flows that are announced before their rows come, or end for good, on real servers.

use super::*;
use penstock_access::authorize::NewFlow;

pub fn granted(access: &Access, resource: Uuid, flow: u128) -> NewFlow {
    let flow = Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0000 | flow);
    let request = Request { client: CLIENT, token: TOKEN, resource, online: &[GATEWAY], flow };
    match access.authorize(&request) {
        Answer::Ok { flow } => flow,
        other => panic!("{other:?}"),
    }
}

/// The gateway lets the client in at once, and not for much longer than the row may take.
#[test]
fn an_announced_flow_whose_insert_was_rolled_back_is_rejected_in_time() {
    const CONFIRM_WITHIN: Duration = Duration::from_secs(2);
    let (scene, runtime) = (scene(), runtime());
    scene.sql(GATEWAY_TOKEN);
    let access = consumer_with(&scene, &runtime, "", "confirm_within = 2\nstale_after = 30");
    let mut gateway = access.subscribe_gateway(GATEWAY, None);
    assert_eq!(told(&runtime, &mut gateway), "init []");
    for round in 0..3 {
        let flow = granted(&access, RESOURCES[0], 0xf10 + round);
        let announced = Instant::now();
        assert!(access.announce(&flow));
        assert_eq!(told(&runtime, &mut gateway), "authorize c1 b01");
        scene.sql(&format!("BEGIN; {}; ROLLBACK", insert_flow(&format!("f1{round}"), "f1", "b01")));
        assert_eq!(told(&runtime, &mut gateway), "reject c1 b01");
        let taken = announced.elapsed();
        let early = CONFIRM_WITHIN - Duration::from_millis(150);
        assert!(taken > early && taken <= CONFIRM_WITHIN + Duration::from_secs(1), "after {taken:?}");
    }
    // One whose row comes stays.
    let flow = granted(&access, RESOURCES[0], 0xf1a);
    let announced = Instant::now();
    assert!(access.announce(&flow));
    scene.sql(&insert_flow("f1a", "f1", "b01"));
    assert_eq!(told(&runtime, &mut gateway), "authorize c1 b01");
    wait("longer than an announcement lasts", PATIENCE, || announced.elapsed() > 2 * CONFIRM_WITHIN)
        .expect("time passes");
    assert_eq!(heard_by_gateway(&scene, &runtime, &mut gateway), ["init [c1-b01]"]);
    runtime.block_on(access.close());
    scene.stop();
}
