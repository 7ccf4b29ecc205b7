//! Settings: a raw mirror of the file, and the checked form that everything else uses.
//!
//! Precedence: command line, then file, then built-in defaults. Nothing is bound before all of it is
//! valid, and an unknown key is an error: a typing mistake must not silently mean the default.
//!
//! `unifiedpush-gateway.example.toml` documents every key; a test holds it and the code together.

mod address;
mod check;
mod checked;
mod load;
mod log;
mod raw;
mod source;
mod wake;
mod xmpp;

#[cfg(test)]
mod tests;

pub use checked::{
    Acme, AnonymousPublish, AutopushConfig, Certificate, Config, ConfigError, LimitsConfig, MissingTtl,
    MqttConfig, NtfyConfig, Overrides, PublicConfig, Tls, WakeConfig, WebConfig, XmppConfig,
};
