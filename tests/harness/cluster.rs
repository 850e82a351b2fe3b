//! Three nodes that are one broker. They take half a minute to start, so this is for what a single node cannot show.

use std::io::Read;
use std::time::Duration;
use std::{fs, net};

use super::broker::{Broker, Membership};
use super::process::{self, Lines, Process};
use super::{places, wait_until};

/// How long three nodes may take to find each other; half a minute is usual.
const DEADLINE: Duration = Duration::from_secs(180);

/// Fields drop in this order: the nodes end before what they find each other through.
pub struct Cluster {
    nodes: Vec<Broker>,
    _epmd: Process,
}

impl Cluster {
    /// Starts three nodes, and waits until they are one cluster.
    pub async fn start() -> Cluster {
        let ports: Vec<u16> = (0..4).map(|_| places::ports()).collect();
        let (epmd_port, ports) = ports.split_first().unwrap();
        let mut command = process::bound("epmd");
        command.args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"]);
        let epmd = Process::start("epmd", command, &Lines::default());
        wait_until(DEADLINE, "epmd to listen", async || {
            net::TcpStream::connect(("127.0.0.1", *epmd_port)).map(drop).map_err(|error| error.to_string())
        })
        .await;

        let mut configuration = "cluster_formation.peer_discovery_backend = classic_config\n".to_owned();
        for (number, port) in (1..).zip(ports) {
            configuration += &format!("cluster_formation.classic_config.nodes.{number} = {}\n", name(*port));
        }
        let membership = Membership { epmd_port: *epmd_port, cookie: cookie() };
        let starting = ports.iter().map(|port| Broker::member(*port, &membership, &configuration));
        let nodes = futures_util::future::join_all(starting).await;
        let cluster = Cluster { nodes, _epmd: epmd };
        cluster.nodes[0].ctl(&["await_online_nodes", "3", "--timeout", "120"]).await;
        cluster
    }

    /// One of the nodes, counted from 0.
    pub fn node(&self, index: usize) -> &Broker {
        &self.nodes[index]
    }

    /// The same, to kill it or to start it again.
    pub fn node_mut(&mut self, index: usize) -> &mut Broker {
        &mut self.nodes[index]
    }

    /// A vhost's URL at one of the nodes.
    pub fn url(&self, index: usize, vhost: &str) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/{vhost}", self.nodes[index].port())
    }

    /// Which node leads a quorum queue, as node `from` sees it.
    pub async fn leader(&self, from: usize, vhost: &str, queue: &str) -> usize {
        // Not `list_queues`: every node would have to reach the control script, which listens for nobody.
        let ask = format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"{queue}\">>)), \
             {{_, Leader}} = amqqueue:get_pid(Q), Leader."
        );
        let answer = self.nodes[from].ctl(&["eval", &ask]).await;
        let index = self.nodes.iter().position(|node| answer.trim().trim_matches('\'') == name(node.port()));
        index.unwrap_or_else(|| panic!("`{queue}` is led by {answer}"))
    }

    /// What node `from` knows of a queue's messages and consumers, for a message about a failure.
    pub async fn state(&self, from: usize, vhost: &str, queue: &str) -> String {
        let ask = format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"{queue}\">>)), \
             rabbit_amqqueue:info(Q, [name, messages_ready, messages_unacknowledged, consumers, leader, online])."
        );
        self.nodes[from].ctl(&["eval", &ask]).await
    }
}

fn name(port: u16) -> String {
    format!("wabbit{port}@localhost")
}

/// What the nodes of a cluster know each other by: 40 digits that nobody else knows.
fn cookie() -> String {
    let mut bytes = [0; 20];
    fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes)).unwrap();
    bytes.map(|byte| format!("{byte:02x}")).concat()
}
