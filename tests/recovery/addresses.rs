//! Several addresses of one broker: whichever is there is used.

use std::time::{Duration, Instant};

use super::{PROMPT, consumes, probe, stays_ready};
use crate::harness::amqp::Peer;
use crate::harness::broker::Broker;
use crate::harness::forwarder::Forwarder;
use crate::harness::host::{self, Host};
use crate::harness::{DEADLINE, wait_until};

const WORK: &str = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"work\"\n";

/// The first address refuses. The second is tried at once, by the host and by the commands, and the log says why.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_refuses_is_passed_over() {
    let broker = Broker::ours().await;
    let vhost = broker.vhost("refusing").await;
    let nobody = Forwarder::closed(broker.port());
    let both = format!("{},{}", nobody.url(&vhost.url), vhost.url);
    let mut host = Host::ready(probe(&both, WORK)).await;
    let line = host.wait_for_log("no broker").await;
    let (first, second) = (nobody.port(), broker.port());
    for part in [format!("cannot connect to amqp://guest:***@127.0.0.1:{first}/"), "refused".into()] {
        assert!(line.contains(&part), "{line}");
    }
    assert!(line.contains(&format!("trying amqp://guest:***@127.0.0.1:{second}/")), "{line}");
    assert!(!host.logs().iter().any(|line| line.contains("next try in")), "there was a pause: {:?}", host.logs());

    let send = ["publish", "--routing-key=work", "--body=x", "--amqp-url", &both];
    assert_eq!(host::run(host.folder(), &send).await.success(), "1 confirmed\n");
    let listed = host::run(host.folder(), &["dead", "list", "--amqp-url", &both]).await.success();
    assert!(listed.contains("work.dead"), "{listed}");
    host.terminate().await;

    let other = Forwarder::closed(broker.port());
    let neither = format!("{},{}", nobody.url(&vhost.url), other.url(&vhost.url));
    let failed = host::run(host.folder(), &["dead", "list", "--amqp-url", &neither]).await;
    assert_eq!(failed.code, 1);
    for port in [nobody.port(), other.port()] {
        assert!(failed.stderr.contains(&format!("cannot connect to amqp://guest:***@127.0.0.1:{port}/")), "{failed:?}");
    }
}

/// The node that the host is connected to goes away: it goes on with the other one, and back when that one goes.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_address_is_used_when_one_goes_away() {
    let broker = Broker::ours().await;
    let vhost = broker.vhost("two-addresses").await;
    let (mut one, mut two) = (Forwarder::to(broker.port()).await, Forwarder::to(broker.port()).await);
    let mut host = Host::ready(probe(&format!("{},{}", one.url(&vhost.url), two.url(&vhost.url)), WORK)).await;
    let peer = Peer::connect(&vhost.url).await;
    consumes(&peer, "work").await;

    for round in 0..3 {
        // From the first to the second, and back.
        let (gone, there) = if round % 2 == 0 { (&mut one, &two) } else { (&mut two, &one) };
        let (gone_port, there_port) = (gone.port(), there.port());
        host.clear_logs();
        let since = Instant::now();
        gone.close().await;
        let line = host.wait_for_log("no broker: lost").await;
        assert!(line.contains(&format!("127.0.0.1:{gone_port}/")), "{line}");
        // Only a session that lasted lets all begin anew: one that is lost soon is followed after a short pause.
        let at_once = line.contains(&format!("trying amqp://guest:***@127.0.0.1:{there_port}/"));
        assert!(at_once || round > 0 && line.contains("next try in"), "{line}");
        host.wait_for_log("connected url").await;
        host.wait_until_ready().await;
        let took = since.elapsed();
        println!("consumed from the other address after {took:?}");
        assert!(took < Duration::from_secs(3), "it took {took:?}");
        consumes(&peer, "work").await;
        gone.open().await;
        stays_ready(&host).await;
    }

    // Neither is there: both are named, and whichever comes back is used.
    one.close().await;
    two.close().await;
    let ports = [one.port(), two.port()];
    wait_until(DEADLINE, "both addresses among the reasons", async || {
        let (status, reasons) = host.get_status("/readyz").await;
        let refused = |port: &u16| reasons.contains(&format!("cannot connect to amqp://guest:***@127.0.0.1:{port}/"));
        if status == 503 && ports.iter().all(refused) { Ok(()) } else { Err(format!("{status}: {reasons}")) }
    })
    .await;
    let since = Instant::now();
    two.open().await;
    host.wait_until_ready().await;
    assert!(since.elapsed() < PROMPT, "it took {:?}", since.elapsed());
    consumes(&peer, "work").await;
}
