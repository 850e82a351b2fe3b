//! Connections from the first method to the last, and when they are blocked.

use amq_protocol::protocol::{AMQPClass, connection};
use amq_protocol::types::parsing::parse_field_table;
use amq_protocol::types::{AMQPValue, FieldTable, LongString};

use crate::Name;
use crate::broker::{At, Broker, ConnectionId};
use crate::connection::{Capabilities, Phase};
use crate::failure::{Code, Failure, short};

/// What RabbitMQ's clients look for, and this broker does.
const CAPABILITIES: [&str; 9] = [
    "authentication_failure_close",
    "basic.nack",
    "connection.blocked",
    "consumer_cancel_notify",
    "consumer_priorities",
    "direct_reply_to",
    "exchange_exchange_bindings",
    "per_consumer_qos",
    "publisher_confirms",
];

/// Why a publisher is blocked.
const LOW_ON_MEMORY: &str = "low on memory";

/// The smallest `frame_max` that a client may ask for, in bytes.
const FRAME_BYTES_MIN: u32 = 4096;

/// Who may come from the machine itself only.
const LOCAL_USER: &str = "guest";

impl Broker {
    /// Answers the protocol header.
    pub(crate) fn start(&mut self, connection: ConnectionId) {
        let text = |text: &str| AMQPValue::LongString(text.into());
        let mut capabilities = FieldTable::default();
        for capability in CAPABILITIES {
            capabilities.insert(capability.into(), AMQPValue::Boolean(true));
        }
        let mut properties = FieldTable::default();
        properties
            .insert("capabilities".into(), AMQPValue::FieldTable(capabilities))
            .insert("cluster_name".into(), text("embedded"))
            .insert("copyright".into(), text("The authors of wabbit"))
            .insert("information".into(), text("For tests and demos. Everything is in memory."))
            .insert("platform".into(), text("Rust"))
            .insert("product".into(), text("wabbit embedded broker"))
            .insert("version".into(), text(env!("CARGO_PKG_VERSION")));
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: properties,
            mechanisms: LongString::from("PLAIN AMQPLAIN"),
            locales: LongString::from("en_US"),
        };
        self.send(At { connection, channel: 0 }, connection::AMQPMethod::Start(start));
        self.set_phase(connection, Phase::Start);
    }

    /// Handles what comes on channel 0.
    pub(crate) fn connection_method(&mut self, id: ConnectionId, method: AMQPClass) -> Result<(), Failure> {
        use connection::AMQPMethod as M;
        let at = At { connection: id, channel: 0 };
        let phase = self.connections.get(&id).map(|known| known.phase);
        let AMQPClass::Connection(method) = method else {
            return Err(Failure::new(Code::CommandInvalid, "unimplemented method"));
        };
        match (phase, method) {
            (Some(Phase::Start), M::StartOk(start)) => self.log_in(id, &start),
            (Some(Phase::Tune), M::TuneOk(tune)) => {
                self.tune(id, &tune);
                Ok(())
            }
            (Some(Phase::Open), M::Open(open)) => self.open(id, open.virtual_host.as_str()),
            (Some(Phase::Running), M::UpdateSecret(_)) => {
                self.send(at, M::UpdateSecretOk(connection::UpdateSecretOk {}));
                Ok(())
            }
            (_, M::Close(_)) => {
                self.confirm_all(id);
                self.end_channels(id);
                self.send(at, M::CloseOk(connection::CloseOk {}));
                self.end(id);
                Ok(())
            }
            (Some(Phase::Running), _) => Err(Failure::new(Code::CommandInvalid, "unimplemented method")),
            _ => {
                // As RabbitMQ does with who is not known yet.
                self.end(id);
                Ok(())
            }
        }
    }

    fn log_in(&mut self, id: ConnectionId, start: &connection::StartOk) -> Result<(), Failure> {
        let capabilities = capabilities(&start.client_properties);
        let Some(known) = self.connections.get_mut(&id) else { return Ok(()) };
        known.capabilities = capabilities;
        let mechanism = start.mechanism.as_str();
        let login = match mechanism {
            "PLAIN" => plain(start.response.as_bytes()),
            "AMQPLAIN" => amqplain(start.response.as_bytes()),
            _ => None,
        };
        let allowed = login.filter(|(user, password)| {
            let known_user = self.settings.users.iter().any(|(name, secret)| name == user && secret == password);
            known_user && (known.loopback || user != LOCAL_USER)
        });
        let at = At { connection: id, channel: 0 };
        let Some((user, _)) = allowed else {
            let text = format!(
                "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
            );
            if capabilities.authentication_failure_close {
                self.fail(at, (0, 0), &Failure::new(Code::AccessRefused, text));
            } else {
                self.end(id);
            }
            return Ok(());
        };
        known.user = Name::from(user);
        let limits = &self.settings.limits;
        let tune = connection::Tune {
            channel_max: limits.channels_max,
            frame_max: limits.frame_bytes_max,
            heartbeat: u16::try_from(limits.heartbeat.as_secs()).unwrap_or(u16::MAX),
        };
        self.send(at, connection::AMQPMethod::Tune(tune));
        self.set_phase(id, Phase::Tune);
        Ok(())
    }

    fn tune(&mut self, id: ConnectionId, tune: &connection::TuneOk) {
        let limits = &self.settings.limits;
        let fits = negotiated(tune.frame_max, FRAME_BYTES_MIN, limits.frame_bytes_max)
            && negotiated(u32::from(tune.channel_max), 1, u32::from(limits.channels_max));
        if !fits {
            // RabbitMQ tells its log why, and the client nothing.
            self.end(id);
            return;
        }
        let Some(known) = self.connections.get_mut(&id) else { return };
        known.frame_max = tune.frame_max;
        known.channels_max = tune.channel_max;
        known.heartbeat = tune.heartbeat;
        known.phase = Phase::Open;
    }

    fn open(&mut self, id: ConnectionId, vhost: &str) -> Result<(), Failure> {
        if !self.vhosts.contains_key(vhost) {
            return Err(Failure::new(Code::NotAllowed, format!("vhost {vhost} not found")));
        }
        let Some(known) = self.connections.get_mut(&id) else { return Ok(()) };
        known.vhost = Name::from(vhost);
        known.phase = Phase::Running;
        self.send(At { connection: id, channel: 0 }, connection::AMQPMethod::OpenOk(connection::OpenOk {}));
        Ok(())
    }

    /// Has a publisher wait, where it is one.
    pub(crate) fn block(&mut self, id: ConnectionId) {
        let Some(known) = self.connections.get_mut(&id) else { return };
        if !known.publishes || known.blocked || known.phase != Phase::Running {
            return;
        }
        known.blocked = true;
        if known.capabilities.connection_blocked {
            let blocked = connection::Blocked { reason: short(LOW_ON_MEMORY) };
            self.send(At { connection: id, channel: 0 }, connection::AMQPMethod::Blocked(blocked));
        }
    }

    /// Lets a publisher go on.
    pub(crate) fn unblock(&mut self, id: ConnectionId) {
        let Some(known) = self.connections.get_mut(&id) else { return };
        if !std::mem::take(&mut known.blocked) {
            return;
        }
        if known.capabilities.connection_blocked {
            let unblocked = connection::AMQPMethod::Unblocked(connection::Unblocked {});
            self.send(At { connection: id, channel: 0 }, unblocked);
        } else {
            // The server looks whether it may read when it has looked for something to write.
            self.wake(id);
        }
    }
}

/// Whether a value that a client answered with is one that it may have. 0 stands for no bound.
fn negotiated(value: u32, least: u32, most: u32) -> bool {
    let too_large = most != 0 && (value == 0 || value > most);
    !too_large && (value == 0 || value >= least)
}

fn capabilities(properties: &FieldTable) -> Capabilities {
    let Some(AMQPValue::FieldTable(table)) = properties.inner().get("capabilities") else {
        return Capabilities::default();
    };
    let has = |name: &str| matches!(table.inner().get(name), Some(AMQPValue::Boolean(true)));
    Capabilities {
        consumer_cancel_notify: has("consumer_cancel_notify"),
        connection_blocked: has("connection.blocked"),
        authentication_failure_close: has("authentication_failure_close"),
    }
}

/// User and password, each behind a zero byte.
fn plain(response: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(response.strip_prefix(&[0])?).ok()?;
    let (user, password) = text.split_once('\0')?;
    Some((user.to_owned(), password.to_owned()))
}

/// The entries of a table, without its length.
fn amqplain(response: &[u8]) -> Option<(String, String)> {
    let mut table = u32::try_from(response.len()).ok()?.to_be_bytes().to_vec();
    table.extend_from_slice(response);
    let (_, table) = parse_field_table(&*table).ok()?;
    let text = |name: &str| match table.inner().get(name) {
        Some(AMQPValue::LongString(text)) => Some(text.to_string()),
        _ => None,
    };
    Some((text("LOGIN")?, text("PASSWORD")?))
}
