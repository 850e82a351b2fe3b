//! `wabbit broker`: the embedded broker alone.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use wabbit_embedded_broker::{Limits, Server};

use super::{Failed, executor};

/// Where everybody looks for a broker.
pub(super) const DEFAULT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5672));

#[derive(Args)]
pub(super) struct Broker {
    /// Where it listens; port 0 is a free one
    #[arg(long, value_name = "ADDRESS", default_value_t = DEFAULT)]
    listen: SocketAddr,
}

impl Broker {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let executor = executor()?;
        let result = executor.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let server = listen(self.listen).await?;
            println!("amqp://guest:guest@{}/%2f", server.local_addr());
            eprintln!("an embedded broker for development: what it holds is gone when it ends");
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            server.stop().await;
            anyhow::Ok(())
        });
        executor.shutdown_background();
        Ok(result?)
    }
}

/// An embedded broker at this address.
pub(super) async fn listen(address: SocketAddr) -> anyhow::Result<Server> {
    Server::bind(address, Limits::default())
        .await
        .with_context(|| format!("cannot listen on {address}; hint: choose another address with --listen"))
}
