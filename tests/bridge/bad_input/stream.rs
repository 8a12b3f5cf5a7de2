//! A replication stream whose bytes are not what Postgres wrote.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::{TABLE, delivered, ids, insert};
use crate::scene::{A, Scene, world};

/// What is done to an Insert message of pgoutput, which begins behind the 25 bytes of its XLogData.
type Damage = fn(&mut Vec<u8>);

const XLOG_DATA_BYTES: usize = 25;

/// Stands between the bridge and Postgres, without TLS, and damages inserts once it is told to.
struct Damaging {
    port: u16,
    damage: Arc<Mutex<Option<Damage>>>,
    done: Arc<AtomicBool>,
}

impl Damaging {
    fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (damage, done) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
        let passed = (Arc::clone(&damage), Arc::clone(&done));
        // Ends with the process: it waits for connections and holds nothing.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a connection");
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server_port)) else { continue };
                let (mut up_from, mut up_to) =
                    (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut up_from, &mut up_to);
                    let _ = up_to.shutdown(Shutdown::Write);
                });
                let (damage, done) = passed.clone();
                std::thread::spawn(move || carry(server, client, &damage, &done));
            }
        });
        Self { port, damage, done }
    }
}

/// From the server to the client, message by message.
fn carry(mut server: TcpStream, mut client: TcpStream, damage: &Mutex<Option<Damage>>, done: &AtomicBool) {
    let mut head = [0; 5];
    while server.read_exact(&mut head).is_ok() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; usize::try_from(length).expect("a length") - 4];
        if server.read_exact(&mut body).is_err() {
            break;
        }
        let is_insert = head[0] == b'd' && body.first() == Some(&b'w') && body.get(XLOG_DATA_BYTES) == Some(&b'I');
        if is_insert && let Some(damage) = *damage.lock().expect("a lock") {
            damage(&mut body);
            done.store(true, Ordering::Relaxed);
        }
        let length = u32::try_from(body.len() + 4).expect("a length").to_be_bytes();
        if client.write_all(&[&[head[0]], length.as_slice(), &body].concat()).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

/// The bridge stops at damaged bytes, delivers nothing of them and confirms nothing past them; undamaged, they are whole.
fn stops_at(damage: Damage, words: &[&str]) {
    let mut world = world(TABLE, "");
    world.set("SOURCE__TLS_MODE", "disable");
    let damaging = Damaging::start(world.database.port);
    let mut bridge = world.run_through(&world.database.through(damaging.port));
    world.wait_ready(&mut bridge, crate::scene::PATIENCE);
    let mut scene = Scene { bridge, world };
    insert(&scene, &[1]);
    assert_eq!(delivered(&mut scene), ["1"]);

    *damaging.damage.lock().expect("a lock") = Some(damage);
    scene.sql(&format!("BEGIN; INSERT INTO t VALUES (2, '{A}', 'v2'); INSERT INTO t VALUES (3, '{A}', 'v3'); COMMIT;"));
    let said = scene.expect_halt(words);
    assert!(damaging.done.load(Ordering::Relaxed), "nothing was damaged");
    assert!(!said.contains("panicked") && !scene.bridge.log().contains("panicked"), "{}", scene.bridge.log());
    assert_eq!(ids(&scene.delivered()), ["1"]);

    scene.again();
    assert_eq!(delivered(&mut scene), ["1", "2", "3"]);
    scene.stop();
}

#[test]
fn an_unknown_message_stops_the_bridge() {
    let words = ["malformed replication message", "unknown message type 0x7f", "nothing is acknowledged past it"];
    stops_at(|body| body[XLOG_DATA_BYTES] = 0x7f, &words);
}

#[test]
fn a_message_that_ends_too_early_stops_the_bridge() {
    let words = ["malformed replication message", "ends inside"];
    stops_at(|body| body.truncate(body.len() - 1), &words);
}

#[test]
fn bytes_behind_a_message_stop_the_bridge() {
    stops_at(|body| body.push(0), &["malformed replication message", "1 bytes follow"]);
}

#[test]
fn a_length_beyond_the_message_stops_the_bridge() {
    // Behind the tag and the relation: 'N', the number of columns, then the first column's 't' and its length.
    stops_at(|body| body[XLOG_DATA_BYTES + 9] = 0x7f, &["malformed replication message", "ends inside"]);
}

#[test]
fn a_relation_that_was_never_described_stops_the_bridge() {
    stops_at(|body| body[XLOG_DATA_BYTES + 1] ^= 0x7f, &["change of relation", "never sent", "1:0/"]);
}

#[test]
fn a_value_that_its_type_cannot_have_stops_the_bridge() {
    // The first column's first digit becomes a letter.
    let words = ["row of public.t at 1:0/", "cannot be delivered", "id"];
    stops_at(|body| body[XLOG_DATA_BYTES + 13] = b'x', &words);
}
