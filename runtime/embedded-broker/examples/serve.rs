//! Serves a broker on an address until it is interrupted: `cargo run --example serve -- 127.0.0.1:5672`.

use std::time::Duration;

use wabbit_embedded_broker::{Limits, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5672".to_owned());
    let server = Server::bind(&*address, Limits::default()).await?;
    println!("{}", server.local_addr());
    loop {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
}
