//! How two manifests of one worker differ, and what each difference asks for.

use std::collections::BTreeSet;

use crate::manifest::Manifest;

/// What a difference between two manifests asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// The next delivery is handled by it; nothing else notices.
    InPlace,
    /// The queues are consumed anew: what is in hand is finished first.
    Reconsume,
}

/// The parts that differ, by the names of their keys, and what they ask for all together; none where nothing differs. A
/// worker consumes its queues by one manifest, its `setup`, and handles deliveries by one that may be newer.
pub fn changes(setup: &Manifest, current: &Manifest, new: &Manifest) -> Option<(Change, BTreeSet<&'static str>)> {
    let mut keys = BTreeSet::new();
    let mut most = None;
    let mut differs = |key, differs: bool, change| {
        if differs {
            keys.insert(key);
            most = most.max(Some(change));
        }
    };
    // Whoever adds a field to the manifest decides here what its change asks for.
    let Manifest {
        name: _,
        path: _,
        plugin,
        digest,
        declare,
        exchanges,
        queues,
        other_queues,
        consume,
        limits,
        failure,
        breaker,
        publish,
        grant,
        reload,
        instance,
    } = new;
    differs("plugin", *plugin != current.plugin, Change::InPlace);
    differs("digest", *digest != current.digest, Change::InPlace);
    differs("limits", *limits != current.limits, Change::InPlace);
    differs("publish", *publish != current.publish, Change::InPlace);
    differs("grant", *grant != current.grant, Change::InPlace);
    differs("reload", *reload != current.reload, Change::InPlace);
    differs("instance", *instance != current.instance, Change::InPlace);
    let again = (failure.attempts, &failure.backoff) != (current.failure.attempts, &current.failure.backoff);
    differs("failure", again, Change::InPlace);
    differs("consume.concurrency", consume.concurrency != current.consume.concurrency, Change::InPlace);
    differs("failure.dead-letter", failure.dead_letter != setup.failure.dead_letter, Change::Reconsume);
    differs("declare", *declare != setup.declare, Change::Reconsume);
    differs("exchange", *exchanges != setup.exchanges, Change::Reconsume);
    differs("queue", (queues, other_queues) != (&setup.queues, &setup.other_queues), Change::Reconsume);
    differs("breaker", *breaker != setup.breaker, Change::Reconsume);
    differs("consume.prefetch", consume.prefetch != setup.consume.prefetch, Change::Reconsume);
    differs("consume.order", consume.order != setup.consume.order, Change::Reconsume);
    differs("consume.ack", consume.ack != setup.consume.ack, Change::Reconsume);
    differs("consume.dedupe", consume.dedupe != setup.consume.dedupe, Change::Reconsume);
    most.map(|most| (most, keys))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest::{Ceilings, parse};

    const BASE: &str = "plugin = \"a.wasm\"\n[[queue]]\nname = \"q\"\n";

    fn manifest(text: &str) -> Manifest {
        parse(Path::new("w.toml"), text, &Ceilings::of_memory(1 << 30))
            .unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    #[track_caller]
    fn check(before: &str, after: &str, expected: Option<(Change, &[&str])>) {
        let found = changes(&manifest(before), &manifest(before), &manifest(after));
        let found = found.map(|(change, keys)| (change, keys.into_iter().collect::<Vec<_>>()));
        assert_eq!(found, expected.map(|(change, keys)| (change, keys.to_vec())), "{after}");
    }

    #[test]
    fn what_a_change_asks_for() {
        use Change::{InPlace, Reconsume};
        let with = |more: &str| format!("{BASE}{more}");
        check(BASE, BASE, None);
        check(BASE, &with("# a comment\n"), None);
        // What says the default says nothing.
        check(BASE, &with("[limits]\ntime = \"5s\"\n[consume]\nprefetch = 200\n"), None);
        check(BASE, &BASE.replace("a.wasm", "b.wasm"), Some((InPlace, &["plugin"])));
        let digest = format!("digest = \"sha256:{}\"\n{BASE}", "0".repeat(64));
        check(BASE, &digest, Some((InPlace, &["digest"])));
        for (more, key) in [
            ("[limits]\ntime = \"6s\"\n", "limits"),
            ("[limits]\nlog = \"1KiB\"\n", "limits"),
            ("[failure]\nattempts = 3\n", "failure"),
            ("[failure]\nbackoff = { first = \"2s\" }\n", "failure"),
            ("[publish]\nunroutable = \"drop\"\n", "publish"),
            ("[grant]\npublish = [\"x/y\"]\n", "grant"),
            ("[grant]\nconfig = { a = \"b\" }\n", "grant"),
            ("[reload]\nprobation = 5\n", "reload"),
            ("[instance]\nreuse = true\n", "instance"),
            ("[consume]\nconcurrency = 3\n", "consume.concurrency"),
        ] {
            check(BASE, &with(more), Some((InPlace, &[key])));
            check(&with(more), BASE, Some((InPlace, &[key])));
        }
        for (more, key) in [
            ("[failure]\ndead-letter = \"other\"\n", "failure.dead-letter"),
            ("[breaker]\n", "breaker"),
            ("[consume]\nprefetch = 99\n", "consume.prefetch"),
            ("[consume]\norder = \"queue\"\n", "consume.order"),
            ("[consume]\nack = \"none\"\n", "consume.ack"),
            ("[consume]\ndedupe = { by = \"message-id\" }\n", "consume.dedupe"),
            ("[[queue]]\nname = \"r\"\n", "queue"),
            ("[[queue]]\nname = \"r\"\nconsume = false\n", "queue"),
            ("durable = false\n", "queue"),
            ("[[exchange]]\nname = \"x\"\ntype = \"direct\"\n", "exchange"),
        ] {
            check(BASE, &with(more), Some((Reconsume, &[key])));
            check(&with(more), BASE, Some((Reconsume, &[key])));
        }
        check(BASE, &format!("declare = \"verify\"\n{BASE}"), Some((Reconsume, &["declare"])));
        let both = with("[consume]\nprefetch = 99\n[limits]\ntime = \"6s\"\n");
        check(BASE, &both, Some((Reconsume, &["consume.prefetch", "limits"])));
    }

    #[test]
    fn what_is_consumed_and_what_is_handled_may_be_of_different_age() {
        let consumed = format!("{BASE}[consume]\nprefetch = 99\n");
        let handled = format!("{BASE}[limits]\ntime = \"6s\"\n");
        let check = |new: &str, expected: Option<(Change, &str)>| {
            let found = changes(&manifest(&consumed), &manifest(&handled), &manifest(new));
            assert_eq!(found, expected.map(|(change, key)| (change, BTreeSet::from([key]))), "{new}");
        };
        check(&format!("{consumed}[limits]\ntime = \"6s\"\n"), None);
        check(&consumed, Some((Change::InPlace, "limits")));
        check(&handled, Some((Change::Reconsume, "consume.prefetch")));
    }
}
