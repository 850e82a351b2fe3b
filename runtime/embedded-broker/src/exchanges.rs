//! The methods of exchanges, bindings, and the end of exchanges.

use amq_protocol::protocol::exchange;
use amq_protocol::types::{AMQPValue, FieldTable};

use crate::Name;
use crate::arguments::{same, same_flag, shown, type_name};
use crate::broker::{At, Broker};
use crate::exchange::{Destination, Exchange, Kind, MATCHES};
use crate::failure::{Code, Failure};
use crate::queues::{known, not_default};

/// Where messages go that follow none of an exchange's bindings.
const ALTERNATE: &str = "alternate-exchange";

impl Broker {
    pub(crate) fn exchange_method(&mut self, at: At, method: exchange::AMQPMethod) -> Result<(), Failure> {
        use exchange::AMQPMethod as M;
        match method {
            M::Declare(declare) => {
                self.declare_exchange(at, &declare)?;
                if !declare.nowait {
                    self.send(at, M::DeclareOk(exchange::DeclareOk {}));
                }
            }
            M::Delete(delete) => {
                self.delete_named(at, &delete)?;
                if !delete.nowait {
                    self.send(at, M::DeleteOk(exchange::DeleteOk {}));
                }
            }
            M::Bind(bind) => {
                let (destination, source) = (bind.destination.as_str(), bind.source.as_str());
                let destination = self.exchange_destination(at, destination, source)?;
                let key = Name::from(bind.routing_key.as_str());
                self.bind(at, source, destination, &key, &bind.arguments)?;
                if !bind.nowait {
                    self.send(at, M::BindOk(exchange::BindOk {}));
                }
            }
            M::Unbind(unbind) => {
                let (destination, source) = (unbind.destination.as_str(), unbind.source.as_str());
                if let Some(destination) = known(self.exchange_destination(at, destination, source))? {
                    self.unbind(at, source, &destination, unbind.routing_key.as_str(), &unbind.arguments)?;
                }
                if !unbind.nowait {
                    self.send(at, M::UnbindOk(exchange::UnbindOk {}));
                }
            }
            M::DeclareOk(_) | M::DeleteOk(_) | M::BindOk(_) | M::UnbindOk(_) => {
                return Err(Failure::new(Code::CommandInvalid, "unimplemented method"));
            }
        }
        Ok(())
    }

    fn declare_exchange(&mut self, at: At, declare: &exchange::Declare) -> Result<(), Failure> {
        let name = declare.exchange.as_str();
        let vhost = self.vhost_name(at);
        not_default(name)?;
        let most = self.settings.limits.exchanges_max;
        let Some(known) = self.vhosts.get_mut(&vhost) else { return Ok(()) };
        let whose = format!("exchange '{name}' in vhost '{vhost}'");
        if declare.passive {
            let exists = known.exchanges.contains_key(name);
            return if exists { Ok(()) } else { Err(Failure::missing("exchange", name, &vhost)) };
        }
        let kind = declare.kind.as_str();
        let kind = Kind::parse(kind)
            .ok_or_else(|| Failure::new(Code::CommandInvalid, format!("unknown exchange type '{kind}'")))?;
        if let Some(current) = known.exchanges.get(name) {
            same_flag(&whose, "type", current.kind.name(), kind.name())?;
            same_flag(&whose, "durable", current.durable, declare.durable)?;
            same_flag(&whose, "auto_delete", current.auto_delete, declare.auto_delete)?;
            same_flag(&whose, "internal", current.internal, declare.internal)?;
            return same(&whose, &[ALTERNATE], &current.arguments, &declare.arguments);
        }
        if name.starts_with("amq.") {
            let text = format!("exchange name '{name}' contains reserved prefix 'amq.*'");
            return Err(Failure::new(Code::AccessRefused, text));
        }
        let alternate = match declare.arguments.inner().get(ALTERNATE) {
            None => None,
            Some(AMQPValue::LongString(name)) => Some(Name::from(name.to_string())),
            Some(other) => {
                let text = format!("invalid type '{}' for arg '{ALTERNATE}' in {whose}", type_name(other));
                return Err(Failure::precondition(text));
            }
        };
        if known.exchanges.len() >= most {
            let text =
                format!("cannot declare exchange '{name}': exchange limit in vhost '{vhost}' ({most}) is reached");
            return Err(Failure::precondition(text));
        }
        let name = Name::from(name);
        let mut exchange = Exchange::new(name.clone(), kind);
        exchange.durable = declare.durable;
        exchange.auto_delete = declare.auto_delete;
        exchange.internal = declare.internal;
        exchange.arguments = declare.arguments.clone();
        exchange.alternate = alternate;
        known.exchanges.insert(name, exchange);
        Ok(())
    }

    fn delete_named(&mut self, at: At, delete: &exchange::Delete) -> Result<(), Failure> {
        let name = delete.exchange.as_str();
        not_default(name)?;
        let vhost = self.vhost_name(at);
        if name.starts_with("amq.") {
            let text = format!("deletion of system exchange '{name}' in vhost '{vhost}' not allowed");
            return Err(Failure::new(Code::AccessRefused, text));
        }
        let known = self.vhosts.get(&vhost).and_then(|vhost| vhost.exchanges.get(name));
        let Some(exchange) = known else { return Ok(()) };
        if delete.if_unused && exchange.bindings() > 0 {
            return Err(Failure::precondition(format!("exchange '{name}' in vhost '{vhost}' in use")));
        }
        self.delete_exchange(&vhost, name);
        Ok(())
    }

    /// Removes an exchange with all bindings from and to it.
    fn delete_exchange(&mut self, vhost: &str, name: &str) {
        let Some(known) = self.vhosts.get_mut(vhost) else { return };
        let Some(exchange) = known.exchanges.remove(name) else { return };
        known.bindings -= exchange.bindings();
        let destination = Destination::Exchange(exchange.name);
        let sources = known.exchanges.values().filter(|source| source.leads_to(&destination));
        let sources: Vec<Name> = sources.map(|source| source.name.clone()).collect();
        for source in sources {
            self.forget_destination(vhost, &source, &destination);
        }
    }

    /// Removes the bindings of an exchange to what is gone, and the exchange itself where it is there for them only.
    pub(crate) fn forget_destination(&mut self, vhost: &str, exchange: &str, destination: &Destination) {
        let Some(known) = self.vhosts.get_mut(vhost) else { return };
        let Some(source) = known.exchanges.get_mut(exchange) else { return };
        let gone = source.forget(destination);
        known.bindings -= gone;
        if gone > 0 && source.auto_delete && source.bindings() == 0 {
            self.delete_exchange(vhost, exchange);
        }
    }

    fn exchange_destination(&self, at: At, destination: &str, source: &str) -> Result<Destination, Failure> {
        not_default(destination)?;
        not_default(source)?;
        let vhost = self.vhost_name(at);
        for name in [source, destination] {
            if !self.vhosts.get(&vhost).is_some_and(|vhost| vhost.exchanges.contains_key(name)) {
                return Err(Failure::missing("exchange", name, &vhost));
            }
        }
        Ok(Destination::Exchange(Name::from(destination)))
    }

    pub(crate) fn bind(
        &mut self,
        at: At,
        exchange: &str,
        destination: Destination,
        key: &Name,
        arguments: &FieldTable,
    ) -> Result<(), Failure> {
        let vhost = self.vhost_name(at);
        let most = self.settings.limits.bindings_max;
        let Some(known) = self.vhosts.get_mut(&vhost) else { return Ok(()) };
        let Some(source) = known.exchanges.get_mut(exchange) else {
            return Err(Failure::missing("exchange", exchange, &vhost));
        };
        if source.kind == Kind::Headers {
            check_match(arguments)?;
        }
        if known.bindings >= most {
            let text =
                format!("cannot bind to exchange '{exchange}': binding limit in vhost '{vhost}' ({most}) is reached");
            return Err(Failure::precondition(text));
        }
        let queue = if let Destination::Queue(queue) = &destination { Some(*queue) } else { None };
        if source.bind(destination, key, arguments) {
            known.bindings += 1;
            let name = source.name.clone();
            if let Some(queue) = queue.and_then(|queue| self.queues.get_mut(&queue)) {
                queue.bound_to.insert(name);
            }
        }
        Ok(())
    }

    pub(crate) fn unbind(
        &mut self,
        at: At,
        exchange: &str,
        destination: &Destination,
        key: &str,
        arguments: &FieldTable,
    ) -> Result<(), Failure> {
        let vhost = self.vhost_name(at);
        let Some(known) = self.vhosts.get_mut(&vhost) else { return Ok(()) };
        let Some(source) = known.exchanges.get_mut(exchange) else {
            return Err(Failure::missing("exchange", exchange, &vhost));
        };
        if !source.unbind(destination, key, arguments) {
            return Ok(());
        }
        known.bindings -= 1;
        if let Destination::Queue(queue) = destination
            && !source.leads_to(destination)
            && let Some(queue) = self.queues.get_mut(queue)
        {
            queue.bound_to.remove(exchange);
        }
        if source.auto_delete && source.bindings() == 0 {
            self.delete_exchange(&vhost, exchange);
        }
        Ok(())
    }
}

/// What the argument `x-match` of a binding may be.
fn check_match(arguments: &FieldTable) -> Result<(), Failure> {
    match arguments.inner().get("x-match") {
        None => Ok(()),
        Some(AMQPValue::LongString(how)) if MATCHES.iter().any(|known| known.as_bytes() == how.as_bytes()) => Ok(()),
        Some(AMQPValue::LongString(how)) => Err(Failure::precondition(format!(
            "Invalid x-match field value <<\"{how}\">>; expected all, any, all-with-x, or any-with-x"
        ))),
        Some(other) => Err(Failure::precondition(format!(
            "Invalid x-match field type {} (value {}); expected longstr",
            type_name(other),
            shown(other)
        ))),
    }
}
