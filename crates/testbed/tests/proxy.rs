//! The proxy between a plain TCP client and server: what each fault does, what it leaves alone, and what an observer sees.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use penstock_testbed::proxy::{Chunk, Direction, End, Ending, Faults, Observer, Proxy, Verdict};

/// Long enough that a busy machine does not reach it by accident.
const LONG: Duration = Duration::from_secs(20);
/// Long enough that bytes which may pass would have passed.
const QUIET: Duration = Duration::from_millis(300);

/// A client and a server joined by a proxy.
struct Pair {
    proxy: Proxy,
    client: TcpStream,
    server: TcpStream,
    listener: TcpListener,
}

impl Pair {
    fn new() -> Self {
        Self::with(|port| Proxy::to_port(port).expect("proxy"))
    }

    fn observed(observer: Observer) -> Self {
        Self::with(|port| Proxy::observed("p", port, observer).expect("proxy"))
    }

    fn with(proxy: impl FnOnce(u16) -> Proxy) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let proxy = proxy(listener.local_addr().expect("address").port());
        let (client, server) = connect(&proxy, &listener);
        Self { proxy, client, server, listener }
    }
}

fn connect(proxy: &Proxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(proxy.address()).expect("connect");
    let (server, _) = listener.accept().expect("accept");
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(LONG)).expect("timeout");
        stream.set_nodelay(true).expect("nodelay");
    }
    (client, server)
}

fn receive(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).expect("bytes arrive");
    bytes
}

fn assert_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(QUIET)).expect("timeout");
    let error = stream.read(&mut [0; 1]).expect_err("nothing may come");
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    stream.set_read_timeout(Some(LONG)).expect("timeout");
}

fn assert_reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0; 1]).expect_err("a reset, not an end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

#[test]
fn without_faults_bytes_and_half_closes_pass_unchanged() {
    let mut pair = Pair::new();
    let sent: Vec<u8> = (0_u32..3_000_000).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let mut writer = pair.client.try_clone().expect("clone");
    let copy = sent.clone();
    let sender = thread::spawn(move || {
        writer.write_all(&copy).expect("write");
        writer.shutdown(Shutdown::Write).expect("half-close");
    });
    let mut received = Vec::new();
    pair.server.read_to_end(&mut received).expect("to the end");
    sender.join().expect("sender");
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());

    // The other direction is still open.
    pair.server.write_all(b"late").expect("write");
    assert_eq!(receive(&mut pair.client, 4), b"late");
    drop(pair.server);
    assert_eq!(pair.client.read(&mut [0; 1]).expect("end"), 0);
}

#[test]
fn delay_postpones_each_byte_and_leaves_the_throughput() {
    let mut pair = Pair::new();
    let delay = Duration::from_millis(300);
    pair.proxy.set(Direction::Down, Faults::delay(delay));
    let started = Instant::now();
    for piece in 0..10_u8 {
        pair.server.write_all(&[piece]).expect("write");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(receive(&mut pair.client, 10), (0..10).collect::<Vec<u8>>());
    let took = started.elapsed();
    assert!(took >= delay + Duration::from_millis(180), "{took:?}");
    assert!(took < delay * 5, "ten delays one after the other: {took:?}");

    let started = Instant::now();
    pair.client.write_all(b"up").expect("write");
    receive(&mut pair.server, 2);
    assert!(started.elapsed() < delay, "the other direction is not delayed");
}

#[test]
fn throttle_bounds_bytes_per_second_and_can_be_lifted_midway() {
    let mut pair = Pair::new();
    pair.proxy.set(Direction::Up, Faults::throttle(100_000));
    let started = Instant::now();
    pair.client.write_all(&[7; 50_000]).expect("write");
    receive(&mut pair.server, 50_000);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(400), "{took:?}");

    pair.proxy.set(Direction::Up, Faults::throttle(10));
    pair.client.write_all(&[7; 50_000]).expect("write");
    receive(&mut pair.server, 1);
    pair.proxy.clear();
    // At 10 bytes a second this would take an hour and a half.
    receive(&mut pair.server, 49_999);
}

#[test]
fn blackhole_holds_bytes_and_ends_until_it_is_lifted() {
    let mut pair = Pair::new();
    pair.proxy.set_both(Faults::blackhole());
    pair.client.write_all(b"question").expect("write");
    pair.client.shutdown(Shutdown::Write).expect("half-close");
    assert_silent(&mut pair.server);
    pair.proxy.set(Direction::Up, Faults::default());
    let mut received = Vec::new();
    pair.server.read_to_end(&mut received).expect("to the end");
    assert_eq!(received, b"question");

    pair.server.write_all(b"answer").expect("write");
    assert_silent(&mut pair.client);
    pair.proxy.clear();
    assert_eq!(receive(&mut pair.client, 6), b"answer");

    // An end alone is held as well.
    pair.proxy.set_both(Faults::blackhole());
    pair.server.shutdown(Shutdown::Write).expect("half-close");
    assert_silent(&mut pair.client);
    pair.proxy.clear();
    assert_eq!(pair.client.read(&mut [0; 1]).expect("end"), 0);
}

#[test]
fn cut_lets_exactly_so_many_bytes_pass_then_ends_both_sides() {
    for ending in [Ending::Close, Ending::Reset] {
        let mut pair = Pair::new();
        pair.client.write_all(b"before").expect("write");
        receive(&mut pair.server, 6);
        // Counted from now on, and per direction.
        pair.proxy.set(Direction::Up, Faults::cut(5, ending));
        pair.server.write_all(b"downwards").expect("write");
        receive(&mut pair.client, 9);
        pair.client.write_all(b"123").expect("write");
        assert_eq!(receive(&mut pair.server, 3), b"123");
        pair.client.write_all(b"4567").expect("write");
        assert_eq!(receive(&mut pair.server, 2), b"45");
        match ending {
            Ending::Close => {
                assert_eq!(pair.server.read(&mut [0; 1]).expect("end"), 0);
                assert_eq!(pair.client.read(&mut [0; 1]).expect("end"), 0);
            }
            Ending::Reset => {
                assert_reset(&mut pair.server);
                assert_reset(&mut pair.client);
            }
        }
    }
}

#[test]
fn cut_comes_with_the_last_byte_not_with_the_next() {
    let mut pair = Pair::new();
    pair.proxy.set(Direction::Up, Faults::cut(5, Ending::Close));
    pair.client.write_all(b"12345").expect("write");
    let mut received = Vec::new();
    pair.server.read_to_end(&mut received).expect("to the end");
    assert_eq!(received, b"12345");
}

#[test]
fn ending_all_resets_both_sides_and_leaves_room_for_new_connections() {
    let mut pair = Pair::new();
    pair.client.write_all(b"x").expect("write");
    receive(&mut pair.server, 1);
    assert_eq!(pair.proxy.connections(), 1);
    pair.proxy.end_all(Ending::Reset);
    assert_eq!(pair.proxy.connections(), 0);
    assert_reset(&mut pair.client);
    assert_reset(&mut pair.server);

    let (mut client, mut server) = connect(&pair.proxy, &pair.listener);
    client.write_all(b"y").expect("write");
    assert_eq!(receive(&mut server, 1), b"y");

    pair.proxy.refuse(true);
    let mut refused = TcpStream::connect(pair.proxy.address()).expect("connect");
    refused.set_read_timeout(Some(LONG)).expect("timeout");
    assert_reset(&mut refused);
    client.write_all(b"z").expect("write");
    assert_eq!(receive(&mut server, 1), b"z", "connections that exist are not refused");
}

#[test]
fn blocked_writer_does_not_keep_a_reset_from_happening() {
    let mut pair = Pair::new();
    let mut writer = pair.client.try_clone().expect("clone");
    // Nobody reads: sooner or later every buffer on the way is full.
    let sender = thread::spawn(move || while writer.write_all(&[0; 65_536]).is_ok() {});
    thread::sleep(QUIET);
    pair.proxy.end_all(Ending::Reset);
    assert_eq!(pair.proxy.connections(), 0);
    sender.join().expect("the writer is woken by the reset");
    let mut rest = Vec::new();
    let error = pair.server.read_to_end(&mut rest).expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn reset_by_one_end_reaches_the_other() {
    let mut pair = Pair::new();
    pair.client.write_all(b"unread").expect("write");
    pair.server.peek(&mut [0; 1]).expect("it has come");
    // Closed with bytes unread, a socket sends a RST.
    drop(pair.server);
    assert_reset(&mut pair.client);
}

#[test]
fn half_open_ends_one_side_and_leaves_the_other_in_silence() {
    let mut pair = Pair::new();
    pair.client.write_all(b"x").expect("write");
    receive(&mut pair.server, 1);
    pair.proxy.half_open(End::Client);
    assert_eq!(pair.client.read(&mut [0; 1]).expect("end"), 0);
    assert_silent(&mut pair.server);
    pair.server.write_all(b"to nobody").expect("swallowed");
    assert_silent(&mut pair.server);
}

#[test]
fn new_connections_follow_a_new_target() {
    let pair = Pair::new();
    let other = TcpListener::bind("127.0.0.1:0").expect("listen");
    pair.proxy.retarget(other.local_addr().expect("address").port());
    let (mut client, mut server) = connect(&pair.proxy, &other);
    client.write_all(b"x").expect("write");
    assert_eq!(receive(&mut server, 1), b"x");
}

#[test]
fn client_of_a_dead_server_is_reset() {
    let pair = Pair::new();
    let port = pair.listener.local_addr().expect("address").port();
    let Pair { proxy, listener, .. } = pair;
    drop(listener);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    let mut client = TcpStream::connect(proxy.address()).expect("connect");
    client.set_read_timeout(Some(LONG)).expect("timeout");
    assert_reset(&mut client);
}

#[test]
fn observer_sees_cause_before_effect_across_proxies() {
    // The client answers on one connection what it heard on another; the observer must never see the answer first.
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let observer: Observer = Arc::new(Mutex::new(move |chunk: &Chunk<'_>| {
        log.lock().expect("log").push((chunk.direction, chunk.bytes.to_vec(), chunk.at));
        Verdict::Pass
    }));
    let mut hear = Pair::observed(Arc::clone(&observer));
    let mut tell = Pair::observed(observer);
    // Also where the bytes wait within the proxy: what matters is when the client can have them.
    hear.proxy.set(Direction::Down, Faults::delay(Duration::from_millis(1)));
    for round in 0..100_u8 {
        hear.server.write_all(&[round]).expect("write");
        receive(&mut hear.client, 1);
        tell.client.write_all(&[round]).expect("write");
        receive(&mut tell.server, 1);
    }
    let seen = seen.lock().expect("log");
    let expected: Vec<_> =
        (0..100_u8).flat_map(|round| [(Direction::Down, vec![round]), (Direction::Up, vec![round])]).collect();
    let found: Vec<_> = seen.iter().map(|(direction, bytes, _)| (*direction, bytes.clone())).collect();
    assert_eq!(found, expected);
    assert!(seen.is_sorted_by_key(|(_, _, at)| *at), "times are in the order of the calls");
}

#[test]
fn observer_is_told_at_the_clients_end() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let observer: Observer = Arc::new(Mutex::new(move |chunk: &Chunk<'_>| {
        log.lock().expect("log").push((chunk.direction, chunk.at));
        Verdict::Pass
    }));
    let mut pair = Pair::observed(observer);
    let delay = Duration::from_millis(300);
    pair.proxy.set_both(Faults::delay(delay));
    let written = Instant::now();
    pair.client.write_all(b"up").expect("write");
    pair.server.write_all(b"down").expect("write");
    receive(&mut pair.server, 2);
    receive(&mut pair.client, 4);
    let seen = seen.lock().expect("log");
    let after = |direction| {
        let (_, at) = seen.iter().find(|(seen, _)| *seen == direction).expect("seen");
        at.duration_since(written)
    };
    assert!(after(Direction::Up) < delay, "{seen:?}");
    assert!(after(Direction::Down) >= delay, "{seen:?}");
}

#[test]
fn observer_holds_a_chunk_until_it_is_released() {
    for direction in Direction::BOTH {
        let held = Arc::new((Mutex::new(false), Condvar::new()));
        let signal = Arc::clone(&held);
        let observer: Observer = Arc::new(Mutex::new(move |chunk: &Chunk<'_>| {
            if chunk.direction == direction && chunk.bytes == b"stop" {
                *signal.0.lock().expect("flag") = true;
                signal.1.notify_all();
                return Verdict::Hold;
            }
            Verdict::Pass
        }));
        let mut pair = Pair::observed(observer);
        let (from, to) = match direction {
            Direction::Up => (&mut pair.client, &mut pair.server),
            Direction::Down => (&mut pair.server, &mut pair.client),
        };
        from.write_all(b"go").expect("write");
        assert_eq!(receive(to, 2), b"go");
        from.write_all(b"stop").expect("write");
        let mut flag = held.0.lock().expect("flag");
        while !*flag {
            flag = held.1.wait(flag).expect("flag");
        }
        from.write_all(b"behind").expect("write");
        assert_silent(to);
        pair.proxy.release();
        assert_eq!(receive(to, 10), b"stopbehind");
    }
}

#[test]
fn observer_loses_an_answer_and_resets() {
    let observer: Observer = Arc::new(Mutex::new(|chunk: &Chunk<'_>| match chunk.bytes {
        b"done" => Verdict::Reset,
        _ => Verdict::Pass,
    }));
    let mut pair = Pair::observed(observer);
    pair.client.write_all(b"do").expect("write");
    assert_eq!(receive(&mut pair.server, 2), b"do");
    pair.server.write_all(b"done").expect("write");
    assert_reset(&mut pair.client);
}
