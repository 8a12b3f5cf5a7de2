//! The stack that the tests of a process share.

use penstock_testbed::cluster::{Addresses, shared};
use penstock_testbed::registry::http;

#[test]
fn stack_is_started_once_and_each_test_has_a_database_of_its_own() {
    let addresses: Vec<&Addresses> = std::thread::scope(|scope| {
        let threads = [(); 3].map(|()| scope.spawn(|| shared().expect("stack")));
        threads.map(|thread| thread.join().expect("no panic")).into()
    });
    assert!(addresses.iter().all(|other| std::ptr::eq(*other, addresses[0])));
    let addresses = addresses[0];
    assert_eq!(Addresses::from_json(&addresses.to_json()).as_ref(), Some(addresses));

    let one = addresses.database("one").expect("database");
    let two = addresses.database("one").expect("database");
    one.psql("CREATE TABLE t (a int)").expect("table");
    two.psql("CREATE TABLE t (a int)").expect("the same table elsewhere");
    let exists = format!("SELECT count(*) FROM pg_database WHERE datname = '{}'", one.database);
    assert_eq!(addresses.postgres.psql(&exists).expect("count"), "1");
    drop(one);
    assert_eq!(addresses.postgres.psql(&exists).expect("count"), "0");

    let port = addresses.registry_url.split([':', '/']).nth(4).expect("port");
    let answer = http::request(port.parse().expect("number"), "GET", "/apis/ccompat/v7/subjects", "");
    assert_eq!(answer.expect("answer").status, 200);
}
