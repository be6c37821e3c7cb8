//! A network between two servers that can be cut.

#![allow(clippy::unwrap_used, reason = "a test whose equipment breaks has failed")]
#![allow(clippy::disallowed_methods, reason = "its connections are tasks of the test, and end with it")]
#![allow(dead_code, reason = "each test program uses its part of it")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes on what comes to its address, as long as it is not cut.
pub struct Proxy {
    /// Where it is reached.
    pub address: String,
    network: watch::Sender<Network>,
}

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    /// They arrive. Connections end with the network that they were made in.
    Whole(u64),
    /// They vanish, and no connection ends: as if a cable were pulled.
    Cut,
}

impl Proxy {
    /// In front of this address.
    pub async fn start(target: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (network, state) = watch::channel(Network::Whole(0));
        tokio::task::spawn(accept(listener, target, state));
        Proxy { address, network }
    }

    /// From now on nothing arrives.
    pub fn cut(&self) {
        self.network.send_replace(Network::Cut);
    }

    /// New connections work again; the old ones are broken.
    pub fn heal(&self, times: u64) {
        self.network.send_replace(Network::Whole(times));
    }
}

async fn accept(listener: TcpListener, target: String, network: watch::Receiver<Network>) {
    while let Ok((near, _)) = listener.accept().await {
        tokio::task::spawn(connect(near, target.clone(), network.clone()));
    }
}

async fn connect(near: TcpStream, target: String, mut network: watch::Receiver<Network>) {
    // A connection that is made while the network is cut comes about when it is healed, if anybody still waits.
    let Ok(whole) = network.wait_for(|network| *network != Network::Cut).await.map(|network| *network) else {
        return;
    };
    let Ok(far) = TcpStream::connect(&target).await else { return };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let is_another = move |now: &Network| *now != whole && *now != Network::Cut;
    let both = async {
        tokio::select! {
            () = pass(near_in, far_out, network.clone()) => {}
            () = pass(far_in, near_out, network.clone()) => {}
        }
    };
    let mut healed = network.clone();
    tokio::select! {
        () = both => {}
        _ = healed.wait_for(is_another) => {}
    }
}

/// Until one end closes.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut network: watch::Receiver<Network>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // While it is cut even an end is not seen.
        if network.wait_for(|network| *network != Network::Cut).await.is_err() {
            return;
        }
        let read = tokio::select! {
            biased;
            _ = network.wait_for(|network| *network == Network::Cut) => continue,
            read = from.read(&mut buffer) => read,
        };
        match read {
            Ok(length @ 1..) if to.write_all(&buffer[..length]).await.is_ok() => {}
            _ => return,
        }
    }
}
