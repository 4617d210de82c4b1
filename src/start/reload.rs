//! SIGHUP and `ctl reload`: what can change while the node serves.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Node, access, settings};
use crate::config::{self, Options};

/// Sets the log level; the error says what is wrong with it.
pub type LogLevel = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

impl Node {
    /// Reads the configuration, rules and certificates again and applies what can be applied. What is broken stays
    /// as it was, and is named.
    pub fn reload(&self) -> Value {
        let options: Options = self.loaded.lock().options.clone();
        let mut errors: Vec<String> = Vec::new();
        let (mut now, mut restart) = (Vec::new(), Vec::new());
        match config::load(&options) {
            Ok(fresh) => {
                let changes = config::diff(&self.loaded.lock(), &fresh);
                (now, restart) = (changes.now, changes.restart);
                match access::sources(&fresh, self.broker.kept()) {
                    Ok(sources) => self
                        .broker
                        .acl()
                        .replace(settings::acl(&fresh.config), sources),
                    Err(problems) => {
                        now.retain(|key| !key.starts_with("acl."));
                        errors.push(config::ConfigErrors(problems).to_string());
                    }
                }
                match access::chain(&fresh, &self.hashing, self.broker.kept()) {
                    Ok(chain) => self.broker.auth().replace(
                        settings::auth(&fresh.config),
                        chain.links,
                        chain.methods,
                    ),
                    // Half a chain could let in whom the missing half refuses.
                    Err(problems) => {
                        now.retain(|key| !key.starts_with("auth."));
                        errors.push(config::ConfigErrors(problems).to_string());
                    }
                }
                if let Err(error) = self.set_log_level(&fresh.config.log.level) {
                    errors.push(format!("log.level: {error}"));
                }
                let mqtt = settings::mqtt(&fresh.config, &fresh.config.mqtt);
                self.broker
                    .set_settings(mqtt, settings::retained(&fresh.config));
                self.broker.limits().set(settings::limits(&fresh.config));
                let running = self.listeners.status();
                for listener in settings::listeners(&fresh.config) {
                    let name = listener.full_name();
                    if let Some(found) = running.iter().find(|it| *it.name == *name) {
                        let fresh: Arc<_> = listener.mqtt.settings.load_full();
                        found.state.settings().mqtt.settings.store(fresh);
                    }
                }
                let sensors = self.sensors.status();
                for change in super::sensors::changeable(&fresh.config) {
                    if let Some(found) = sensors.iter().find(|it| *it.name == *change.name) {
                        let settings = found.gateway.settings();
                        settings.predefined.store(Arc::new(change.predefined));
                        settings.mqtt.store(Arc::new(change.mqtt));
                    }
                }
                *self.loaded.lock() = fresh;
            }
            Err(error) => errors.push(error.to_string()),
        }
        let (certificates, failed) = self.listeners.reload_certificates();
        errors.extend(failed.iter().map(ToString::to_string));
        for error in &errors {
            tracing::error!("reload: {error}; what was in force stays");
        }
        tracing::info!(applied = ?now, needs_restart = ?restart, "configuration read again");
        let certificates: Vec<&str> = certificates.iter().map(|name| &**name).collect();
        json!({ "applied": now, "needs_restart": restart, "certificates": certificates, "errors": errors })
    }
}
