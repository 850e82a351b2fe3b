//! Settings that change while the host runs.

use super::Settings;

/// What became of settings that were read again.
#[derive(Debug, PartialEq)]
pub struct Live {
    /// As the host goes on with them.
    pub settings: Settings,
    /// The keys that changed and hold from now on.
    pub applied: Vec<&'static str>,
    /// The keys that changed and hold when the host is started again.
    pub held: Vec<&'static str>,
}

impl Settings {
    /// What of these new settings a host takes that runs with the present ones.
    pub fn live(&self, new: &Self) -> Live {
        let mut live = Live { settings: self.clone(), applied: Vec::new(), held: Vec::new() };
        // Whoever adds a setting decides here whether it can change.
        let Self {
            file: _,
            amqp,
            plugins,
            require_digest,
            manifests,
            cache,
            state,
            admin,
            admin_token,
            log_format,
            grace,
            // It is about the start alone.
            strict: _,
            host,
            keyvalue,
            http,
            compile,
            reload,
        } = new;
        let now = &mut live.settings;
        let mut apply = |key, changed: bool| {
            if changed {
                live.applied.push(key);
            }
        };
        apply("grace", replace(&mut now.grace, grace));
        apply("plugins.require-digest", replace(&mut now.require_digest, require_digest));
        apply("amqp.publish-timeout", replace(&mut now.amqp.publish_timeout, &amqp.publish_timeout));
        apply("compile.time", replace(&mut now.compile.time, &compile.time));
        apply("compile.file", replace(&mut now.compile.file, &compile.file));
        let mut limits = host.clone();
        (limits.running, limits.max_memory) = (now.host.running, now.host.max_memory);
        apply("limits", replace(&mut now.host, &limits));
        let mut hold = |key, changed: bool| {
            if changed {
                live.held.push(key);
            }
        };
        hold("amqp", now.amqp != *amqp);
        hold("plugins", now.plugins != *plugins);
        hold("manifests", now.manifests != *manifests);
        hold("cache", now.cache != *cache);
        hold("state", now.state != *state);
        hold("admin", now.admin != *admin);
        hold("admin-token", now.admin_token != *admin_token);
        hold("log-format", now.log_format != *log_format);
        hold("limits.running", now.host.running != host.running);
        hold("limits.memory", now.host.max_memory != host.max_memory);
        hold("keyvalue", now.keyvalue != *keyvalue);
        hold("http", now.http != *http);
        hold("compile", now.compile != *compile);
        hold("reload", now.reload != *reload);
        live
    }
}

fn replace<T: Clone + PartialEq>(now: &mut T, new: &T) -> bool {
    let changed = now != new;
    if changed {
        now.clone_from(new);
    }
    changed
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::app::settings::{Defaults, Overrides};

    fn settings(text: &str) -> Settings {
        let defaults = Defaults { cache: Some("/cache".into()), ..Defaults::default() };
        Settings::resolve(Some((Path::new("wabbit.toml"), text)), &Overrides::default(), defaults).unwrap()
    }

    #[track_caller]
    fn check(text: &str, applied: &[&str], held: &[&str]) {
        let (old, new) = (settings(""), settings(text));
        let live = old.live(&new);
        assert_eq!((live.applied.as_slice(), live.held.as_slice()), (applied, held), "{text}");
        if held.is_empty() {
            assert_eq!(live.settings, new);
        }
        // What holds is not told again, what waits for a start is.
        let again = live.settings.live(&new);
        assert_eq!((again.applied.as_slice(), again.held.as_slice()), (&[][..], held), "{text}");
    }

    #[test]
    fn some_hold_at_once_and_some_from_the_next_start_on() {
        check("", &[], &[]);
        check("grace = \"3s\"", &["grace"], &[]);
        check("[limits]\npublications = 3\nbody = \"1KiB\"", &["limits"], &[]);
        check("[limits]\npublications = 3\nrunning = 3", &["limits"], &["limits.running"]);
        check("[limits]\nmemory = \"1MiB\"", &[], &["limits.memory"]);
        check("[plugins]\nrequire-digest = true", &["plugins.require-digest"], &[]);
        check("plugins = \"other\"", &[], &["plugins"]);
        check("[amqp]\npublish-timeout = \"3s\"", &["amqp.publish-timeout"], &[]);
        check("[amqp]\nurl = \"amqp://other\"\npublish-timeout = \"3s\"", &["amqp.publish-timeout"], &["amqp"]);
        check("[compile]\ntime = \"3s\"\nfile = \"1MiB\"", &["compile.time", "compile.file"], &[]);
        check("[compile]\nmemory = \"1GiB\"", &[], &["compile"]);
        let held = "manifests = \"m\"\ncache = \"c\"\nstate = \"s\"\nadmin = \"off\"\nadmin-token = \"env:T\"\n\
                    log-format = \"json\"\n[keyvalue]\nvalue = 1\n[http]\nrunning = 1\n[reload]\nwatch = \"off\"";
        let keys = ["manifests", "cache", "state", "admin", "admin-token", "log-format", "keyvalue", "http", "reload"];
        check(held, &[], &keys);
    }
}
