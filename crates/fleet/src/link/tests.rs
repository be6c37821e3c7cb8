use base::SystemClock;
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const KEEPALIVE: Duration = Duration::from_secs(30);
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const HEADERS: u8 = 1;
/// The second stream of a connection: the first one asked whether anybody is there.
const STREAM: u8 = 3;

/// A link with a driver that runs, and who tells it whom to connect with.
fn running() -> (Link<Full<Bytes>>, watch::Sender<Option<Peer>>, Shutdown, Supervisor) {
    let shutdown = Shutdown::new();
    let supervisor = Supervisor::new(shutdown.clone());
    let clock = Arc::new(SystemClock);
    let (link, driver) =
        link(LinkSettings { clock, supervisor: supervisor.clone(), keepalive: KEEPALIVE, secure: None });
    let (peers, known) = watch::channel(None);
    let driven = driver.run(known, shutdown.clone());
    supervisor.spawn("link", TaskKind::Request, async move {
        driven.await;
        Ok::<(), String>(())
    });
    (link, peers, shutdown, supervisor)
}

fn peer(listener: &TcpListener, term: u64) -> Option<Peer> {
    let url = format!("http://{}", listener.local_addr().unwrap());
    Some(Peer { name: "leader".to_owned(), term, url })
}

async fn connected(link: &mut Link<Full<Bytes>>) -> Connection<Full<Bytes>> {
    loop {
        if let Some(connection) = link.connection() {
            return connection;
        }
        link.changed().await;
    }
}

fn request(connection: &Connection<Full<Bytes>>) -> Request<Full<Bytes>> {
    let uri = format!("{}/etcdserverpb.KV/Put", connection.origin());
    Request::post(uri).body(Full::new(Bytes::from_static(b"body"))).unwrap()
}

/// Reads frames until the next one with headers.
async fn read_headers(stream: &mut TcpStream) {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        if head[3] == HEADERS {
            return;
        }
    }
}

/// A connection whose first request is answered: with the headers `:status: 200`, and nothing else.
async fn served(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(&SETTINGS).await.unwrap();
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    read_headers(&mut stream).await;
    stream.write_all(&[0, 0, 1, HEADERS, 5, 0, 0, 0, 1, 0x88]).await.unwrap();
    stream
}

/// A peer that takes one connection, answers the headers of the request with `answer`, and closes.
async fn answers(listener: &TcpListener, answer: &[u8]) {
    let mut stream = served(listener).await;
    read_headers(&mut stream).await;
    stream.write_all(answer).await.unwrap();
    stream.shutdown().await.unwrap();
    // What the client still sends is taken, so that it hears the answer before a reset.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

fn go_away(last_stream: u8) -> Vec<u8> {
    vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last_stream, 0, 0, 0, 0]
}

fn reset(reason: u8) -> Vec<u8> {
    vec![0, 0, 4, 3, 0, 0, 0, 0, STREAM, 0, 0, 0, reason]
}

/// What becomes of a request whose headers a peer answers like this.
async fn sent_to_one_that_answers(answer: &[u8]) -> Unsent {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut link, peers, _shutdown, _supervisor) = running();
    peers.send_replace(peer(&listener, 1));
    let sent = async {
        let connection = connected(&mut link).await;
        // Nobody else to connect with afterwards.
        peers.send_replace(None);
        connection.send(request(&connection)).await.unwrap_err()
    };
    let (sent, ()) = tokio::join!(sent, answers(&listener, answer));
    sent
}

#[tokio::test]
async fn what_a_peer_has_not_looked_at_is_certainly_not_sent() {
    for answer in [go_away(STREAM - 2), reset(7)] {
        let unsent = sent_to_one_that_answers(&answer).await;
        assert!(matches!(unsent, Unsent::Certainly(_)), "{answer:?}: {unsent}");
    }
}

#[tokio::test]
async fn what_a_peer_may_have_looked_at_is_perhaps_carried_out() {
    for answer in [Vec::new(), go_away(STREAM), reset(2), reset(8)] {
        let unsent = sent_to_one_that_answers(&answer).await;
        assert!(matches!(unsent, Unsent::Perhaps(_)), "{answer:?}: {unsent}");
    }
}

#[tokio::test]
async fn it_follows_the_leader_and_says_why_there_is_no_connection() {
    let (first, second) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (mut link, peers, shutdown, supervisor) = running();
    assert!(link.connection().is_none() && link.trouble().contains("nobody"), "{}", link.trouble());

    peers.send_replace(peer(&first, 1));
    let _first = served(&first).await;
    assert_eq!(connected(&mut link).await.peer.term, 1);
    peers.send_replace(peer(&second, 2));
    let _second = served(&second).await;
    while connected(&mut link).await.peer.term != 2 {
        link.changed().await;
    }

    let nobody = peer(&TcpListener::bind("127.0.0.1:0").await.unwrap(), 3);
    peers.send_replace(nobody);
    while !link.trouble().contains("cannot be reached") {
        link.changed().await;
    }
    assert!(link.connection().is_none());

    peers.send_replace(peer(&first, 4));
    let _third = served(&first).await;
    assert_eq!(connected(&mut link).await.peer.term, 4);
    shutdown.begin();
    drop(link);
    assert!(supervisor.drain(Duration::from_secs(60)).await, "nothing is left behind");
}

#[tokio::test]
async fn a_socket_that_nobody_serves_is_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut link, peers, _shutdown, _supervisor) = running();
    peers.send_replace(peer(&listener, 1));
    // Taken by the kernel, which reads what comes, and then dropped by a process that ends.
    let (stream, _) = listener.accept().await.unwrap();
    assert!(link.connection().is_none());
    drop((stream, listener));
    while !link.trouble().contains("cannot be reached") {
        link.changed().await;
        assert!(link.connection().is_none());
    }
}

#[tokio::test]
async fn a_connection_that_ends_is_made_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut link, peers, _shutdown, _supervisor) = running();
    peers.send_replace(peer(&listener, 1));
    let served_first = served(&listener).await;
    let first = connected(&mut link).await;
    drop(served_first);
    let _second = served(&listener).await;
    let second = loop {
        let connection = connected(&mut link).await;
        if connection.id != first.id {
            break connection;
        }
        link.changed().await;
    };
    assert_eq!((second.id, &second.peer), (first.id + 1, &first.peer));
    let unsent = first.send(request(&first)).await.unwrap_err();
    assert!(matches!(unsent, Unsent::Certainly(_)), "{unsent}");
}
