//! Several servers on one TiKV cluster.

#![allow(clippy::unwrap_used, reason = "a test whose equipment breaks has failed")]
#![allow(dead_code, reason = "each test program uses its part of it")]

use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::{StatusRequest, StatusResponse};
use tonic::transport::Channel;

use crate::clients::{connect, free_address, http, pause};
use crate::cluster::Cluster;
use crate::program::Program;

/// A server of a store.
pub struct Member {
    pub program: Program,
    /// Where clients reach it.
    pub address: String,
    /// Where the others reach it.
    pub peer: String,
    pub name: String,
    arguments: Vec<String>,
}

impl Member {
    /// Starts a server of this name, and waits until it serves.
    pub fn start(cluster: &Cluster, name: &str) -> Member {
        Member::start_with(cluster, name, &[])
    }

    /// As [`Member::start`], with further arguments. With certificates it listens for the others by TLS.
    pub fn start_with(cluster: &Cluster, name: &str, more: &[&str]) -> Member {
        let scheme = match more.iter().any(|argument| argument.starts_with("--peer-cert-file")) {
            true => "https",
            false => "http",
        };
        Member::start_at(cluster, (name, scheme), free_address(), more)
    }

    /// As [`Member::start_with`], listening for the others at this address, by this scheme.
    pub fn start_at(cluster: &Cluster, (name, scheme): (&str, &str), peer: String, more: &[&str]) -> Member {
        let address = free_address();
        let mut arguments = vec![
            "--engine=tikv".to_owned(),
            cluster.endpoints(),
            cluster.prefix(),
            format!("--name={name}"),
            format!("--listen-client-urls=http://{address}"),
            format!("--listen-peer-urls={scheme}://{peer}"),
        ];
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let mut program = run(&arguments);
        program.greeting();
        Member { program, address, peer, name: name.to_owned(), arguments }
    }

    /// Starts it again, under the same addresses.
    pub fn start_again(&mut self) {
        self.program = run(&self.arguments);
        self.program.greeting();
    }

    /// Waits until it has ended as it should, and starts it again.
    pub fn start_again_after_end(&mut self) {
        let (code, log) = self.program.wait();
        assert_eq!(code, Some(0), "{log}");
        self.start_again();
    }

    /// A connection for a client, to one that may be coming back.
    pub async fn connect_again(&self) -> Channel {
        let url = format!("http://{}", self.address);
        loop {
            if let Ok(channel) = Channel::from_shared(url.clone()).unwrap().connect().await {
                return channel;
            }
            pause().await;
        }
    }

    /// A connection for a client.
    pub async fn connect(&self) -> Channel {
        connect(&self.address).await
    }

    /// Waits until it says that it is ready: it leads, or follows one that does.
    pub async fn ready(&self) {
        while http(&self.address, "/readyz").0 != 200 {
            pause().await;
        }
    }

    /// What it says of itself.
    pub async fn status(&self) -> StatusResponse {
        let channel = self.connect().await;
        MaintenanceClient::new(channel).status(StatusRequest {}).await.unwrap().into_inner()
    }

    /// Whether it says that it leads.
    pub async fn leads(&self) -> bool {
        let status = self.status().await;
        status.leader == status.header.unwrap().member_id
    }
}

fn run(arguments: &[String]) -> Program {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    Program::start(&arguments)
}

/// Servers with these names, all ready; the first one leads.
pub async fn members<const N: usize>(cluster: &Cluster, names: [&str; N]) -> [Member; N] {
    let mut started = Vec::new();
    for name in names {
        let member = Member::start(cluster, name);
        member.ready().await;
        started.push(member);
    }
    assert!(started[0].leads().await, "the first one leads");
    started.try_into().unwrap_or_else(|_| unreachable!("as many as there are names"))
}
