use std::time::Duration;

use tonic::Code;

use super::*;

fn limits() -> ClientLimits {
    ClientLimits {
        connections_max: 3,
        connections_per_client_max: 2,
        streams_per_connection_max: 1,
        calls_per_client_max: 2,
        bytes_per_client_max: 100,
    }
}

fn connect(clients: &Arc<Clients>, address: &str) -> Result<Seat, Full> {
    clients.connect(address.parse().unwrap())
}

#[test]
fn connections_are_bounded_for_each_address_and_in_all() {
    let clients = Clients::new(limits());
    let first = connect(&clients, "192.0.2.1").unwrap();
    let second = connect(&clients, "::ffff:192.0.2.1").unwrap();
    assert_eq!(connect(&clients, "192.0.2.1").err(), Some(Full::Client(2)));
    let third = connect(&clients, "192.0.2.2").unwrap();
    assert_eq!(connect(&clients, "192.0.2.3").err(), Some(Full::All(3)));
    drop(first);
    let _fourth = connect(&clients, "192.0.2.1").unwrap();
    drop((second, third));
    assert_eq!(clients.connected.lock().clients.len(), 1, "who has gone is forgotten");
}

#[test]
fn a_network_of_ipv6_is_one_client() {
    let clients = Clients::new(limits());
    let _seats = [connect(&clients, "2001:db8::1").unwrap(), connect(&clients, "2001:db8::2").unwrap()];
    assert_eq!(connect(&clients, "2001:db8::ffff:1:2:3").err(), Some(Full::Client(2)));
    assert!(connect(&clients, "2001:db8:0:1::1").is_ok());
}

#[test]
fn calls_are_bounded_over_all_connections_of_a_client() {
    let clients = Clients::new(limits());
    let seats = [connect(&clients, "192.0.2.1").unwrap(), connect(&clients, "192.0.2.1").unwrap()];
    let first = seats[0].client.begin_call().unwrap();
    let _second = seats[1].client.begin_call().unwrap();
    let refused = seats[0].client.begin_call().err().unwrap();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::ResourceExhausted, "etcdserver: too many requests")
    );
    let other = connect(&clients, "192.0.2.2").unwrap();
    assert!(other.client.begin_call().is_ok());
    drop(first);
    assert!(seats[0].client.begin_call().is_ok());
}

#[test]
fn bytes_are_bounded_and_given_back() {
    let clients = Clients::new(limits());
    let seat = connect(&clients, "192.0.2.1").unwrap();
    let call = seat.client.begin_call().unwrap();
    call.receive(60).unwrap();
    assert!(seat.client.begin_call().unwrap().receive(41).is_err());
    call.receive(90).unwrap();
    // An answer may go beyond, but nothing new begins then.
    call.answer(20);
    assert!(seat.client.begin_call().is_err());
    call.taken(15);
    assert!(seat.client.begin_call().is_ok());
    call.taken(1000);
    assert_eq!(seat.client.bytes.load(Ordering::Relaxed), 90);
    drop(call);
    assert_eq!(seat.client.bytes.load(Ordering::Relaxed), 0);
    assert_eq!(seat.client.calls.load(Ordering::Relaxed), 0);
}

#[test]
fn watchers_are_bounded_for_each_connection() {
    let clients = Clients::new(limits());
    let caller = Caller::new(connect(&clients, "192.0.2.1").unwrap(), None);
    for _ in 0..WATCHERS_MAX {
        assert!(caller.add_watcher());
    }
    assert!(!caller.add_watcher());
    caller.remove_watchers(1);
    assert!(caller.add_watcher());
}

#[test]
fn an_answer_stalls_when_nothing_of_it_is_taken_for_too_long() {
    let (stalls, second) = (Arc::<Stalls>::default(), Duration::from_secs(1));
    let answer = stalls.begin(second);
    assert!(!stalls.are_there(STALL_TIME_MAX));
    assert!(stalls.are_there(STALL_TIME_MAX + second));
    answer.offered(second * 3);
    assert!(!stalls.are_there(STALL_TIME_MAX + second));
    answer.taken();
    assert!(!stalls.are_there(STALL_TIME_MAX * 100), "it waits for nothing");
    answer.offered(second);
    drop(answer);
    assert!(!stalls.are_there(STALL_TIME_MAX * 100));
}
